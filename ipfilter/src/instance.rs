//! An instance: one filter on this host, apart from any other by its name.
//!
//! Knows where an instance keeps its pins and its state, and nothing of what is in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

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

    /// The names of the other instances on this host that have something pinned, sorted.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let folder = Path::new(BPFFS).join("ipfilter");
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| *name != self.name).collect();
        names.sort_unstable();
        names
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
