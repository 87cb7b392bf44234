//! The BPF file system that pins are kept on, and the directories on it.
//!
//! A pin lasts as long as the file system it is on. One that is mounted in a mount namespace of its
//! own (`ip netns exec`, a container) ends with that namespace, and the filter with it. So pins go to
//! the host's: through this namespace where it shows it, else by way of the host's namespace.

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
};

use log::{info, warn};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fchmod, fstat, mkdirat, open, openat, statat, statfs},
    io::{Errno, dup2},
    mount::{MountFlags, mount},
};

use super::{error::Error, sys};
use crate::{
    instance::{BPFFS, DIRECTORY},
    namespace::{self, Kind},
};

/// For root alone: the kernel's default lets everybody write, and make what we would trust.
const OPTIONS: &CStr = c"mode=0700";

/// The host's file system, where only its own mount namespace shows it. The descriptor keeps its
/// number when the file system is mounted anew.
static HOST: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// That it is not the usual one has been said.
static REPORTED: Once = Once::new();

/// Which file system this process has at hand.
enum Reach {
    /// The one at [`BPFFS`]: this is the host's mount namespace, or the mount came from there.
    Here,
    /// That of another mount namespace, which is the host's.
    Host(File),
    /// The one at [`BPFFS`], or none: whether it outlives this process's surroundings can't be told.
    Unknown,
}

/// The path by which this process reaches the file system. Mounts nothing.
pub(super) fn root() -> PathBuf {
    let Reach::Host(namespace) = reach() else {
        return BPFFS.into();
    };
    // A file system that can't be reached is reported where it is needed.
    let host = sys::in_mount_namespace(
        &namespace,
        || {
            if is_mounted() { opened().ok() } else { None }
        },
    );
    host.ok().flatten().map_or_else(|| BPFFS.into(), adopt)
}

/// The same, where the file system must be mounted; whether it had to be.
pub(super) fn mounted_root() -> Result<(PathBuf, bool), Error> {
    match reach() {
        Reach::Here => Ok((BPFFS.into(), mount_here()?)),
        Reach::Host(namespace) => {
            let host = sys::in_mount_namespace(&namespace, || {
                let mounted = mount_here()?;
                Ok((
                    opened().map_err(|error| failed("can't open", error))?,
                    mounted,
                ))
            });
            let (host, mounted) = host.map_err(|error| private(&error.to_string()))??;
            let path = adopt(host);
            if path != Path::new(BPFFS) {
                REPORTED.call_once(|| info!("pins are kept on the host's BPF file system: this mount namespace is private"));
            }
            Ok((path, mounted))
        }
        Reach::Unknown if is_mounted() || namespace::is_container() => {
            let mounted = mount_here()?;
            REPORTED.call_once(|| warn!(
                "can't tell from here whether the BPF file system on `{BPFFS}` is the host's: if it is \
                 not, the filter ends with this container or mount namespace; {}",
                advice()
            ));
            Ok((BPFFS.into(), mounted))
        }
        Reach::Unknown => Err(private("the host's is out of sight")),
    }
}

fn advice() -> &'static str {
    if namespace::is_container() {
        "give the container the host's (`--volume /sys/fs/bpf:/sys/fs/bpf`)"
    } else {
        "run it in the host's mount namespace (`nsenter --net=…` instead of `ip netns exec`)"
    }
}

fn private(why: &str) -> Error {
    Error::Refused(format!(
        "the filter would end with this container or mount namespace, as a BPF file system mounted \
         here would, and {why}: {}",
        advice()
    ))
}

fn reach() -> Reach {
    if !namespace::is_container() && Kind::Mount.is_host_visible() {
        let host = Kind::Mount.apart().and_then(|_| Kind::Mount.open_host());
        return host.map_or(Reach::Here, Reach::Host);
    }
    if is_inherited() {
        Reach::Here
    } else {
        Reach::Unknown
    }
}

/// Whether the mount at [`BPFFS`] came from another mount namespace, and is shared with it
/// ("mount_namespaces(7)").
fn is_inherited() -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    is_inherited_in(&mounts)
}

fn is_inherited_in(mounts: &str) -> bool {
    let at = |line: &&str| line.split(' ').nth(4) == Some(BPFFS);
    // The last one hides those before.
    mounts.lines().rfind(at).is_some_and(|line| {
        let mut options = line.split(' ').skip(6).take_while(|word| *word != "-");
        let is_peer = |word: &str| word.starts_with("shared:") || word.starts_with("master:");
        options.any(is_peer) && line.contains(" - bpf ")
    })
}

fn is_mounted() -> bool {
    statfs(BPFFS).is_ok_and(|stat| stat.f_type == libc::BPF_FS_MAGIC)
}

/// Mounts the file system where it isn't; whether it had to.
fn mount_here() -> Result<bool, Error> {
    if is_mounted() {
        return Ok(false);
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", BPFFS, "bpf", flags, OPTIONS)
        .map_err(|error| failed("can't mount the BPF file system on", error))?;
    Ok(true)
}

fn opened() -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(BPFFS, flags, Mode::empty())
}

/// The path by which the host's file system is reached from here: the usual one, if that is the same.
fn adopt(host: OwnedFd) -> PathBuf {
    let device = |fd: &OwnedFd| fstat(fd).map(|stat| stat.st_dev);
    let same = opened().is_ok_and(|here| device(&here) == device(&host));
    if same {
        return BPFFS.into();
    }
    let mut held = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    match &mut *held {
        // Should this fail, the old one is as good as it was.
        Some(before) => drop(dup2(&host, before)),
        None => *held = Some(host),
    }
    let number = held.as_ref().map_or(-1, OwnedFd::as_raw_fd);
    format!("/proc/self/fd/{number}").into()
}

/// `path` as others know it.
pub(super) fn shown(path: &Path) -> PathBuf {
    match path.strip_prefix("/proc/self/fd") {
        Ok(rest) => Path::new(BPFFS).join(rest.components().skip(1).collect::<PathBuf>()),
        Err(_) => path.to_owned(),
    }
}

/// The directory called `key` among the instances' directories, opened; made if `make` says so, else
/// none if it is not there. Whoever could write to one of the directories on the way could remove pins,
/// and the filter with them: all are root's alone.
pub(super) fn directory(root: &Path, key: &str, make: bool) -> Result<Option<OwnedFd>, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = match open(root, flags, Mode::empty()) {
        Err(Errno::NOENT) if !make => return Ok(None),
        opened => opened.map_err(|error| failed("can't open", error))?,
    };
    if !make && !is_bpffs(&at) {
        return Ok(None);
    }
    check(&at, Path::new(BPFFS), Mode::SVTX)?;
    let mut path = PathBuf::from(BPFFS);
    for name in [DIRECTORY, key] {
        path.push(name);
        let Some(next) = step(&at, name, &path, make)? else {
            return Ok(None);
        };
        check(&next, &path, Mode::empty())?;
        at = next;
    }
    Ok(Some(at))
}

fn is_bpffs(directory: &OwnedFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|stat| stat.f_type == libc::BPF_FS_MAGIC)
}

/// Opens a directory in another one, and makes it before if need be.
fn step(at: &OwnedFd, name: &str, path: &Path, make: bool) -> Result<Option<OwnedFd>, Error> {
    let failed = |what: &str, error: Errno| {
        Error::io(format!("can't {what} `{}`", path.display()), error.into())
    };
    if make {
        match mkdirat(at, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("create", error)),
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(at, name, flags, Mode::empty()) {
        Ok(next) => Ok(Some(next)),
        Err(Errno::NOENT) if !make => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            let link = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
            let what = if link {
                "a symbolic link"
            } else {
                "no directory"
            };
            Err(untrusted(path, what))
        }
        Err(error) => Err(failed("open", error)),
    }
}

/// Refuses a directory that others than root can change. With `sticky`, others may add to it, but
/// remove nothing.
fn check(directory: &OwnedFd, path: &Path, sticky: Mode) -> Result<(), Error> {
    let failed =
        |error: Errno| Error::io(format!("can't look at `{}`", path.display()), error.into());
    let stat = fstat(directory).map_err(failed)?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    if stat.st_uid != 0 {
        return Err(untrusted(path, &format!("user {}'s", stat.st_uid)));
    }
    if mode.intersects(Mode::WGRP | Mode::WOTH) && !mode.intersects(sticky) {
        return Err(untrusted(path, "writable by others than root"));
    }
    let ours = path != Path::new(BPFFS);
    if ours && mode.intersects(Mode::RWXG | Mode::RWXO) {
        fchmod(directory, Mode::RWXU).map_err(failed)?;
    }
    Ok(())
}

fn untrusted(path: &Path, what: &str) -> Error {
    let (path, advice) = (
        path.display(),
        if path == Path::new(BPFFS) {
            "unmount"
        } else {
            "remove"
        },
    );
    Error::failed(
        format!(
            "`{path}` is {what}: others could remove the filter's pins there, and the filter with them"
        ),
        format!("{advice} it, then try again"),
    )
}

fn failed(what: &str, error: impl Into<io::Error>) -> Error {
    Error::io(format!("{what} `{BPFFS}`"), error.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_came_from_elsewhere_is_told_by_its_peers() {
        let shared = "50 23 0:39 / /sys/fs/bpf rw,relatime shared:9 - bpf bpf rw";
        let slave = "50 23 0:39 / /sys/fs/bpf rw,relatime master:9 - bpf bpf rw";
        let private = "51 23 0:40 / /sys/fs/bpf rw,relatime - bpf bpf rw";
        let other = "52 23 0:41 / /sys/fs/bpf rw,relatime shared:9 - tmpfs x rw";
        for (mounts, inherited) in [
            (shared.to_owned(), true),
            (slave.to_owned(), true),
            (private.to_owned(), false),
            (other.to_owned(), false),
            (format!("{shared}\n{private}"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_inherited_in(&mounts), inherited, "{mounts}");
        }
    }

    #[test]
    fn paths_through_a_descriptor_are_shown_as_others_know_them() {
        for (path, other) in [
            ("/proc/self/fd/7/ipfilter/a", "/sys/fs/bpf/ipfilter/a"),
            ("/sys/fs/bpf/ipfilter/a", "/sys/fs/bpf/ipfilter/a"),
        ] {
            assert_eq!(shown(Path::new(path)), Path::new(other));
        }
    }
}
