//! An instance: one filter on this host, apart from any other by its name.
//!
//! Knows where an instance keeps its pins, its state and its lock, and nothing of what is in them.

use std::{
    env,
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, anyhow, bail};

/// Where the BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The name of a filter on this host; `default` unless the operator says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
}

impl FromStr for Instance {
    type Err = String;

    /// The BPF file system refuses dots in names, and the name becomes a file name there.
    fn from_str(name: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
            return Err(
                "an instance's name is 1 to 64 letters, digits, hyphens and underscores".into(),
            );
        }
        Ok(Self { name: name.into() })
    }
}

impl Instance {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where links and counters are pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new(BPFFS).join("ipfilter").join(&self.name)
    }

    /// Where what must outlive a reboot is kept: under `STATE_DIRECTORY` where systemd sets it.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.directory("STATE_DIRECTORY", "/var/lib/ipfilter")
    }

    /// Where what a reboot may forget is kept: under `RUNTIME_DIRECTORY` where systemd sets it.
    #[must_use]
    pub fn runtime(&self) -> PathBuf {
        self.directory("RUNTIME_DIRECTORY", "/run/ipfilter")
    }

    fn directory(&self, variable: &str, default: &str) -> PathBuf {
        env::var_os(variable)
            .filter(|path| !path.is_empty())
            .map_or_else(|| PathBuf::from(default), PathBuf::from)
            .join(&self.name)
    }

    /// Takes the instance for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// Names the process that has it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        self.take("lock", |pid| {
            format!(
                "instance `{}` is already run by process {pid}; stop it, or choose another `--instance`",
                self.name
            )
        })
    }

    /// Takes the instance's events for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// Names the process that has them.
    pub fn lock_events(&self) -> anyhow::Result<Lock> {
        self.take("events", |pid| {
            format!(
                "the events of instance `{}` already go to process {pid}, and each goes to one only; stop it first",
                self.name
            )
        })
    }

    fn take(&self, name: &str, taken: impl Fn(String) -> String) -> anyhow::Result<Lock> {
        let mut file = self.open_lock(name)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).context("can't write the lock file")?;
                file.rewind().context("can't write the lock file")?;
                write!(file, "{}", std::process::id()).context("can't write the lock file")?;
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let pid = read_pid(&mut file).map_or_else(|| "?".into(), |pid| pid.to_string());
                bail!(taken(pid))
            }
            Err(TryLockError::Error(error)) => Err(error).context("can't lock the lock file"),
        }
    }

    /// The process that has the instance, if one has.
    ///
    /// # Errors
    ///
    /// When the lock file can't be read.
    pub fn owner(&self) -> anyhow::Result<Option<u32>> {
        let path = self.runtime().join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("can't open `{}`", path.display()));
            }
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => read_pid(&mut file)
                .map(Some)
                .ok_or_else(|| anyhow!("`{}` is locked but names no process", path.display())),
            Err(TryLockError::Error(error)) => Err(error).context("can't look at the lock file"),
        }
    }

    fn open_lock(&self, name: &str) -> anyhow::Result<File> {
        let directory = self.runtime();
        let path = directory.join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("can't create `{}`", directory.display()))?;
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("can't open `{}`", path.display()))
    }
}

/// Held by the one process that runs an instance, or follows its events.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_file_name_are_refused() {
        for name in ["", ".", "a/b", "a.b", "ä", &"x".repeat(65)] {
            assert!(name.parse::<Instance>().is_err(), "{name}");
        }
        assert!("edge-1_b".parse::<Instance>().is_ok());
    }
}
