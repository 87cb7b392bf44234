//! One process runs an instance at a time.
//!
//! The lock is the kernel's ("flock(2)"), and so is the answer to who holds it (`/proc/locks`): it
//! names a process for as long as that process holds the lock, and no longer. A running daemon holds
//! a second lock on the directory of its pins, which all daemons of the instance share whatever
//! their runtime directories are.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
            net::UnixStream,
        },
    },
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    fs::{OFlags, major, minor},
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal},
};

use crate::{instance::Instance, kernel::Filter};

/// How long a process that holds the lock may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_millis(20);

/// The file of the lock of whoever runs the instance.
const LOCK: &str = "lock";

/// Held by the one process that runs an instance, or follows its events.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    instance: Instance,
    /// The directory of the pins, locked too once it is there.
    pins: Option<File>,
}

/// The lock, or the process that holds it; none if that can't be found out.
type Taken = Result<Lock, Option<u32>>;

impl Instance {
    /// Takes the instance for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// Names the process that has it.
    pub fn lock(&self) -> anyhow::Result<Lock> {
        match self.take(LOCK)? {
            Ok(mut lock) => {
                lock.claim_pins()?;
                Ok(lock)
            }
            Err(holder) => bail!(
                "instance `{}` is already run by {}; stop it, or choose another `--instance`",
                self.name(),
                describe(holder)
            ),
        }
    }

    /// Takes the instance's events for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// Names the process that has them.
    pub fn lock_events(&self) -> anyhow::Result<Lock> {
        self.take("events")?.or_else(|holder| {
            bail!(
                "the events of instance `{}` already go to {}, and each goes to one only; stop it first",
                self.name(),
                describe(holder)
            )
        })
    }

    /// Takes the instance for this process, and has a daemon that runs it end first (SIGTERM).
    /// Waits for commands that hold the lock for a moment.
    ///
    /// # Errors
    ///
    /// Names the process that has it and does not end.
    pub fn take_over(&self) -> anyhow::Result<Lock> {
        let start = Instant::now();
        let mut stopped = None;
        loop {
            let holder = match self.take(LOCK)? {
                Ok(mut lock) => {
                    lock.claim_pins()?;
                    return Ok(lock);
                }
                Err(holder) => holder,
            };
            if let Some(pid) = holder.filter(|pid| stopped != Some(*pid) && self.is_daemon(*pid)) {
                self.stop(pid)?;
                stopped = Some(pid);
            }
            if start.elapsed() > PATIENCE {
                bail!(
                    "{} runs instance `{}` and does not end; end it, then try again",
                    describe(holder),
                    self.name()
                );
            }
            sleep(PAUSE);
        }
    }

    /// The process that has the instance, if one has.
    ///
    /// # Errors
    ///
    /// When the lock file can't be looked at.
    pub fn owner(&self) -> anyhow::Result<Option<u32>> {
        let path = self.runtime().join(LOCK);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(holder(metadata.dev(), metadata.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can't look at `{}`", path.display())),
        }
    }

    /// Whether a process runs the instance and can be asked. Waits for commands that hold the lock for a
    /// moment, and for a process that starts.
    ///
    /// # Errors
    ///
    /// When the lock file can't be looked at.
    pub fn is_run(&self) -> anyhow::Result<bool> {
        let start = Instant::now();
        while let Some(pid) = self.owner()? {
            if self.is_daemon(pid) || start.elapsed() > PATIENCE {
                return Ok(true);
            }
            sleep(PAUSE);
        }
        Ok(false)
    }

    /// Whether the process with this id listens at the instance's control socket, and is this user's.
    fn is_daemon(&self, pid: u32) -> bool {
        let socket = self.runtime().join("control");
        let peer = UnixStream::connect(socket)
            .and_then(|stream| socket_peercred(&stream).map_err(Into::into));
        peer.is_ok_and(|peer| {
            peer.uid == geteuid() && peer.pid.as_raw_nonzero().get().cast_unsigned() == pid
        })
    }

    /// Has the process that holds the lock end. A number that has become another process's is not
    /// signalled: the lock is looked at once the process can no longer be mistaken.
    fn stop(&self, pid: u32) -> anyhow::Result<()> {
        let failed = || format!("can't stop process {pid}");
        let Some(target) = Pid::from_raw(pid.cast_signed()) else {
            return Ok(());
        };
        let process = match pidfd_open(target, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            opened => opened.with_context(failed)?,
        };
        if self.owner()? != Some(pid) {
            return Ok(());
        }
        match pidfd_send_signal(process, Signal::TERM) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.with_context(failed),
        }
    }

    fn take(&self, name: &str) -> anyhow::Result<Taken> {
        let mut file = self.open_lock(name)?;
        match file.try_lock() {
            Ok(()) => {
                // For people; programs ask the kernel.
                let written = file
                    .set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()));
                written.context("can't write the lock file")?;
                Ok(Ok(Lock {
                    _file: file,
                    instance: self.clone(),
                    pins: None,
                }))
            }
            Err(TryLockError::WouldBlock) => Ok(Err(holder_of(&file))),
            Err(TryLockError::Error(error)) => Err(error).context("can't lock the lock file"),
        }
    }

    fn open_lock(&self, name: &str) -> anyhow::Result<File> {
        let directory = self.runtime();
        secure_directory(&directory)?;
        let path = directory.join(name);
        let failed = || format!("can't open `{}`", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path)
            .with_context(failed)?;
        let metadata = file.metadata().with_context(failed)?;
        ensure!(
            metadata.is_file() && metadata.uid() == geteuid().as_raw(),
            "`{}` is not this user's own file: remove it, then try again",
            path.display()
        );
        if metadata.mode() & 0o177 != 0 {
            let own = fs::Permissions::from_mode(0o600);
            file.set_permissions(own).with_context(failed)?;
        }
        Ok(file)
    }
}

impl Lock {
    /// The instance that is locked.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// Takes the pins for this process too, where there are any: a process with another runtime
    /// directory has another lock, and the same pins.
    ///
    /// # Errors
    ///
    /// Names the process that has them.
    pub fn claim_pins(&mut self) -> anyhow::Result<()> {
        let failed = || format!("can't open `{}`", self.instance.pins().display());
        let Some(directory) = Filter::of(&self.instance).open_directory()? else {
            return Ok(());
        };
        let now = directory.metadata().with_context(failed)?;
        let held = self.pins.as_ref().and_then(|held| held.metadata().ok());
        if held.is_some_and(|held| (held.dev(), held.ino()) == (now.dev(), now.ino())) {
            return Ok(());
        }
        match directory.try_lock() {
            Ok(()) => self.pins = Some(directory),
            Err(TryLockError::WouldBlock) => bail!(
                "the pins of instance `{}` are those of {}, which has another runtime directory \
                 (`RUNTIME_DIRECTORY`); stop it, or choose another `--instance`",
                self.instance.name(),
                describe(holder_of(&directory))
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        Ok(())
    }
}

/// Makes a directory that is this user's alone, or sees to it that it is.
fn secure_directory(path: &Path) -> anyhow::Result<()> {
    let failed = || format!("can't create `{}`", path.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(failed)?;
    let metadata = fs::symlink_metadata(path).with_context(failed)?;
    ensure!(
        metadata.is_dir() && metadata.uid() == geteuid().as_raw(),
        "`{}` is not this user's own directory: remove it, or set `RUNTIME_DIRECTORY`",
        path.display()
    );
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).with_context(failed)?;
    }
    Ok(())
}

fn describe(holder: Option<u32>) -> String {
    holder.map_or_else(
        || "a process that can't be seen from here".to_owned(),
        |pid| format!("process {pid}"),
    )
}

fn holder_of(file: &File) -> Option<u32> {
    // A lock that is just being given up has no holder any more: then nobody is named.
    let stat = rustix::fs::fstat(file.as_fd()).ok()?;
    holder(stat.st_dev, stat.st_ino)
}

/// The process that holds a lock on the file with this device and number.
fn holder(device: u64, number: u64) -> Option<u32> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_among(&locks, device, number)
}

/// As [`holder`], from the lines of `/proc/locks`. Some file systems have another device there than
/// "stat(2)" says: then the number decides, if only one lock has it.
fn holder_among(locks: &str, device: u64, number: u64) -> Option<u32> {
    let alike: Vec<(u32, bool)> = locks
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (kind, _, mode) = (words.next()?, words.next()?, words.next()?);
            let (pid, file) = (words.next()?.parse().ok()?, words.next()?);
            let mut parts = file.split(':');
            let hex = |text: &str| u32::from_str_radix(text, 16).ok();
            let (high, low) = (hex(parts.next()?)?, hex(parts.next()?)?);
            let same_number = parts.next()?.parse() == Ok(number);
            let same_device = (high, low) == (major(device), minor(device));
            (kind == "FLOCK" && mode == "WRITE" && same_number).then_some((pid, same_device))
        })
        .collect();
    let exact = alike.iter().find(|(_, same_device)| *same_device);
    let holder = exact.or(match alike.as_slice() {
        [only] => Some(only),
        _ => None,
    });
    holder.map(|(pid, _)| *pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_the_holder_of_a_lock() {
        let path = std::env::temp_dir().join(format!("ipfilter-lock-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert_eq!(holder_of(&file), None);
        file.try_lock().unwrap();
        assert_eq!(holder_of(&file), Some(std::process::id()));
        file.unlock().unwrap();
        assert_eq!(holder_of(&file), None);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn waiters_readers_and_other_files_hold_nothing() {
        let locks = "1: FLOCK  ADVISORY  WRITE 10193 00:27:53859 0 EOF\n\
                     1: -> FLOCK  ADVISORY  WRITE 11 00:27:53859 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 00:27:7 0 EOF\n\
                     3: POSIX  ADVISORY  WRITE 13 00:27:8 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 00:28:9 0 EOF\n\
                     5: FLOCK  ADVISORY  WRITE 15 00:29:9 0 EOF\n";
        let device = rustix::fs::makedev(0, 0x27);
        for (number, holder) in [(53859, Some(10193)), (7, None), (8, None), (9, None)] {
            assert_eq!(holder_among(locks, device, number), holder, "{number}");
        }
        let other = rustix::fs::makedev(0, 0x29);
        assert_eq!(holder_among(locks, other, 9), Some(15));
        assert_eq!(
            holder_among(locks, other, 53859),
            Some(10193),
            "the only one"
        );
    }
}
