//! Virtual machines to run programs in, on kernels other than this machine's: Debian's, booted by
//! QEMU in software emulation. A boot takes seconds, and neither root nor a network is needed.
//!
//! [`Vm`] is a VM without a disk that runs one script; [`systemd::System`] has a disk with Debian.
//!
//! Nothing here knows what `ipfilter` is: which programs to run is up to the caller.

pub mod cache;
mod compressed;
mod emulator;
mod initramfs;
mod kernel;
pub mod mirror;
mod modules;
mod qemu;
pub mod systemd;
mod userland;

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use self::{cache::Scratch, initramfs::Tree, qemu::Machine};
pub use self::{
    emulator::Emulator,
    kernel::{Kernel, Series},
};
use crate::{Architecture, Refused, process::Interrupt};

/// The programs outside Rust's own tools that VMs need, beside the [`Emulator`]: name and Debian
/// package.
pub const TOOLS: &[(&str, &str)] = &[
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("ldd", "libc-bin"),
    ("dpkg-deb", "dpkg"),
];

/// Modules loaded in every VM: links to make, and what classifiers need.
const MODULES: &[&str] = &["veth", "dummy", "8021q", "sch_ingress", "cls_bpf"];

/// A network card that QEMU emulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Nic {
    /// Virtio. Its driver has native XDP, before Linux 5.13 only with more queues than processors,
    /// which this card has not.
    Virtio,
    /// Intel 82574L, whose driver has no native XDP.
    E1000e,
    /// VMware's; its driver has native XDP since Linux 6.6.
    Vmxnet3,
}

impl Nic {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Virtio, Self::E1000e, Self::Vmxnet3];

    /// What it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// Whether machines of this kind have such a card, and Debian's kernel for them its driver.
    #[must_use]
    pub fn is_on(self, architecture: Architecture) -> bool {
        architecture == Architecture::X86_64 || self == Self::Virtio
    }

    /// What QEMU calls it.
    fn model(self) -> &'static str {
        match self {
            Self::Virtio => "virtio-net-pci",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// Its driver, as sysfs has it.
    #[must_use]
    pub fn driver(self) -> &'static str {
        match self {
            Self::Virtio => "virtio_net",
            Self::E1000e => "e1000e",
            Self::Vmxnet3 => "vmxnet3",
        }
    }

    /// The modules of its driver.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Virtio => &["virtio_pci", "virtio_net"],
            Self::E1000e => &["e1000e"],
            Self::Vmxnet3 => &["vmxnet3"],
        }
    }
}

/// A VM that runs one script as root and switches off. Its file tree is in memory: a shell,
/// busybox for the usual commands, and whatever it is given.
///
/// Mounted are proc, sysfs, devtmpfs, devpts, bpffs and cgroup2; loopback is up.
#[derive(Debug, Clone)]
pub struct Vm {
    /// What to boot it with.
    pub emulator: Emulator,
    /// What to boot.
    pub kernel: Kernel,
    /// Network cards, `eth0` and so on in this order. Those of a kind hang on one hub, with nobody
    /// else.
    pub nics: Vec<Nic>,
    /// In MiB; the files given take their part of it.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// Programs of this machine, by absolute path: in the VM at the same path, with their
    /// libraries. For another architecture, programs that are linked statically; `sh`, `ip`, `nsenter` and `curl` are
    /// there.
    pub programs: Vec<PathBuf>,
    /// Other files and folders: where they are here, and where to put them there.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// For this machine's `/bin/sh`, in the folder `/root`; programs given come before busybox's.
    pub script: String,
    /// How long the VM may take from power on to power off.
    pub timeout: Duration,
    /// Ends the VM when a signal has arrived.
    pub interrupt: Option<Interrupt>,
}

impl Vm {
    /// A VM with one processor, 768 MiB and two minutes, without network cards.
    #[must_use]
    pub fn new(emulator: Emulator, kernel: Kernel, script: impl Into<String>) -> Self {
        Self {
            emulator,
            kernel,
            nics: Vec::new(),
            memory: 768,
            cpus: 1,
            programs: Vec::new(),
            files: Vec::new(),
            script: script.into(),
            timeout: Duration::from_secs(120),
            interrupt: None,
        }
    }

    /// Boots it, and waits for its end.
    ///
    /// # Errors
    /// When a file is missing; when the VM does not come up or is not done in time. The message
    /// has the last of what it printed. That the script fails is not an error.
    pub fn run(&self) -> Result<Output> {
        let scratch = Scratch::new()?;
        let initramfs = scratch.path().join("initramfs");
        self.tree()?.write(&initramfs)?;
        Machine {
            emulator: &self.emulator,
            image: &self.kernel.image,
            initramfs: &initramfs,
            settings: "quiet",
            disk: None,
            nics: &self.nics,
            memory: self.memory,
            cpus: self.cpus,
            timeout: self.timeout,
            interrupt: self.interrupt.as_ref(),
            cut: false,
        }
        .run(scratch.path())
    }

    fn tree(&self) -> Result<Tree> {
        let mut tree = base(&self.kernel, &self.module_names())?;
        tree.text("/init", include_str!("init.sh"), 0o755);
        tree.text("/vm/script", &self.script, 0o644);
        for program in &self.programs {
            if self.kernel.userland.is_some() {
                // Of another architecture, so linked statically: this machine's linker could not tell with what.
                tree.copy(program, program)?;
            } else {
                tree.program(program)?;
            }
        }
        for (from, to) in &self.files {
            tree.copy(from, to)?;
        }
        Ok(tree)
    }

    fn module_names(&self) -> Vec<&'static str> {
        let drivers = self.nics.iter().flat_map(|nic| nic.modules());
        MODULES.iter().chain(drivers).copied().collect()
    }
}

/// # Errors
/// [`Refused`] where a VM's programs, which are this machine's own, would not run in it.
fn need_x86_64() -> Result<(), Refused> {
    if env::consts::ARCH == "x86_64" {
        return Ok(());
    }
    Err(Refused("VMs are booted on x86-64 only".to_owned()))
}

/// What every VM starts with: a shell, mount points, modules to load in order.
fn base(kernel: &Kernel, modules: &[&str]) -> Result<Tree> {
    let mut tree = Tree::default();
    for folder in [
        "/proc",
        "/sys",
        "/dev",
        "/run",
        "/tmp",
        "/root",
        "/var/lib",
        "/vm/modules",
    ] {
        tree.folder(folder);
    }
    tree.copy(&kernel.busybox, Path::new("/bin/busybox"))?;
    // Busybox's own shell would take its own `ip` and the like before programs in PATH.
    match &kernel.userland {
        Some(userland) => tree.copy(userland, Path::new("/"))?,
        None => tree.program(Path::new("/bin/sh"))?,
    }
    tree.text("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644);
    tree.text("/etc/group", "root:x:0:\n", 0o644);
    tree.text("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n", 0o644);
    for (number, module) in kernel.modules(modules)?.iter().enumerate() {
        let name = module.file_name().unwrap_or_default().display();
        tree.copy(
            module,
            Path::new(&format!("/vm/modules/{number:02}-{name}")),
        )?;
    }
    Ok(tree)
}

/// The outcome of a run.
#[derive(Debug, Clone)]
pub struct Output {
    /// The script's exit code; 125 when the VM could not be set up for it.
    pub code: i32,
    /// What the script printed on standard output and standard error.
    pub output: String,
    /// What the kernel and the boot printed.
    pub console: String,
    /// From power on to power off.
    pub elapsed: Duration,
    /// What emulating it took of this machine's processors.
    pub cpu: Duration,
}
