//! Where an instance's links and counters are pinned, and what lies there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ipfilter_ebpf::abi;
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{error::Error, hook::Hook};
use crate::instance::{BPFFS, Instance};

/// An instance's directory on the BPF file system.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    directory: PathBuf,
}

impl Pins {
    pub(super) fn of(instance: &Instance) -> Self {
        Self {
            directory: instance.pins(),
        }
    }

    /// Makes the directory, and mounts the BPF file system where it isn't.
    pub(super) fn create(&self) -> Result<(), Error> {
        let mounted = statfs(BPFFS).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC);
        if !mounted {
            let none: Option<&str> = None;
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)
                .map_err(|errno| Error::io(format!("can't mount the BPF file system on `{BPFFS}`"), errno.into()))?;
        }
        fs::create_dir_all(&self.directory)
            .map_err(|error| Error::io(format!("can't create `{}`", self.directory.display()), error))
    }

    /// The counters. Their layout is part of the ABI, and so its version is part of their name.
    pub(super) fn counters(&self) -> PathBuf {
        self.directory.join(format!("counters_v{}", abi::VERSION))
    }

    /// The link to the interface with this number. Names won't do: an interface can be renamed, and
    /// the file system takes no dots.
    pub(super) fn link(&self, ifindex: u32, hook: Hook) -> PathBuf {
        self.directory.join(format!("link_{ifindex}_{}", hook.name()))
    }

    /// The pinned links.
    pub(super) fn links(&self) -> Result<Vec<LinkPin>, Error> {
        let mut links: Vec<_> = self
            .entries()?
            .into_iter()
            .filter_map(LinkPin::from_path)
            .collect();
        links.sort_unstable();
        Ok(links)
    }

    /// Unpins everything: what is attached by a link that nobody else holds comes off.
    pub(super) fn remove(&self) -> Result<(), Error> {
        for path in self.entries()? {
            unpin(&path)?;
        }
        match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(
                format!("can't remove `{}`", self.directory.display()),
                error,
            )),
            _ => Ok(()),
        }
    }

    fn entries(&self) -> Result<Vec<PathBuf>, Error> {
        let failed = |error| Error::io(format!("can't list `{}`", self.directory.display()), error);
        match fs::read_dir(&self.directory) {
            Ok(entries) => entries
                .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
                .collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkPin {
    pub(super) path: PathBuf,
    pub(super) hook: Hook,
}

impl LinkPin {
    fn from_path(path: PathBuf) -> Option<Self> {
        let (_, hook) = path.file_name()?.to_str()?.strip_prefix("link_")?.split_once('_')?;
        let hook = hook.parse().ok()?;
        Some(Self { path, hook })
    }
}

/// Removes one pin. A link that nobody holds open is detached by that.
pub(super) fn unpin(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).map_err(|error| Error::io(format!("can't unpin `{}`", path.display()), error))
}
