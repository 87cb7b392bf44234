//! One pin: a link or a map that has a name on the BPF file system.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use super::{
    bpffs,
    error::Error,
    sys::{self, Kind},
};

/// A pinned link or map that this process also holds open, so that it outlives its pin.
#[derive(Debug)]
pub(super) struct Pinned {
    pub(super) path: PathBuf,
    pub(super) object: OwnedFd,
}

impl Pinned {
    /// Pins it again if its pin is gone, and returns whether it was. A link that is not attached is not
    /// pinned again.
    pub(super) fn restore(&self) -> Result<bool, Error> {
        let failed = |error| Error::io(format!("can't pin `{}`", self.shown().display()), error);
        let identity = sys::identity(&self.object).map_err(failed)?;
        match sys::open(&self.path) {
            Ok(found) if sys::identity(&found).ok() == Some(identity) => Ok(false),
            Ok(_) => Err(strange(&self.path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            Err(_) if self.is_detached_link() => Ok(false),
            Err(_) => self.pin().map(|()| true),
        }
    }

    fn is_detached_link(&self) -> bool {
        matches!(sys::identity(&self.object), Ok((Kind::Link, _)))
            && sys::link_info(&self.object).is_ok_and(|info| info.ifindex == 0)
    }

    /// Pins it.
    pub(super) fn pin(&self) -> Result<(), Error> {
        sys::pin(&self.object, &self.path)
            .map_err(|error| Error::io(format!("can't pin `{}`", self.shown().display()), error))
    }

    /// Its path as seen by other processes.
    pub(super) fn shown(&self) -> PathBuf {
        bpffs::shown(&self.path)
    }
}

/// What is pinned at `path`, opened.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |error| {
        Error::io(
            format!("can't open `{}`", bpffs::shown(path).display()),
            error,
        )
    };
    sys::open(path).map_err(failed)
}

/// The error for an object at `path` that is not what its name says.
pub(super) fn strange(path: &Path) -> Error {
    Error::failed(
        format!(
            "`{}` is not what ipfilter put there",
            bpffs::shown(path).display()
        ),
        "remove it, then try again",
    )
}

/// Removes one pin, if it is there. A link that nobody holds open is detached by that.
pub(super) fn unpin(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(
            format!("can't unpin `{}`", bpffs::shown(path).display()),
            error,
        )),
        _ => Ok(()),
    }
}
