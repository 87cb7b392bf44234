//! Root file systems to run programs in with chroot(2): Debian's releases, and an empty one. They see this machine's
//! kernel and a network namespace, and nothing of its files.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    need_root,
    netns::Namespace,
    process::output,
    target_dir, tool,
    vm::{
        cache::{Part, Scratch},
        mirror::Suite,
    },
};

/// Mounts what programs expect, for one process and its children, and becomes the program.
const ENTER: &str = r#"
root=$1
bpf=$2
shift 2
mount -t proc proc "$root/proc" &&
mount -t sysfs sysfs "$root/sys" &&
mount --bind "$bpf" "$root/sys/fs/bpf" &&
mount --bind /dev "$root/dev" &&
exec chroot "$root" "$@"
"#;

/// Where those are mounted.
const MOUNT_POINTS: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// A root, which goes away with its owner.
#[derive(Debug)]
pub struct Root {
    folder: Scratch,
    /// Where a BPF file system is mounted that all its programs see, and nobody else.
    pins: Scratch,
}

impl Root {
    /// One without any file.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn empty() -> Result<Self> {
        let folder = Scratch::in_folder(&target_dir()?.join("roots"))?;
        for point in MOUNT_POINTS {
            fs::create_dir(folder.path().join(point))?;
        }
        Self::around(folder)
    }

    fn around(folder: Scratch) -> Result<Self> {
        let pins = Scratch::in_folder(&target_dir()?.join("roots"))?;
        let mut mount = Command::new(tool("mount", "mount")?);
        output(mount.args(["-t", "bpf", "bpf"]).arg(pins.path()))?;
        Ok(Self { folder, pins })
    }

    /// A release of Debian's with what every system has, made with mmdebstrap unless it was before, and kept below
    /// `target`; this is a copy.
    ///
    /// # Errors
    /// [`crate::Refused`] without root or mmdebstrap; when no mirror has the release.
    pub fn debian(suite: &str) -> Result<Self> {
        need_root("making a root with Debian")?;
        let kept = target_dir()?.join("roots").join(suite);
        if !kept.exists() {
            eprintln!("making a root with Debian `{suite}`, to be kept below `target`");
            let part = Part::new(&kept)?;
            let lists = Scratch::in_folder(&target_dir()?.join("roots"))?;
            let suite = Suite::open(suite, lists.path())?;
            suite.bootstrap(&[], part.path())?;
            part.finish()?;
        }
        let folder = Scratch::in_folder(&target_dir()?.join("roots"))?;
        let mut copy = Command::new(tool("cp", "coreutils")?);
        copy.args(["--archive", "--reflink=auto", "--no-target-directory"]);
        output(copy.arg(kept).arg(folder.path()))?;
        Self::around(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Copies a file of this machine into it.
    ///
    /// # Errors
    /// When that fails.
    pub fn put(&self, from: &Path, to: &str) -> Result<PathBuf> {
        let file = self.path().join(to.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap_or(self.path()))?;
        fs::copy(from, &file).with_context(|| format!("can't copy `{}`", from.display()))?;
        Ok(file)
    }

    /// A command that runs `program` of this root in a network namespace. The process that is started becomes the
    /// program.
    ///
    /// # Errors
    /// [`crate::Refused`] without util-linux.
    pub fn command(&self, namespace: &Namespace, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = namespace.command(tool("unshare", "util-linux")?);
        command
            .args(["--mount", "--propagation=private", "--"])
            .args(["sh", "-c", ENTER, "sh"])
            .arg(self.path())
            .arg(self.pins.path())
            .arg(program);
        Ok(command)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let unmounted = tool("umount", "mount")
            .map_err(anyhow::Error::from)
            .and_then(|umount| output(Command::new(umount).arg(self.pins.path())));
        if let Err(error) = unmounted {
            eprintln!("cleaning up: {error:#}");
        }
    }
}
