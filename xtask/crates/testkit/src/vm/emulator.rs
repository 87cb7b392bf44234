//! QEMU: the installed one, or else Debian's, fetched, unpacked and kept. It is never installed.
//!
//! Installing it can cost the machine other packages: QEMU's tools from another release, say. So it
//! comes as onto a machine with nothing on it, with every library down to the C library, and runs
//! with these alone; what is installed, removed or upgraded here makes no difference to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use super::{
    cache::Part,
    mirror::{Suite, unpack},
    need_x86_64,
};
use crate::{Architecture, process::output, target_dir, tool};

/// Any release will do; this is the one that the system images are of, too.
const SUITE: &str = "bookworm";

/// What is kept of all the packages: QEMU, its firmware and its modules, and libraries. Not the
/// rest, in which there are programs that run as root whoever starts them.
const KEPT: [&str; 3] = ["lib", "usr/lib", "usr/share/qemu"];

/// Firmware that is kept where a package of it came along.
const FIRMWARE: &str = "usr/share/seabios";

/// Where the release has its libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];

/// What starts programs with libraries of their own, in the first folder of [`LIBRARIES`].
const LOADER: &str = "ld-linux-x86-64.so.2";

/// QEMU on this machine's disk, to boot VMs with.
#[derive(Debug, Clone)]
pub struct Emulator {
    pub(super) architecture: Architecture,
    program: PathBuf,
    /// Those that come before QEMU's own.
    arguments: Vec<String>,
}

impl Emulator {
    /// The installed one, or the kept one, which is fetched through the machine's own apt mirror
    /// unless it was before. To get a newer one, remove its folder in `target/vm`.
    ///
    /// # Errors
    /// [`crate::Refused`] where VMs can't be booted or there is no apt; when no mirror has it.
    pub fn fetch(architecture: Architecture) -> Result<Self> {
        // Two at once would take the folder away from each other.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        need_x86_64()?;
        if let Ok(program) = tool(name(architecture), package(architecture)) {
            return Ok(Self {
                architecture,
                program,
                arguments: Vec::new(),
            });
        }
        let home = target_dir()?.join("vm").join(name(architecture));
        let kept = Self::kept(architecture, &home);
        if fs::read_to_string(home.join("stamp")).is_ok_and(|there| there == SUITE)
            && kept.start().is_ok()
        {
            return Ok(kept);
        }
        eprintln!("fetching QEMU of Debian `{SUITE}`, to be kept below `target`");
        gather(architecture, &home).with_context(|| {
            format!(
                "can't get QEMU of Debian `{SUITE}`; one that is installed will do, such as that \
                 of package `{}`",
                package(architecture)
            )
        })?;
        Ok(kept)
    }

    /// The one that is in the folder `home`.
    fn kept(architecture: Architecture, home: &Path) -> Self {
        let libraries = LIBRARIES.map(|folder| home.join(folder).display().to_string());
        let program = home.join("usr/bin").join(name(architecture));
        let arguments = [
            // This machine's libraries are for its own C library.
            "--inhibit-cache",
            "--library-path",
            &libraries.join(":"),
            &program.display().to_string(),
        ];
        Self {
            architecture,
            program: home.join("usr/bin").join(LOADER),
            arguments: arguments.map(str::to_owned).into(),
        }
    }

    /// To add QEMU's arguments to.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }

    /// Starts it once, to see whether it does.
    fn start(&self) -> Result<()> {
        output(self.command().arg("--version"))?;
        Ok(())
    }
}

fn name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "qemu-system-x86_64",
        Architecture::Arm64 => "qemu-system-aarch64",
    }
}

fn package(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::X86_64 => "qemu-system-x86",
        Architecture::Arm64 => "qemu-system-arm",
    }
}

fn gather(architecture: Architecture, home: &Path) -> Result<()> {
    let part = Part::new(home)?;
    let apt = part.path().join("apt");
    let unpacked = part.path().join("unpacked");
    for package in Suite::open(SUITE, &apt)?.download_whole(package(architecture))? {
        unpack(&package, &unpacked)?;
    }
    keep(architecture, &unpacked, part.path())?;
    for folder in [apt, unpacked] {
        fs::remove_dir_all(folder)?;
    }
    Emulator::kept(architecture, part.path()).start()?;
    fs::write(part.path().join("stamp"), SUITE)?;
    part.finish()
}

fn keep(architecture: Architecture, unpacked: &Path, home: &Path) -> Result<()> {
    for folder in ["usr/bin", "usr/share"] {
        fs::create_dir_all(home.join(folder))?;
    }
    let program = Path::new("usr/bin").join(name(architecture));
    for path in KEPT.map(Path::new).iter().chain([&program.as_path()]) {
        fs::rename(unpacked.join(path), home.join(path))
            .with_context(|| format!("the packages lack `{}`", path.display()))?;
    }
    if unpacked.join(FIRMWARE).exists() {
        fs::rename(unpacked.join(FIRMWARE), home.join(FIRMWARE))?;
    }
    // QEMU looks for its firmware and its modules from the folder of the program that was started,
    // which is the loader.
    let loader = home.join(LIBRARIES[0]).join(LOADER);
    fs::hard_link(loader, home.join("usr/bin").join(LOADER))
        .with_context(|| format!("the packages lack `{LOADER}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::shown;

    #[test]
    fn the_kept_one_runs_with_its_own_libraries_only() {
        let command = Emulator::kept(Architecture::X86_64, Path::new("/kept")).command();
        assert_eq!(command.get_program(), "/kept/usr/bin/ld-linux-x86-64.so.2");
        assert_eq!(
            shown(&command),
            "ld-linux-x86-64.so.2 --inhibit-cache --library-path \
             /kept/lib/x86_64-linux-gnu:/kept/usr/lib/x86_64-linux-gnu \
             /kept/usr/bin/qemu-system-x86_64"
        );
    }

    #[test]
    fn one_that_does_not_start_is_told_apart() {
        let nowhere = Emulator::kept(Architecture::Arm64, Path::new("/nowhere"));
        assert!(nowhere.start().is_err());
        let installed = |program: &str| Emulator {
            architecture: Architecture::X86_64,
            program: program.into(),
            arguments: Vec::new(),
        };
        assert!(installed("/bin/false").start().is_err());
        assert!(installed("/bin/echo").start().is_ok());
    }
}
