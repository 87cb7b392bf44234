//! An instance: one filter in one network namespace, apart from any other by its name.
//!
//! Knows where an instance keeps its pins and its state, and nothing of what is in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::namespace::{self, Kind};

/// Where the BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";

/// The directory on it that holds the instances' directories.
pub const DIRECTORY: &str = "ipfilter";

/// What separates an instance's name from its network namespace in the names of directories. No
/// instance's name has it.
pub(crate) const SEPARATOR: char = '@';

/// What filters in one network namespace: a name, `default` unless the operator says otherwise, and
/// the namespace. The host's is not mentioned anywhere; others are by their inode, which `ip netns` and
/// `lsns` show too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    name: String,
    namespace: Option<u64>,
}

impl FromStr for Instance {
    type Err = String;

    /// The instance with this name in the network namespace that this thread is in. The BPF file
    /// system refuses dots in names, and the name becomes a file name there.
    fn from_str(name: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(legal) {
            return Err(
                "an instance's name is 1 to 64 letters, digits, hyphens and underscores".into(),
            );
        }
        Ok(Self {
            name: name.into(),
            namespace: Kind::Network.apart(),
        })
    }
}

impl Instance {
    /// The one that is meant where none is named.
    #[must_use]
    pub fn unnamed() -> Self {
        Self {
            name: "default".into(),
            namespace: Kind::Network.apart(),
        }
    }

    /// All that have something pinned, in any network namespace, sorted; those of this one first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let own = Kind::Network.apart();
        let mut all: Vec<_> = pinned()
            .map(|(name, namespace)| Self { name, namespace })
            .collect();
        all.sort_by_cached_key(|one| (one.namespace != own, one.namespace, one.name.clone()));
        all
    }

    /// The network namespace that it is of, if this process is in another one.
    #[must_use]
    pub fn other_namespace(&self) -> Option<String> {
        (self.namespace != Kind::Network.apart()).then(|| described(self.namespace))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of its directories: its own in the host's network namespace, and in another one that
    /// and the namespace's inode.
    #[must_use]
    pub fn key(&self) -> String {
        match self.namespace {
            Some(inode) => format!("{}{SEPARATOR}{inode}", self.name),
            None => self.name.clone(),
        }
    }

    /// The network namespace of the instance that has this name too and these directories; none if it
    /// has another name.
    pub(crate) fn namesake(&self, key: &str) -> Option<String> {
        let (name, inode) = parts(key)?;
        (name == self.name && inode != self.namespace).then(|| described(inode))
    }

    /// Where links and counters are pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new(BPFFS).join(DIRECTORY).join(self.key())
    }

    /// The names of the other instances of this network namespace that have something pinned, sorted.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let others =
            pinned().filter(|(name, inode)| *inode == self.namespace && *name != self.name);
        let mut names: Vec<_> = others.map(|(name, _)| name).collect();
        names.sort_unstable();
        names
    }

    /// The instances of other network namespaces that have something pinned and another name, each with
    /// its namespace, sorted.
    #[must_use]
    pub fn elsewhere(&self) -> Vec<String> {
        let others =
            pinned().filter(|(name, inode)| *inode != self.namespace && *name != self.name);
        let mut names: Vec<_> = others
            .map(|(name, inode)| format!("{name} of {}", described(inode)))
            .collect();
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
            .join(self.key())
    }
}

/// The name and the network namespace of the instance that has these directories.
fn parts(key: &str) -> Option<(&str, Option<u64>)> {
    Some(match key.split_once(SEPARATOR) {
        Some((name, inode)) => (name, Some(inode.parse().ok()?)),
        None => (key, None),
    })
}

/// All instances that have something pinned.
fn pinned() -> impl Iterator<Item = (String, Option<u64>)> {
    let folder = Path::new(BPFFS).join(DIRECTORY);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let keys = entries.filter_map(|entry| entry.file_name().into_string().ok());
    keys.filter_map(|key| parts(&key).map(|(name, inode)| (name.to_owned(), inode)))
}

fn described(inode: Option<u64>) -> String {
    let host = || "the host's network namespace".to_owned();
    inode.map_or_else(host, namespace::describe)
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

    #[test]
    fn namesakes_are_told_from_others_and_from_the_instance_itself() {
        let here = Instance {
            name: "edge".into(),
            namespace: Some(7),
        };
        assert_eq!(here.key(), "edge@7");
        assert_eq!(here.namesake("edge@7"), None);
        assert_eq!(here.namesake("other@8"), None);
        assert_eq!(here.namesake("edge@8").unwrap(), "network namespace 8");
        assert_eq!(
            here.namesake("edge").unwrap(),
            "the host's network namespace"
        );
    }
}
