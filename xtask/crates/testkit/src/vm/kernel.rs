//! Debian's kernels: fetched, unpacked and kept, ready to boot.
//!
//! The general kernels, not those for clouds: only they have drivers for network cards that a
//! filter can't be attached to natively.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};

use super::{
    cache::Part,
    compressed::extract_kernel,
    mirror::{Suite, unpack},
    modules::Modules,
    need_x86_64, userland,
};
use crate::{Architecture, target_dir};

/// What VMs may load.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_net",
    "virtio_blk",
    "e1000e",
    "vmxnet3",
    "veth",
    "dummy",
    "bonding",
    "bridge",
    "macvlan",
    "8021q",
    "sch_ingress",
    "cls_bpf",
    "ext4",
    "autofs4",
    "crc32c_generic",
];

/// The kernels of Debian's releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Series {
    /// 5.10, the oldest that `ipfilter` works with: Debian 11.
    V5_10,
    /// 6.1: Debian 12.
    V6_1,
    /// 6.12: Debian 13.
    V6_12,
    /// The newest one packaged: Debian unstable.
    Newest,
}

impl Series {
    /// All of them, oldest first.
    pub const ALL: [Self; 4] = [Self::V5_10, Self::V6_1, Self::V6_12, Self::Newest];

    /// What it is called on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// What is in the folder of a kernel that was kept: it is fetched anew when this changes.
    fn stamp() -> String {
        format!("elf\n{}", MODULES.join("\n"))
    }

    /// The one with this name; that of the Debian release will do.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|series| name == series.name() || name == series.suite())
    }

    fn suite(self) -> &'static str {
        match self {
            Self::V5_10 => "bullseye",
            Self::V6_1 => "bookworm",
            Self::V6_12 => "trixie",
            Self::Newest => "sid",
        }
    }

    /// The kernel, fetched through the machine's own apt mirror unless it was before. To get a
    /// newer one, remove its folder in `target/kernels`.
    ///
    /// # Errors
    /// [`crate::Refused`] where VMs can't be booted or there is no apt; when no mirror has it.
    pub fn fetch(self, architecture: Architecture) -> Result<Kernel> {
        need_x86_64()?;
        let userland = match architecture {
            Architecture::X86_64 => None,
            Architecture::Arm64 => Some(userland::fetch(architecture)?),
        };
        let kernel = self.fetch_alone(architecture)?;
        Ok(Kernel { userland, ..kernel })
    }

    fn fetch_alone(self, architecture: Architecture) -> Result<Kernel> {
        let name = match architecture {
            Architecture::X86_64 => self.suite().to_owned(),
            Architecture::Arm64 => format!("{}-{}", self.suite(), architecture.debian()),
        };
        let home = target_dir()?.join("kernels").join(name);
        if fs::read_to_string(home.join("stamp")).is_ok_and(|there| there == Self::stamp()) {
            return Kernel::open(&home);
        }
        eprintln!(
            "fetching the kernel of Debian `{}` for {}, to be kept below `target`",
            self.suite(),
            architecture.debian()
        );
        self.gather(architecture, &home)
            .with_context(|| format!("can't get the kernel of Debian `{}`", self.suite()))?;
        Kernel::open(&home)
    }

    fn gather(self, architecture: Architecture, home: &Path) -> Result<()> {
        let part = Part::new(home)?;
        let apt = part.path().join("apt");
        let suite = Suite::with(self.suite(), architecture.debian(), None, &apt)?;
        let (release, mut packages) = packages(&suite, architecture)?;
        packages.push("busybox-static".to_owned());
        let unpacked = part.path().join("unpacked");
        for package in suite.download(&packages, &part.path().join("packages"))? {
            unpack(&package, &unpacked)?;
        }
        keep(&unpacked, &release, part.path())?;
        for folder in ["apt", "packages", "unpacked"] {
            fs::remove_dir_all(part.path().join(folder))?;
        }
        fs::write(part.path().join("stamp"), Self::stamp())?;
        part.finish()
    }
}

/// The release of the newest kernel, such as `6.1.0-50-amd64`, and the packages that are parts of
/// it: one, or in newer releases of Debian several.
fn packages(suite: &Suite, architecture: Architecture) -> Result<(String, Vec<String>)> {
    const IMAGE: &str = "linux-image-";
    let any = format!("{IMAGE}{}", architecture.debian());
    let image = suite
        .dependencies(&any)?
        .into_iter()
        .find(|name| name.starts_with(IMAGE))
        .ok_or_else(|| anyhow!("package `{any}` names no kernel"))?;
    let release = image.trim_start_matches(IMAGE).to_owned();
    let mut parts = suite.dependencies(&image)?;
    parts.retain(|name| name.starts_with("linux-") && name.ends_with(&release));
    parts.push(image);
    Ok((release, parts))
}

/// Copies what a boot needs out of the unpacked packages.
fn keep(unpacked: &Path, release: &str, home: &Path) -> Result<()> {
    let modules = [
        unpacked.join("lib/modules"),
        unpacked.join("usr/lib/modules"),
    ]
    .map(|folder| folder.join(release));
    let image = unpacked.join("boot").join(format!("vmlinuz-{release}"));
    let images = [
        image,
        modules[0].join("vmlinuz"),
        modules[1].join("vmlinuz"),
    ];
    let builtin = modules.clone().map(|folder| folder.join("modules.builtin"));
    extract_kernel(first(&images)?, &home.join("vmlinux"))?;
    copy_first(&builtin, &home.join("builtin"))?;
    let busybox = ["bin/busybox", "usr/bin/busybox"].map(|file| unpacked.join(file));
    copy_first(&busybox, &home.join("busybox"))?;
    let folder = modules.iter().find(|folder| folder.exists());
    let folder = folder.ok_or_else(|| anyhow!("kernel `{release}` came without modules"))?;
    Modules::keep(folder, MODULES, home.join("modules"))?;
    fs::write(home.join("release"), release)?;
    Ok(())
}

fn first(candidates: &[PathBuf]) -> Result<&Path> {
    let found = candidates.iter().find(|file| file.exists());
    found.map(PathBuf::as_path).ok_or_else(|| {
        let names = candidates.iter().map(|file| file.display().to_string());
        anyhow!(
            "the packages lack {}",
            names.collect::<Vec<_>>().join(" or ")
        )
    })
}

fn copy_first(candidates: &[PathBuf], to: &Path) -> Result<()> {
    let found = first(candidates)?;
    fs::copy(found, to).with_context(|| format!("can't copy `{}`", found.display()))?;
    Ok(())
}

/// A kernel on this machine's disk, to boot VMs with.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Programs for a machine that is none of this one's kind; nothing where it runs this machine's own.
    pub(super) userland: Option<PathBuf>,
    /// As `uname -r` says it in the VM.
    pub release: String,
    pub(super) image: PathBuf,
    pub(super) busybox: PathBuf,
    modules: Modules,
    builtin: String,
}

impl Kernel {
    fn open(home: &Path) -> Result<Self> {
        Ok(Self {
            userland: None,
            release: fs::read_to_string(home.join("release"))?,
            image: home.join("vmlinux"),
            busybox: home.join("busybox"),
            modules: Modules::in_folder(home.join("modules")),
            builtin: fs::read_to_string(home.join("builtin"))?,
        })
    }

    /// The module files that make `names` available, in the order to load them in.
    ///
    /// # Errors
    /// When this kernel has no such module.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        self.modules
            .in_order(names, &self.builtin)
            .with_context(|| format!("kernel `{}`", self.release))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_known_by_two_names() {
        for series in Series::ALL {
            assert_eq!(Series::from_name(series.name()), Some(series));
            assert_eq!(Series::from_name(series.suite()), Some(series));
        }
        assert_eq!(Series::from_name("2.4"), None);
    }
}
