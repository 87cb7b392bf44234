//! Debian packages of any release, from the mirror that this machine's apt uses: only fetched and
//! unpacked, never installed.
//!
//! The machine's apt configuration says where the mirror is, how to reach it and which keys to
//! trust; package lists and downloads go into a folder of their own. Knows nothing of kernels.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process::output, tool};

/// Names a mirror to try before those of the machine's apt, such as `https://mirror.example/debian`.
const MIRROR: &str = "IPFILTER_DEBIAN_MIRROR";

/// Parts of the machine's configuration that this folder answers itself, or that would act on the
/// machine: hooks run after an update, around an installation or around dpkg.
const REPLACED: &[&str] = &[
    "APT::Architecture",
    "APT::Default-Release ",
    "APT::Sandbox::User ",
    "APT::Update",
    "Acquire::Languages",
    "AptCli",
    "DPkg",
    "Dir::Cache",
    "Dir::Etc ",
    "Dir::Etc::main",
    "Dir::Etc::parts",
    "Dir::Etc::preferences",
    "Dir::Etc::source",
    "Dir::Etc::trusted",
    "Dir::State",
];

/// The packages of one Debian release, such as `bookworm`.
#[derive(Debug)]
pub struct Suite {
    name: String,
    folder: PathBuf,
    repository: String,
    /// What the mirror calls it there.
    suite: String,
}

impl Suite {
    /// Fetches the package lists of the release `name` for x86-64 into `folder`.
    ///
    /// # Errors
    /// When no mirror that this machine knows has it.
    pub fn open(name: &str, folder: &Path) -> Result<Self> {
        Self::with(name, "amd64", None, folder)
    }

    /// As [`Suite::open`], for the architecture that Debian calls by this name; if a package is `wanted`, as `name`
    /// or `name=version`, from the first mirror that has it.
    ///
    /// # Errors
    /// When no mirror that this machine knows has it.
    pub fn with(
        name: &str,
        architecture: &str,
        wanted: Option<&str>,
        folder: &Path,
    ) -> Result<Self> {
        configure(folder, architecture)?;
        let repositories = repositories()?;
        let mut failures = Vec::new();
        for (repository, suite) in candidates(&repositories, name) {
            let found = update(folder, architecture, &repository, &suite)
                .and_then(|()| wanted.map_or(Ok(()), |package| has(folder, package)));
            match found {
                Ok(()) => {
                    return Ok(Self {
                        name: name.to_owned(),
                        folder: folder.to_owned(),
                        repository,
                        suite,
                    });
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        let wanted = wanted.map_or(String::new(), |package| format!(" with `{package}`"));
        bail!(
            "no mirror gives the packages of Debian `{name}` for {architecture}{wanted}; set `{MIRROR}` to the \
             address of one that does; tried:\n{}",
            failures.join("\n")
        )
    }

    /// Makes a root of the smallest Debian with these packages besides, in an empty folder.
    ///
    /// # Errors
    /// When the mirror or mmdebstrap fails, or that is not installed.
    pub(crate) fn bootstrap(&self, packages: &[&str], root: &Path) -> Result<()> {
        let mut command = Command::new(tool("mmdebstrap", "mmdebstrap")?);
        command.args(["--quiet", "--mode=root", "--format=directory"]);
        command.args(["--architectures=amd64", "--variant=minbase"]);
        if !packages.is_empty() {
            command.arg(format!("--include={}", packages.join(",")));
        }
        for setting in self.access()? {
            command.arg(format!("--aptopt={setting}"));
        }
        // Should this machine die half way, it is made anew.
        command.arg("--dpkgopt=force-unsafe-io");
        for unread in ["doc", "man", "locale", "info"] {
            command.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
        }
        let keys = self.folder.join("keys");
        command.arg(format!("--keyring={}", keys.display()));
        command.arg(&self.name).arg(root);
        command.arg(format!("deb {} {} main", self.repository, self.suite));
        output(&mut command)?;
        Ok(())
    }

    /// The machine's settings for reaching mirrors: proxies, time limits and the like.
    fn access(&self) -> Result<Vec<String>> {
        let settings = fs::read_to_string(configuration(&self.folder))?;
        let lines = settings
            .lines()
            .filter(|line| line.starts_with("Acquire::"));
        Ok(lines.map(str::to_owned).collect())
    }

    /// The names that `package` depends on directly, alternatives left out.
    ///
    /// # Errors
    /// When the release has no such package.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let mut command = apt("apt-cache", &self.folder)?;
        let shown = output(command.args(["show", "--no-all-versions", package]))
            .with_context(|| format!("Debian `{}` has no package `{package}`", self.name))?;
        Ok(depends(&shown))
    }

    /// Fetches packages; the files are in `folder` afterwards, and nothing else is.
    ///
    /// # Errors
    /// When one does not exist, or the mirror fails.
    pub fn download(&self, packages: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        fs::create_dir_all(folder)?;
        let mut command = apt("apt-get", &self.folder)?;
        command
            .args(["download", "--quiet"])
            .args(packages)
            .current_dir(folder);
        output(&mut command)
            .with_context(|| format!("can't fetch packages of Debian `{}`", self.name))?;
        let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
        files.collect()
    }

    /// Fetches a package and everything that it depends on, down to the C library. The files are in
    /// this release's folder, and go with it.
    ///
    /// # Errors
    /// When one does not exist, or the mirror fails.
    pub fn download_whole(&self, package: &str) -> Result<Vec<PathBuf>> {
        let mut command = apt("apt-get", &self.folder)?;
        // To apt, this is a machine with nothing on it: neither what is installed here nor what
        // would be in the way of it counts.
        command.args(["install", "--download-only", "--yes", "--quiet"]);
        command.args(["--no-install-recommends", "--no-install-suggests", package]);
        output(&mut command).with_context(|| {
            format!(
                "can't fetch `{package}` and what it needs from Debian `{}`",
                self.name
            )
        })?;
        let files = fs::read_dir(self.folder.join("cache/archives"))?;
        let mut files: Vec<PathBuf> = files
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        // Apt's lock is there, too, and a folder for what is half fetched.
        files.retain(|file| file.extension().is_some_and(|end| end == "deb"));
        Ok(files)
    }
}

/// Unpacks a package file into `folder`; nothing in it is run.
///
/// # Errors
/// When it is damaged or the folder can't be written.
pub fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut command = Command::new(tool("dpkg-deb", "dpkg")?);
    output(command.arg("--extract").arg(package).arg(folder))?;
    Ok(())
}

fn configuration(folder: &Path) -> PathBuf {
    folder.join("apt.conf")
}

fn apt(program: &str, folder: &Path) -> Result<Command> {
    let mut command = Command::new(tool(program, "apt")?);
    command
        .env("APT_CONFIG", configuration(folder))
        .env("LC_ALL", "C");
    Ok(command)
}

fn configure(folder: &Path, architecture: &str) -> Result<()> {
    for part in ["state/lists/partial", "cache/archives/partial", "empty"] {
        fs::create_dir_all(folder.join(part))
            .with_context(|| format!("can't make `{}`", folder.display()))?;
    }
    fs::write(folder.join("state/status"), "")?;
    trust(&folder.join("keys"))?;
    let machine = output(Command::new(tool("apt-config", "apt")?).arg("dump"))?;
    let own = own_settings(folder, architecture);
    fs::write(configuration(folder), kept(&machine) + &own)?;
    Ok(())
}

/// Those of the machine's settings that hold here too.
fn kept(machine: &str) -> String {
    machine
        .lines()
        .filter(|line| !REPLACED.iter().any(|name| line.starts_with(name)))
        .flat_map(|line| [line, "\n"])
        .collect()
}

fn own_settings(folder: &Path, architecture: &str) -> String {
    let at = |name: &str| folder.join(name).display().to_string();
    let settings = [
        ("APT::Architecture", architecture.to_owned()),
        ("APT::Architectures::", architecture.to_owned()),
        ("Dir::State", at("state")),
        ("Dir::State::status", at("state/status")),
        ("Dir::Cache", at("cache")),
        ("Dir::Etc::main", at("empty/apt.conf")),
        ("Dir::Etc::parts", at("empty")),
        ("Dir::Etc::preferences", at("empty/preferences")),
        ("Dir::Etc::preferencesparts", at("empty")),
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", at("empty")),
        ("Dir::Etc::trusted", at("empty/trusted.gpg")),
        ("Dir::Etc::trustedparts", at("keys")),
        // Everything is in a folder of the user's that apt's own user may not be able to enter.
        ("APT::Sandbox::User", "root".to_owned()),
        // A list that can't be fetched is a failure, not a warning.
        ("APT::Update::Error-Mode", "any".to_owned()),
        ("Acquire::Languages", "none".to_owned()),
    ];
    settings
        .iter()
        .map(|(name, value)| format!("{name} \"{value}\";\n"))
        .collect()
}

/// Gathers the keys that this machine trusts for Debian: apt's own, those its sources name, and
/// those of the package `debian-archive-keyring`, which also has older and newer releases' keys.
fn trust(keys: &Path) -> Result<()> {
    if keys.exists() {
        fs::remove_dir_all(keys)?;
    }
    fs::create_dir_all(keys)?;
    let mut files: BTreeSet<PathBuf> = files_in("/etc/apt/trusted.gpg.d").collect();
    files.extend(files_in("/usr/share/keyrings").filter(|file| {
        file.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("debian-archive-"))
    }));
    let sources =
        files_in("/etc/apt/sources.list.d").chain([PathBuf::from("/etc/apt/sources.list")]);
    for text in sources.filter_map(|file| fs::read_to_string(file).ok()) {
        files.extend(signed_by(&text));
    }
    for (number, file) in files.iter().enumerate() {
        if let Some(name) = file.file_name() {
            symlink(file, keys.join(format!("{number}-{}", name.display())))?;
        }
    }
    Ok(())
}

fn files_in(folder: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
}

/// The key files named in a list of sources, in either of its two formats.
fn signed_by(sources: &str) -> Vec<PathBuf> {
    sources
        .split_ascii_whitespace()
        .filter_map(|word| {
            let word = word.trim_matches(['[', ']']);
            let file = word.strip_prefix("signed-by=").unwrap_or(word);
            file.starts_with("/").then(|| PathBuf::from(file))
        })
        .filter(|file| file.is_file())
        .collect()
}

/// The addresses of the repositories that this machine's apt uses, each once, in its order.
fn repositories() -> Result<Vec<String>> {
    let mut command = Command::new(tool("apt-get", "apt")?);
    // Without release information it answers before any list was fetched, too.
    let lines = output(command.args([
        "indextargets",
        "--no-release-info",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let named = env::var(MIRROR).ok();
    let mut found: Vec<String> = Vec::new();
    for line in named.iter().map(String::as_str).chain(lines.lines()) {
        let line = line.trim_end_matches('/');
        if !line.is_empty() && !found.iter().any(|known| known == line) {
            found.push(line.to_owned());
        }
    }
    Ok(found)
}

/// Where the release may be: its main part in any repository, then the part with security updates,
/// which outlives it on mirrors.
fn candidates(repositories: &[String], name: &str) -> Vec<(String, String)> {
    [String::new(), "-security".to_owned()]
        .iter()
        .flat_map(|part| {
            repositories
                .iter()
                .map(move |repository| (repository.clone(), format!("{name}{part}")))
        })
        .collect()
}

fn update(folder: &Path, architecture: &str, repository: &str, suite: &str) -> Result<()> {
    let source = format!("deb [target=Packages arch={architecture}] {repository} {suite} main\n");
    fs::write(folder.join("sources.list"), source)?;
    output(apt("apt-get", folder)?.args(["update", "--quiet"]))?;
    Ok(())
}

/// # Errors
/// When the lists fetched last have no such package, or not in this version.
fn has(folder: &Path, package: &str) -> Result<()> {
    let mut command = apt("apt-cache", folder)?;
    // For a version that there is not it says nothing, and succeeds.
    let said = output(command.args(["show", package]))?;
    ensure!(said.contains("Package: "), "there is no `{package}`");
    Ok(())
}

/// The names in the field `Depends`, where there is no choice.
fn depends(shown: &str) -> Vec<String> {
    shown
        .lines()
        .find_map(|line| line.strip_prefix("Depends: "))
        .unwrap_or_default()
        .split(", ")
        .filter(|item| !item.contains('|'))
        .filter_map(|item| item.split([' ', ':']).next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_hooks_and_folders_are_left_behind_and_its_proxy_is_not() {
        let machine = "APT::Update::Post-Invoke:: \"rm -f x\";\nDir::State \"var/lib/apt\";\n\
                       AptCli::Hooks::Install:: \"z\";\n\
                       Acquire::http::Proxy \"http://proxy.example\";\nDir::Etc::netrc \"auth.conf\";\n\
                       DPkg::Pre-Install-Pkgs:: \"y\";\nDir::Etc::parts \"apt.conf.d\";\n";
        assert_eq!(
            kept(machine),
            "Acquire::http::Proxy \"http://proxy.example\";\nDir::Etc::netrc \"auth.conf\";\n"
        );
    }

    #[test]
    fn dependencies_are_names_without_versions_and_choices() {
        let shown = "Package: a\nPre-Depends: z\nDepends: linux-base (>= 4.3~), kmod:any, x | y\n";
        assert_eq!(depends(shown), ["linux-base", "kmod"]);
        assert!(depends("Package: a\n").is_empty());
    }

    #[test]
    fn key_files_are_found_in_both_formats_of_sources() {
        let file = env::current_exe().unwrap();
        let file = file.display();
        for text in [
            format!("Types: deb\nSigned-By: {file}\n"),
            format!("deb [arch=amd64 signed-by={file}] http://mirror.example x main\n"),
        ] {
            assert_eq!(signed_by(&text).len(), 1, "{text}");
        }
        assert!(signed_by("Signed-By: /nowhere/key.gpg").is_empty());
    }

    #[test]
    fn security_updates_are_the_last_resort() {
        let found = candidates(&["http://a".to_owned(), "http://b".to_owned()], "bullseye");
        let suites: Vec<&str> = found.iter().map(|(_, suite)| suite.as_str()).collect();
        assert_eq!(
            suites,
            [
                "bullseye",
                "bullseye",
                "bullseye-security",
                "bullseye-security"
            ]
        );
    }
}
