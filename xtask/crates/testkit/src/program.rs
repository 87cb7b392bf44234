//! Programs that tests talk to and this machine need not have: taken from Debian's packages and kept below
//! `target`, never installed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{
    target_dir,
    vm::{
        cache::Part,
        mirror::{Suite, unpack},
    },
};

/// Any release will do; this is the one that the system images are of, too.
const SUITE: &str = "bookworm";

/// A program of Debian's.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its path in its package.
    path: &'static str,
    /// Its package, and those of the libraries that few machines have.
    packages: &'static [&'static str],
}

/// Prometheus's checker of metrics and rules.
pub const PROMTOOL: Program = Program {
    path: "usr/bin/promtool",
    packages: &["prometheus"],
};

/// The proxies that the authorization service is tried with.
pub const NGINX: Program = Program {
    path: "usr/sbin/nginx",
    packages: &["nginx"],
};
/// See [`NGINX`].
pub const CADDY: Program = Program {
    path: "usr/bin/caddy",
    packages: &["caddy"],
};
/// See [`NGINX`].
pub const HAPROXY: Program = Program {
    path: "usr/sbin/haproxy",
    packages: &[
        "haproxy",
        "liblua5.3-0",
        "libopentracing-c-wrapper0",
        "libopentracing1",
    ],
};

impl Program {
    /// Fetches all that are not installed.
    ///
    /// # Errors
    /// As [`Program::command`].
    pub fn fetch_all() -> Result<()> {
        for program in [PROMTOOL, NGINX, CADDY, HAPROXY] {
            program.command()?;
        }
        Ok(())
    }

    /// Runs it: as installed, or else fetched and kept below `target`.
    ///
    /// # Errors
    /// When no mirror that this machine knows has it.
    pub fn command(self) -> Result<Command> {
        if let Some(installed) = self.installed() {
            return Ok(Command::new(installed));
        }
        let home = self.fetched()?;
        let mut command = Command::new(home.join(self.name()));
        let libraries = home.join("lib");
        if libraries.exists() {
            let folders = fs::read_dir(libraries)?.map(|entry| Ok(entry?.path()));
            let folders = folders.collect::<Result<Vec<_>>>()?;
            command.env("LD_LIBRARY_PATH", env::join_paths(folders)?);
        }
        Ok(command)
    }

    fn name(self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or(self.path)
    }

    fn package(self) -> &'static str {
        self.packages.first().copied().unwrap_or_default()
    }

    fn installed(self) -> Option<PathBuf> {
        crate::tool(self.name(), self.package()).ok()
    }

    /// The folder that it is kept in.
    fn fetched(self) -> Result<PathBuf> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = self.name();
        let home = target_dir()?.join("tools").join(name);
        if !home.join(name).exists() {
            eprintln!("fetching `{name}` of Debian `{SUITE}`, to be kept below `target`");
            self.fetch(&home).with_context(|| {
                format!(
                    "can't get `{name}`: run `apt-get install {}`",
                    self.package()
                )
            })?;
        }
        Ok(home)
    }

    /// Packages have much else besides: only the program is kept, and the libraries that are asked for.
    fn fetch(self, home: &Path) -> Result<()> {
        let part = Part::new(home)?;
        let suite = Suite::open(SUITE, &part.path().join("apt"))?;
        let packages = part.path().join("packages");
        let unpacked = part.path().join("unpacked");
        let names: Vec<String> = self.packages.iter().map(ToString::to_string).collect();
        for package in suite.download(&names, &packages)? {
            unpack(&package, &unpacked)?;
        }
        fs::rename(unpacked.join(self.path), part.path().join(self.name()))?;
        if self.packages.len() > 1 {
            fs::rename(unpacked.join("usr/lib"), part.path().join("lib"))?;
        }
        for folder in ["apt", "packages", "unpacked"] {
            fs::remove_dir_all(part.path().join(folder))?;
        }
        part.finish()
    }
}
