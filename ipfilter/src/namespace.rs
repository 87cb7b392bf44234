//! Which namespaces this process is in, compared with the host's ("namespaces(7)").
//!
//! Knows processes and namespaces, and nothing of what is kept in them.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
};

/// Where iproute2 keeps the names of network namespaces.
const NAMES: &str = "/run/netns";

/// The inode of the first PID namespace (`PROC_PID_INIT_INO` of `linux/proc_ns.h`).
const FIRST_PIDS: u64 = 0xEFFF_FFFC;

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Mounts.
    Mount,
    /// Interfaces, addresses, routes.
    Network,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
        }
    }

    /// The inode of this thread's namespace of this kind, if it is not the host's. Where the host's
    /// can't be looked at, as from a hardened service, this one is taken for it.
    pub(crate) fn apart(self) -> Option<u64> {
        let own = own(self).ok()?;
        let host = fs::metadata(self.host()?).ok()?;
        (!same(&own, &host)).then_some(own.ino())
    }

    /// The host's namespace of this kind, opened; none if it can't be looked at.
    pub(crate) fn open_host(self) -> Option<File> {
        File::open(self.host()?).ok()
    }

    /// Whether the host's namespace of this kind can be looked at.
    pub(crate) fn is_host_visible(self) -> bool {
        self.host().is_some()
    }

    /// The file of the host's namespace: that of the first process, or else of the kernel's threads. Either
    /// may be invisible, because of its privileges or ours.
    fn host(self) -> Option<PathBuf> {
        let file = |pid: u32| PathBuf::from(format!("/proc/{pid}/ns/{}", self.name()));
        let kernel = || fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n");
        let first = Some(file(1)).filter(|path| fs::metadata(path).is_ok());
        first.or_else(|| Some(file(2)).filter(|path| kernel() && fs::metadata(path).is_ok()))
    }
}

fn own(kind: Kind) -> io::Result<Metadata> {
    fs::metadata(format!("/proc/thread-self/ns/{}", kind.name()))
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether this process has process numbers of its own, as in a container: then the first process is
/// the container's, and the host's namespaces can't be told.
pub(crate) fn is_container() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|pids| pids.ino() != FIRST_PIDS)
}

/// A network namespace as a person finds it again: by the name that iproute2 gave it, and its inode.
pub(crate) fn describe(inode: u64) -> String {
    match name_of(inode) {
        Some(name) => format!("network namespace `{name}` ({inode})"),
        None => format!("network namespace {inode}"),
    }
}

fn name_of(inode: u64) -> Option<String> {
    let entries = fs::read_dir(NAMES).ok()?;
    let mut named = entries.flatten().filter(|entry| {
        let metadata = fs::metadata(entry.path());
        metadata.is_ok_and(|metadata| metadata.ino() == inode)
    });
    named.next()?.file_name().into_string().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_the_hosts_namespaces_or_knows_that_it_is_not() {
        for kind in [Kind::Mount, Kind::Network] {
            let own = own(kind).unwrap().ino();
            assert!(kind.apart().is_none_or(|inode| inode == own), "{kind:?}");
        }
        assert_eq!(describe(1), "network namespace 1");
    }
}
