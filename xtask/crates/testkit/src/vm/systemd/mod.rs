//! A machine with Debian 12 that systemd boots: to see units start, stop, and survive reboots and
//! power cuts.
//!
//! [`System`] is one machine with a disk of its own; [`System::boot`] is one time that it is on.

mod image;

use std::{path::PathBuf, process::Command, time::Duration};

use anyhow::Result;

use super::{
    Emulator, MODULES, Nic, Output, base,
    cache::Scratch,
    kernel::{Kernel, Series},
    qemu::Machine,
};
use crate::{
    Architecture,
    process::{Interrupt, output},
    tool,
};

/// The programs that it takes beside [`super::TOOLS`]: name and Debian package.
pub const TOOLS: &[(&str, &str)] = &[("mmdebstrap", "mmdebstrap"), ("mkfs.ext4", "e2fsprogs")];

/// What the kernel needs for the disk, and systemd for its automounts.
const DISK_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "ext4",
    "autofs4",
];

/// A machine that is off. Its disk goes away with it.
#[derive(Debug)]
pub struct System {
    /// What to boot it with.
    pub emulator: Emulator,
    /// Debian 12's own.
    pub kernel: Kernel,
    /// Network cards, `eth0` and so on in this order, on one hub.
    pub nics: Vec<Nic>,
    /// In MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// Ends a boot when a signal has arrived.
    pub interrupt: Option<Interrupt>,
    folder: Scratch,
}

/// What happens while the machine is on.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Copied to the disk before systemd starts, and there from then on: files and folders of this
    /// machine, and their paths there, in which no folder is a link (`/usr/bin`, not `/bin`).
    pub files: Vec<(PathBuf, PathBuf)>,
    /// For `/bin/sh`, as root, when `multi-user.target` has been reached; the machine switches off
    /// when it ends. `systemctl is-system-running --wait` may be called.
    pub script: String,
    /// How long it may be on.
    pub timeout: Duration,
    /// Pull the plug when the script has ended, instead of shutting down.
    pub power_cut: bool,
}

impl Boot {
    /// Runs `script` and shuts down; two minutes at most.
    #[must_use]
    pub fn new(script: impl Into<String>) -> Self {
        Self {
            files: Vec::new(),
            script: script.into(),
            timeout: Duration::from_secs(120),
            power_cut: false,
        }
    }
}

impl System {
    /// A machine with a fresh disk, one processor and 768 MiB, without network cards.
    ///
    /// # Errors
    /// [`crate::Refused`] where root or a tool is missing for the first one; when packages can't be
    /// fetched.
    pub fn new() -> Result<Self> {
        let emulator = Emulator::fetch(Architecture::X86_64)?;
        let kernel = Series::V6_1.fetch(Architecture::X86_64)?;
        let image = image::fetch()?;
        let folder = Scratch::new()?;
        let mut copy = Command::new(tool("cp", "coreutils")?);
        copy.args(["--sparse=always", "--reflink=auto"]);
        output(copy.arg(image).arg(folder.path().join("disk")))?;
        Ok(Self {
            emulator,
            kernel,
            nics: Vec::new(),
            memory: 768,
            cpus: 1,
            interrupt: None,
            folder,
        })
    }

    /// Switches it on, and waits until it is off again. What was on the disk is there still.
    ///
    /// The exit code is the script's; 125 when systemd could not be reached, 126 when the script
    /// was killed, which a reboot that it asks for itself does.
    ///
    /// # Errors
    /// As [`super::Vm::run`].
    pub fn boot(&mut self, boot: &Boot) -> Result<Output> {
        let initramfs = self.folder.path().join("initramfs");
        self.tree(boot)?.write(&initramfs)?;
        let scratch = Scratch::new()?;
        Machine {
            emulator: &self.emulator,
            image: &self.kernel.image,
            initramfs: &initramfs,
            // What systemd starts and stops is part of the console's output.
            settings: "loglevel=4 systemd.show_status=1",
            disk: Some(&self.folder.path().join("disk")),
            nics: &self.nics,
            memory: self.memory,
            cpus: self.cpus,
            timeout: boot.timeout,
            interrupt: self.interrupt.as_ref(),
            cut: boot.power_cut,
        }
        .run(scratch.path())
    }

    fn tree(&self, boot: &Boot) -> Result<super::Tree> {
        let drivers = self.nics.iter().flat_map(|nic| nic.modules());
        let modules: Vec<&str> = DISK_MODULES
            .iter()
            .chain(MODULES)
            .chain(drivers)
            .copied()
            .collect();
        let mut tree = base(&self.kernel, &modules)?;
        tree.folder("/vm/files");
        tree.text("/init", include_str!("init.sh"), 0o755);
        tree.text("/vm/script", &boot.script, 0o644);
        tree.text("/vm/report", include_str!("report.sh"), 0o644);
        let unit = include_str!("vm-script.service");
        tree.text("/vm/vm-script.service", unit, 0o644);
        for (from, to) in &boot.files {
            let below = to.strip_prefix("/").unwrap_or(to);
            tree.copy(from, &PathBuf::from("/vm/files").join(below))?;
        }
        Ok(tree)
    }
}
