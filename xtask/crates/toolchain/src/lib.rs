//! Which compiler and linker build the BPF programs.
//!
//! Two kinds will do: a nightly Rust that has the library's sources and builds `core` itself, or a
//! distribution's Rust that brings `core` for the BPF target ready-made. Either needs a
//! `bpf-linker` made with the same major version of LLVM, because LLVM reads no bitcode of its
//! successors.
//!
//! Set-up provides what is found here, and `ipfilter`'s build script uses it: so it depends on the
//! standard library alone, only looks, and never installs or builds anything.

use std::{
    env,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::Command,
};

/// The name under which set-up makes a distribution's Rust known to rustup.
pub const LINKED: &str = "ipfilter-bpf";

/// The target of the BPF programs: in the byte order of this machine, which loads them.
pub const TARGET: &str = if cfg!(target_endian = "big") {
    "bpfeb-unknown-none"
} else {
    "bpfel-unknown-none"
};

/// Where a Rust that may build for BPF is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A distribution's Rust, linked into rustup as [`LINKED`].
    Linked,
    /// Rustup's nightly.
    Nightly,
    /// The Rust in `PATH`, where there is no rustup.
    System,
}

impl Origin {
    /// Those to try, best first.
    pub fn all() -> &'static [Self] {
        if in_path("rustup").next().is_some() {
            &[Self::Linked, Self::Nightly]
        } else {
            &[Self::System]
        }
    }

    /// What rustup calls it; of no meaning where there is no rustup.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linked => LINKED,
            Self::Nightly => "nightly",
            Self::System => "system",
        }
    }

    /// A command that runs `program` (`rustc`, `cargo`) of this Rust.
    pub fn command(self, program: &str) -> Command {
        if self == Self::System {
            return Command::new(program);
        }
        let mut command = Command::new("rustup");
        command.args(["run", self.name(), program]);
        // A build script has these from the cargo that runs it: another Rust's.
        for name in ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env_remove(name);
        }
        command
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linked => write!(f, "rustup toolchain `{LINKED}`"),
            Self::Nightly => f.write_str("rustup toolchain `nightly`"),
            Self::System => f.write_str("the `rustc` in PATH"),
        }
    }
}

/// What `rustc -vV` says about a compiler, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// As `1.96.0` or `1.97.0-nightly`.
    pub release: String,
    /// Major version of the LLVM inside.
    pub llvm: u32,
}

impl Version {
    /// Reads the output of `rustc -vV`; `None` if it is not that.
    pub fn parse(text: &str) -> Option<Self> {
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
        Some(Self {
            release: field("release: ")?.trim().to_owned(),
            llvm: major(field("LLVM version: ")?)?,
        })
    }

    /// Whether unstable options are open to it, building `core` among them.
    pub fn is_nightly(&self) -> bool {
        self.release.ends_with("-nightly") || self.release.ends_with("-dev")
    }
}

/// The number before the first dot.
fn major(version: &str) -> Option<u32> {
    version.trim().split('.').next()?.parse().ok()
}

/// A Rust that can build for BPF, and the linker that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Which Rust.
    pub origin: Origin,
    /// Its version.
    pub version: Version,
    /// The `bpf-linker` to use.
    pub linker: PathBuf,
}

impl Toolchain {
    /// The first complete one.
    ///
    /// # Errors
    /// When there is none: what each candidate lacks.
    pub fn find() -> Result<Self, Vec<Lack>> {
        let mut lacks = Vec::new();
        for &origin in Origin::all() {
            match Self::of(origin) {
                Ok(found) => return Ok(found),
                Err(lack) => lacks.push(lack),
            }
        }
        Err(lacks)
    }

    /// This one, if it is complete.
    ///
    /// # Errors
    /// What it lacks.
    pub fn of(origin: Origin) -> Result<Self, Lack> {
        let version = said(origin.command("rustc").arg("-vV"))
            .and_then(|text| Version::parse(&text))
            .ok_or(Lack::Compiler(origin))?;
        if !has_core(origin, &version) {
            return Err(Lack::Core(origin, version));
        }
        match linker(version.llvm) {
            Some(linker) => Ok(Self {
                origin,
                version,
                linker,
            }),
            None => Err(Lack::Linker(origin, version)),
        }
    }

    /// What cargo must find in its environment when it builds the BPF programs: the linker, and for
    /// a stable compiler the crates that may use the one unstable feature the BPF side needs. They
    /// are named, because `1` would make aya-build build a `core` that is there ready-made.
    pub fn environment(&self) -> Vec<(String, OsString)> {
        let target = TARGET.to_uppercase().replace('-', "_");
        let linker = (
            format!("CARGO_TARGET_{target}_LINKER"),
            self.linker.clone().into_os_string(),
        );
        let bootstrap = (
            "RUSTC_BOOTSTRAP".to_owned(),
            "aya_ebpf,ipfilter_ebpf,ipfilter_bench".into(),
        );
        if self.version.is_nightly() {
            vec![linker]
        } else {
            vec![linker, bootstrap]
        }
    }
}

/// What keeps a Rust from building for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// It is not there.
    Compiler(Origin),
    /// It is, without `core` for BPF, ready-made or as source.
    Core(Origin, Version),
    /// It is complete, but no linker made with its LLVM is there.
    Linker(Origin, Version),
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compiler(origin) => write!(f, "{origin} is not there"),
            Self::Core(origin, version) if version.is_nightly() => {
                write!(
                    f,
                    "{origin} ({}) lacks component `rust-src`",
                    version.release
                )
            }
            Self::Core(origin, version) => {
                write!(
                    f,
                    "{origin} ({}) lacks `core` for {TARGET}",
                    version.release
                )
            }
            Self::Linker(origin, Version { release, llvm }) => {
                write!(
                    f,
                    "{origin} ({release}) has no `bpf-linker` made with LLVM {llvm}"
                )
            }
        }
    }
}

/// Whether `core` is there for the BPF target: its source for a nightly, else ready-made.
fn has_core(origin: Origin, version: &Version) -> bool {
    let Some(sysroot) = said(origin.command("rustc").args(["--print", "sysroot"])) else {
        return false;
    };
    let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
    if version.is_nightly() {
        return rustlib.join("src/rust/library/core/src/lib.rs").is_file();
    }
    let Ok(mut files) = rustlib.join(TARGET).join("lib").read_dir() else {
        return false;
    };
    files.any(|file| {
        file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
    })
}

/// The folder that set-up installs its own `bpf-linker` for an LLVM into, below cargo's home: one
/// per major version, apart from what the user installed for other projects.
pub fn linker_root(llvm: u32) -> PathBuf {
    let home = env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    home.join("ipfilter-bpf").join(format!("llvm-{llvm}"))
}

/// A `bpf-linker` made with this major version of LLVM: set-up's own, else one in `PATH`.
fn linker(llvm: u32) -> Option<PathBuf> {
    let own = linker_root(llvm).join("bin/bpf-linker");
    std::iter::once(own)
        .chain(in_path("bpf-linker"))
        .find(|file| linker_llvm(file) == Some(llvm))
}

/// The major version of LLVM a `bpf-linker` was made with. It does not print it, but passes
/// options to its LLVM, and LLVM has one that prints it. A linker whose LLVM library has been
/// removed or is another says nothing, and is thus no linker.
fn linker_llvm(file: &Path) -> Option<u32> {
    if !file.is_file() {
        return None;
    }
    let text = said(Command::new(file).args([
        "--llvm-args=--version",
        "--output=/dev/null",
        "/dev/null",
    ]))?;
    told_llvm(&text)
}

fn told_llvm(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("LLVM version ")?;
    major(version)
}

/// Every file called `program` in `PATH`, in order.
fn in_path(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let program = program.to_owned();
    folders
        .into_iter()
        .map(move |folder| folder.join(&program))
        .filter(|file| file.is_file())
}

/// What a command prints, if it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\ncommit-hash: ac68faa20c58cbccd01ee7208bf3b6e93a7d7f96\n\
        commit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\n\
        LLVM version: 22.1.8\n";

    #[test]
    fn a_compiler_tells_its_release_and_its_llvm() {
        let version = Version::parse(DEBIAN).unwrap();
        assert_eq!(version.release, "1.96.0");
        assert_eq!(version.llvm, 22);
        assert!(!version.is_nightly());
    }

    #[test]
    fn a_nightly_is_told_from_a_stable_release() {
        let text = "release: 1.97.0-nightly\nLLVM version: 23.0\n";
        let version = Version::parse(text).unwrap();
        assert_eq!(version.llvm, 23);
        assert!(version.is_nightly());
    }

    #[test]
    fn what_is_no_version_is_not_taken_for_one() {
        assert_eq!(Version::parse(""), None);
        assert_eq!(Version::parse("release: 1.96.0\n"), None);
        assert_eq!(Version::parse("release: 1.96.0\nLLVM version: new\n"), None);
    }

    #[test]
    fn lacks_say_what_is_missing_where() {
        let version = Version::parse(DEBIAN).unwrap();
        assert_eq!(
            Lack::Linker(Origin::Linked, version).to_string(),
            "rustup toolchain `ipfilter-bpf` (1.96.0) has no `bpf-linker` made with LLVM 22"
        );
    }

    #[test]
    fn a_program_that_is_no_linker_has_no_llvm() {
        assert_eq!(linker_llvm(Path::new("/bin/true")), None);
        assert_eq!(linker_llvm(Path::new("/no/such/file")), None);
    }

    #[test]
    fn a_linker_tells_the_llvm_it_was_made_with() {
        let told = "LLVM (http://llvm.org/):\n  LLVM version 21.1.8\n  Optimized build.\n";
        assert_eq!(told_llvm(told), Some(21));
        assert_eq!(told_llvm("Debian LLVM version 22.1.8\n"), Some(22));
        assert_eq!(told_llvm("bpf-linker 0.13.0\n"), None);
    }
}
