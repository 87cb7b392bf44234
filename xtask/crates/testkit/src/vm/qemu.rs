//! One run of QEMU, in software emulation: from its start to the VM's switching off.
//!
//! Emulation, because a VM in a VM does not work everywhere where this must.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};

use super::{Emulator, Nic, Output};
use crate::{
    Architecture,
    process::{Guard, Interrupt, TICK, cpu_time},
};

/// What QEMU is to emulate.
#[derive(Debug)]
pub(super) struct Machine<'a> {
    /// What to emulate it with.
    pub(super) emulator: &'a Emulator,
    /// The kernel's image.
    pub(super) image: &'a Path,
    /// The archive that it unpacks.
    pub(super) initramfs: &'a Path,
    /// For the kernel, beside what every VM gets.
    pub(super) settings: &'a str,
    /// A raw disk.
    pub(super) disk: Option<&'a Path>,
    /// Network cards, those of a kind on a hub of their own.
    pub(super) nics: &'a [Nic],
    /// In MiB.
    pub(super) memory: u32,
    /// Processors.
    pub(super) cpus: u32,
    /// How long it may run.
    pub(super) timeout: Duration,
    /// A signal that ends it early.
    pub(super) interrupt: Option<&'a Interrupt>,
    /// Pull the plug when the script has ended.
    pub(super) cut: bool,
}

impl Machine<'_> {
    /// Runs the VM; `scratch` is a folder for its output.
    ///
    /// # Errors
    /// When QEMU fails, on the timeout or a signal, and when the VM ended without saying how its
    /// script did. QEMU does not outlive the call.
    pub(super) fn run(&self, scratch: &Path) -> Result<Output> {
        let ports = Ports::in_folder(scratch);
        let start = Instant::now();
        let mut guard = self.start(&ports)?;
        let mut cpu = Duration::ZERO;
        let ended = self.watch(&mut guard, &ports, start, &mut cpu);
        drop(guard);
        if let Some(interrupt) = self.interrupt {
            interrupt.check()?;
        }
        ended
            .and_then(|()| ports.output(start.elapsed(), cpu))
            .map_err(|error| anyhow!("{error:#}{}", ports.last_words()))
    }

    fn start(&self, ports: &Ports) -> Result<Guard> {
        let mut command = self.emulator.command();
        command
            .args(self.arguments(ports))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&ports.complaints)?);
        if self.interrupt.is_some() {
            // Told by us, not by the terminal.
            Guard::spawn_group(&mut command)
        } else {
            Guard::spawn(&mut command)
        }
    }

    fn watch(
        &self,
        guard: &mut Guard,
        ports: &Ports,
        start: Instant,
        cpu: &mut Duration,
    ) -> Result<()> {
        while guard.ended()?.is_none() {
            // Once it has ended nobody can say any more.
            *cpu = cpu_time(guard.id()).unwrap_or(*cpu);
            if let Some(interrupt) = self.interrupt {
                interrupt.check()?;
            }
            if start.elapsed() > self.timeout {
                bail!("the VM did not end within {:?}", self.timeout);
            }
            if self.cut && ports.output(start.elapsed(), *cpu).is_ok() {
                return Ok(());
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn arguments(&self, ports: &Ports) -> Vec<String> {
        let fixed = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-accel",
            "tcg,thread=multi",
        ];
        let own = Board::of(self.emulator.architecture);
        let arguments = fixed.iter().chain(own.arguments);
        let mut arguments: Vec<String> = arguments.map(ToString::to_string).collect();
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option(
            "-append",
            format!("panic=-1 {} {}", own.settings, self.settings),
        );
        option("-m", format!("{}M", self.memory));
        option("-smp", self.cpus.to_string());
        option("-kernel", self.image.display().to_string());
        option("-initrd", self.initramfs.display().to_string());
        option("-serial", format!("file:{}", escaped(&ports.console)));
        option(
            "-chardev",
            format!("file,id=script,path={}", escaped(&ports.output)),
        );
        option("-device", own.port.to_owned());
        if let Some(disk) = self.disk {
            let file = escaped(disk);
            // The VM's flushes need not reach the disk: QEMU may die, this machine won't.
            option(
                "-drive",
                format!("file={file},format=raw,if=virtio,cache=unsafe"),
            );
        }
        for (number, nic) in self.nics.iter().enumerate() {
            let hub = *nic as u8;
            option("-netdev", format!("hubport,id=net{number},hubid={hub}"));
            option(
                "-device",
                format!("{},netdev=net{number},romfile=", nic.model()),
            );
        }
        arguments
    }
}

/// How the machines of an architecture differ.
struct Board {
    arguments: &'static [&'static str],
    /// For the kernel: which port its console is, and, in `script_port`, which the script's.
    settings: &'static str,
    /// The script's port, to QEMU.
    port: &'static str,
}

impl Board {
    fn of(architecture: Architecture) -> Self {
        match architecture {
            Architecture::X86_64 => Self {
                arguments: &["-cpu", "max"],
                // On a busy machine emulated timers come late, and Linux would take them for broken.
                settings: "console=ttyS0 script_port=ttyS1 no_timer_check",
                port: "isa-serial,chardev=script",
            },
            Architecture::Arm64 => Self {
                arguments: &["-machine", "virt", "-cpu", "cortex-a72"],
                settings: "console=ttyAMA0 script_port=ttyS0",
                port: "pci-serial,chardev=script",
            },
        }
    }
}

/// A path in one of QEMU's comma-separated options.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Where what the VM prints ends up.
struct Ports {
    console: PathBuf,
    output: PathBuf,
    complaints: PathBuf,
}

impl Ports {
    fn in_folder(folder: &Path) -> Self {
        Self {
            console: folder.join("console"),
            output: folder.join("output"),
            complaints: folder.join("complaints"),
        }
    }

    fn output(&self, elapsed: Duration, cpu: Duration) -> Result<Output> {
        let Some((output, code)) = split(&text(&self.output)) else {
            bail!("the VM ended without saying how its script did");
        };
        Ok(Output {
            code,
            output,
            console: text(&self.console),
            elapsed,
            cpu,
        })
    }

    /// The ends of everything, for a message: most of what is ours.
    fn last_words(&self) -> String {
        [
            ("QEMU", &self.complaints, 20),
            ("the kernel", &self.console, 20),
            ("the script", &self.output, 200),
        ]
        .map(|(who, file, most)| {
            let said = text(file);
            if said.trim().is_empty() {
                return String::new();
            }
            let skipped = said.lines().count().saturating_sub(most);
            let end: Vec<&str> = said.lines().skip(skipped).collect();
            format!("\nthe last that {who} said:\n{}", end.join("\n"))
        })
        .concat()
    }
}

/// What is in a file so far; serial ports end lines with both characters.
fn text(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

/// The script's output and its exit code, when the line with it has come. A process that the
/// script left behind may have written more.
fn split(said: &str) -> Option<(String, i32)> {
    let (output, code) = said.rsplit_once("\nvm-exit ")?;
    let (code, _) = code.split_once('\n')?;
    let code = code.parse().ok()?;
    Some((output.to_owned(), code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_on_the_last_line() {
        assert_eq!(split("a\nb\n\nvm-exit 3\n"), Some(("a\nb\n".to_owned(), 3)));
        assert_eq!(
            split("\nvm-exit 0\nmore\n\nvm-exit 1\n"),
            Some(("\nvm-exit 0\nmore\n".to_owned(), 1))
        );
        assert_eq!(
            split("a\n\nvm-exit 0\nleft behind"),
            Some(("a\n".to_owned(), 0))
        );
        for unfinished in [
            "",
            "a\n",
            "a\n\nvm-exit ",
            "a\n\nvm-exit 1",
            "\nvm-exit x\n",
        ] {
            assert_eq!(split(unfinished), None, "{unfinished:?}");
        }
    }

    #[test]
    fn commas_in_paths_are_doubled() {
        assert_eq!(escaped(Path::new("/a,b")), "/a,,b");
    }
}
