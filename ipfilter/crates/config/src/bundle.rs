//! Gathering a configuration and the files that it names into a bundle, and reading it there.

use std::{io, path::Path};

use ipfilter_bundle::{Bundle, LARGEST, Malformed, Release};
use ipfilter_document::{problem::Findings, source::Source};

use crate::{
    Config, Reading, Service, Unusable,
    files::{self, CONFIG_LIMIT},
    fleet::Variables,
    folder::{Folder, name_within},
    read::{Origin, parse},
};

/// Why there is no bundle.
#[derive(Debug)]
pub enum NotGathered {
    /// The configuration is wrong.
    Invalid(Findings),
    /// A file can't be read, or can't be in a bundle.
    Other(String),
}

/// The configuration at `path` and the files that it names. Policies are not looked into.
///
/// # Errors
///
/// When the configuration is wrong, or one of the files can't be read or lies outside its folder.
pub fn gather(path: &Path) -> Result<Bundle, NotGathered> {
    let unread = |path: &Path| {
        let shown = files::shown(path);
        move |error: io::Error| NotGathered::Other(format!("can't read `{shown}`: {error}"))
    };
    let bytes = files::read(path, CONFIG_LIMIT).map_err(unread(path))?;
    let source = Source::new(files::shown(path), bytes.clone());
    let origin = Origin {
        path,
        folder: Folder::Disk,
        variables: Variables::Any,
        is_published: true,
    };
    let config = match parse(origin, source).into_config() {
        Ok(config) => config,
        Err(Unusable::Invalid(findings)) => return Err(NotGathered::Invalid(findings)),
        Err(Unusable::Other(why)) => return Err(NotGathered::Other(why)),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.file_name().and_then(|name| name_within(name.as_ref()));
    let name = name.ok_or_else(|| outside(path, folder))?;
    let mut gathered = vec![(name.clone(), bytes)];
    for api in &config.apis {
        for file in [Some(&api.policy), api.respond_body.as_ref()] {
            let Some(file) = file else { continue };
            let within = file.strip_prefix(folder).ok().and_then(name_within);
            let within = within.ok_or_else(|| outside(file, folder))?;
            if !gathered.iter().any(|(name, _)| *name == within) {
                let content = files::read(file, LARGEST as u64).map_err(unread(file))?;
                gathered.push((within, content));
            }
        }
    }
    Bundle::new(name, gathered).map_err(|error: Malformed| NotGathered::Other(error.to_string()))
}

fn outside(file: &Path, folder: &Path) -> NotGathered {
    NotGathered::Other(format!(
        "`{}` can't be in a bundle: the files of one lie in the folder of the configuration, `{}`, or below it, and have names \
         in UTF-8",
        files::shown(file),
        files::shown(folder)
    ))
}

/// What the configuration of a bundle says, whatever its variables stand for on a host.
#[must_use]
pub fn gathered(bundle: &Bundle) -> Reading {
    read_in(bundle, Variables::Any)
}

/// What a bundle comes to on the host with the configuration `host`: the bundle says what is filtered and how, the host
/// what the bundle's variables stand for. What the process does beside filtering is the host's to say, and the
/// bundle's where the host says nothing.
///
/// # Errors
///
/// When the bundle's configuration is wrong, on this host or on any.
pub fn received(bundle: &Bundle, release: &Release, host: &Config) -> Result<Config, Unusable> {
    let variables = host.fleet.as_ref().map_or(Variables::Any, Variables::Of);
    let mut config = read_in(bundle, variables).into_config()?;
    let folder = host.file.as_deref().and_then(Path::parent);
    let folder = folder.unwrap_or(Path::new("/"));
    if let Some(authorize) = &mut config.authorize {
        authorize.within(folder);
    }
    let own = &host.service;
    let metrics = config.service.metrics.take().map(|at| at.within(folder));
    config.service = Service {
        metrics: own.metrics.clone().or(metrics),
        watch: own.watch || config.service.watch,
        on_error: own.on_error.or(config.service.on_error),
        detach_on_exit: own.detach_on_exit || config.service.detach_on_exit,
        confirm: own.confirm.or(config.service.confirm),
    };
    config.file.clone_from(&host.file);
    config.fleet.clone_from(&host.fleet);
    config.release = Some(release.clone());
    Ok(config)
}

fn read_in(bundle: &Bundle, variables: Variables<'_>) -> Reading {
    let name = bundle.config();
    let origin = Origin {
        path: Path::new(name),
        folder: Folder::Bundle(bundle),
        variables,
        is_published: true,
    };
    let text = bundle.file(name).unwrap_or_default();
    parse(origin, Source::new(name, text))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process};

    use super::*;

    const CONFIG: &str = r#"{"interfaces": ["eth0"], "apis": [{"name": "a", "ports": [443], "deny": "respond",
        "policy": "./policies/a.json", "respond_body": "no.json"},
        {"name": "b", "ports": [444], "policy": "policies/a.json"}]}"#;

    #[test]
    fn a_bundle_holds_what_the_configuration_names_and_reads_the_same() {
        let folder = env::temp_dir().join(format!("ipfilter-gather-{}", process::id()));
        fs::create_dir_all(folder.join("policies")).unwrap();
        for (name, text) in [
            ("config.json", CONFIG),
            ("policies/a.json", "{}"),
            ("no.json", "{\"no\": 1}"),
            ("other.json", ""),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        let path = folder.join("config.json");
        let bundle = gather(&path).unwrap();
        let names: Vec<_> = bundle.files().map(|(name, _)| name).collect();
        assert_eq!(names, ["config.json", "no.json", "policies/a.json"]);
        assert_eq!(bundle.config(), "config.json");
        let read = gathered(&bundle);
        assert!(read.is_valid(), "{:?}", read.problems);
        let config = read.config();
        assert_eq!(config.apis[0].response.body(), b"{\"no\": 1}");
        let policy = Folder::Bundle(&bundle).read_policy(&config.apis[0].policy);
        assert_eq!(policy.unwrap().text(), "{}");
        for (outside, what) in [
            ("../a.json", "../a.json"),
            ("/etc/hostname", "/etc/hostname"),
            ("none.json", "can't read"),
        ] {
            fs::write(&path, CONFIG.replace("./policies/a.json", outside)).unwrap();
            let Err(NotGathered::Other(said)) = gather(&path) else {
                panic!("{outside} is gathered");
            };
            assert!(said.contains(what), "{said}");
        }
        fs::write(&path, CONFIG.replace("444", "443")).unwrap();
        assert!(matches!(gather(&path), Err(NotGathered::Invalid(_))));
        fs::remove_dir_all(&folder).unwrap();
    }

    const HOST: &str = r#"{"fleet": {"follow": "etcd://10.0.0.1/web", "interfaces": {"public": ["eth0", "bond*"]},
        "vars": {"vip": ["192.0.2.1", "2001:db8::1"]}}, "metrics": "127.0.0.1:9477"}"#;

    fn host() -> Config {
        let origin = Origin {
            path: Path::new("/etc/ipfilter/config.json"),
            folder: Folder::Disk,
            variables: Variables::None,
            is_published: false,
        };
        let read = parse(origin, Source::new("config.json", HOST));
        read.into_config().unwrap()
    }

    fn bundle(interfaces: &str, more: &str) -> Bundle {
        let config = format!(
            r#"{{"interfaces": {interfaces}, {more} "apis": [{{"name": "a", "ports": [443], "policy": "p.json"}}]}}"#
        );
        let files = [("config.json", config.as_str()), ("p.json", "{}")];
        let files = files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        Bundle::new("config.json", files).unwrap()
    }

    fn release(bundle: &Bundle) -> Release {
        Release {
            group: "web".parse().unwrap(),
            kind: ipfilter_bundle::Kind::Bundle,
            generation: 3,
            digest: bundle.digest(),
        }
    }

    #[test]
    fn variables_stand_for_what_the_host_says() {
        let host = host();
        let bundle = bundle(
            r#"["lo", "$public"]"#,
            r#""addresses": ["$vip"], "metrics": "unix:metrics.sock", "watch": true,"#,
        );
        let config = received(&bundle, &release(&bundle), &host).unwrap();
        assert_eq!(config.interfaces, ["lo", "eth0", "bond*"]);
        assert_eq!(config.addresses.len(), 2);
        let metrics = config.service.metrics.as_ref().unwrap();
        assert_eq!(metrics.to_string(), "127.0.0.1:9477");
        assert!(config.service.watch);
        assert_eq!(config.file, host.file);
        assert_eq!(config.fleet, host.fleet);
        assert_eq!(config.release.unwrap().generation, 3);
        assert!(gathered(&bundle).is_valid());
        let anywhere = gathered(&bundle).config().interfaces.clone();
        assert_eq!(anywhere, ["lo", "$public"]);
    }

    #[test]
    fn what_a_host_or_a_bundle_must_not_say_is_refused_with_its_place() {
        let host = host();
        for (bundle, said) in [
            (
                bundle(r#"["$private"]"#, ""),
                "this host does not say what `$private` stands for",
            ),
            (
                bundle(r#"["eth0"]"#, r#""addresses": ["$public"],"#),
                "`$public` stands for",
            ),
            (
                bundle(r#"["eth0"]"#, r#""fleet": {"follow": "etcd://a/b"},"#),
                "published for a group has no `fleet`",
            ),
            (
                bundle(r#"["eth0"]"#, r#""new_setting": 1,"#),
                "no field `new_setting`",
            ),
        ] {
            let Err(Unusable::Invalid(findings)) = received(&bundle, &release(&bundle), &host)
            else {
                panic!("{said}: it is taken");
            };
            let problem = &findings.problems[0];
            assert!(problem.message.contains(said), "{}", problem.message);
            assert_eq!(findings.source.name(), "config.json");
        }
    }
}
