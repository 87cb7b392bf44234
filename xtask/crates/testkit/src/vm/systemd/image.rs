//! A disk with a small Debian 12 that systemd boots: made once, kept below `target`.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    need_root,
    process::output,
    target_dir, tool,
    vm::{cache::Part, mirror::Suite},
};

const SUITE: &str = "bookworm";

/// Beside what every Debian has. No udev: nothing here needs device units, and boots are shorter.
const PACKAGES: &[&str] = &["systemd", "systemd-sysv", "ifupdown", "iproute2", "curl"];

/// Bytes; the file has holes, so that it takes what is in it.
const SIZE: u64 = 2 << 30;

/// Units that would do something by themselves that has nothing to do with what is tested.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-timesyncd.service",
];

/// The disk's file, made through the machine's own apt mirror unless it was before. To get one with
/// newer packages, remove its folder in `target/vm`.
///
/// # Errors
/// [`crate::Refused`] without root or a tool; when the mirror fails.
pub(super) fn fetch() -> Result<PathBuf> {
    let home = target_dir()?.join("vm/debian-12");
    let disk = home.join("disk");
    if fs::read_to_string(home.join("stamp")).is_ok_and(|there| there == stamp()) {
        return Ok(disk);
    }
    need_root("making a disk with Debian 12")?;
    eprintln!("making a disk with Debian 12, to be kept below `target`; about a minute");
    let part = Part::new(&home)?;
    make(part.path()).context("can't make a disk with Debian 12")?;
    part.finish()?;
    Ok(disk)
}

/// What the disk was made from.
fn stamp() -> String {
    format!("{}\n{SIZE}\n{}", PACKAGES.join(","), MASKED.join("\n"))
}

fn make(folder: &Path) -> Result<()> {
    let suite = Suite::open(SUITE, &folder.join("apt"))?;
    let root = folder.join("root");
    suite.bootstrap(PACKAGES, &root)?;
    settle(&root)?;
    let disk = folder.join("disk");
    File::create(&disk)?.set_len(SIZE)?;
    let mut mkfs = Command::new(tool("mkfs.ext4", "e2fsprogs")?);
    output(mkfs.args(["-q", "-F", "-d"]).arg(&root).arg(&disk))?;
    fs::remove_dir_all(root)?;
    fs::remove_dir_all(folder.join("apt"))?;
    fs::write(folder.join("stamp"), stamp())?;
    Ok(())
}

/// What an installer would have settled: the machine's name and identity, and what not to start.
fn settle(root: &Path) -> Result<()> {
    // Any will do; without one systemd takes every boot for the first and applies presets.
    fs::write(root.join("etc/machine-id"), format!("{:032x}\n", 12))?;
    fs::write(root.join("etc/hostname"), "vm\n")?;
    fs::write(
        root.join("etc/hosts"),
        "127.0.0.1 localhost vm\n::1 localhost\n",
    )?;
    for unit in MASKED {
        let path = root.join("etc/systemd/system").join(unit);
        if !path.is_symlink() {
            symlink("/dev/null", &path)
                .with_context(|| format!("can't make `{}`", path.display()))?;
        }
    }
    Ok(())
}
