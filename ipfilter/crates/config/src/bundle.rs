//! Gathering a configuration and the files that it names into a bundle, and reading it there.

use std::{io, path::Path};

use ipfilter_bundle::{Bundle, LARGEST, Malformed};
use ipfilter_document::{problem::Findings, source::Source};

use crate::{
    Reading, Unusable,
    files::{self, CONFIG_LIMIT},
    folder::{Folder, name_within},
    read::parse,
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
    let config = match parse(path, source, Folder::Disk).into_config() {
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

/// What the configuration of a bundle says.
#[must_use]
pub fn gathered(bundle: &Bundle) -> Reading {
    let name = bundle.config();
    let text = bundle.file(name).unwrap_or_default();
    let source = Source::new(name, text);
    parse(Path::new(name), source, Folder::Bundle(bundle))
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
}
