//! Building programs that run on any Linux: linked statically, for this architecture and others.
//!
//! Another architecture takes a linker, its C library and Rust's standard library for it. Where the Rust that runs us
//! has the latter (`rustup target add`), it is used; else the distribution's Rust, with the standard library of
//! its package for the other architecture, which is unpacked below `target` and not installed.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};
use testkit::{
    Architecture,
    cache::Part,
    mirror::{Suite, unpack},
    process::{Interrupt, output},
    target_dir,
};
use toolchain::Origin;

use super::tools;
use crate::sources::{cargo, workspace};

/// What links programs for arm64, and the C library for them.
const ARM64: &[(&str, &str)] = &[("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")];

/// The C library has no program to look for.
const ARM64_LIBRARY: (&str, &str) = ("/usr/aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross");

/// A way to build for one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Compiler {
    pub(crate) architecture: Architecture,
    origin: Option<Origin>,
    flags: Vec<String>,
}

impl Compiler {
    /// Provides what building for this architecture takes.
    ///
    /// # Errors
    /// [`testkit::Refused`] where a tool is missing that can't be installed; when no mirror has the library.
    pub(crate) fn provide(architecture: Architecture, interrupt: &Interrupt) -> Result<Self> {
        let mut compiler = Self {
            architecture,
            origin: None,
            flags: common_flags()?,
        };
        if Architecture::here() == Some(architecture) {
            return Ok(compiler);
        }
        let why = "programs for arm64 are linked with it";
        tools(why, ARM64, interrupt)?;
        if !Path::new(ARM64_LIBRARY.0).exists() {
            super::apt::install(why, &[ARM64_LIBRARY.1], interrupt)?;
        }
        compiler
            .flags
            .push("-Clinker=aarch64-linux-gnu-gcc".to_owned());
        if !has_library(&sysroot(None)?, architecture) {
            let origin = distribution()?;
            compiler.origin = Some(origin);
            if !has_library(&sysroot(Some(origin))?, architecture) {
                let root = library(architecture)?;
                compiler.flags.push(format!("--sysroot={}", root.display()));
            }
        }
        Ok(compiler)
    }

    /// Cargo, to build for this architecture; what is added are a verb and its arguments.
    pub(crate) fn cargo(&self, verb: &[&str]) -> Command {
        let mut command = self
            .origin
            .map_or_else(cargo, |origin| origin.command("cargo"));
        command
            .args(verb)
            .arg(format!("--target={}", self.architecture.target()))
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\x1f"));
        command
    }
}

/// Linked statically, without symbols, and without a trace of where this machine keeps the sources.
fn common_flags() -> Result<Vec<String>> {
    let workspace = workspace().canonicalize()?;
    let home = env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    Ok(vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cstrip=symbols".to_owned(),
        format!("--remap-path-prefix={}=/build", workspace.display()),
        format!("--remap-path-prefix={}=/cargo", home.display()),
    ])
}

fn sysroot(origin: Option<Origin>) -> Result<PathBuf> {
    let mut rustc = origin.map_or_else(
        || Command::new(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"))),
        |origin| origin.command("rustc"),
    );
    let path = output(rustc.args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim()))
}

fn has_library(sysroot: &Path, architecture: Architecture) -> bool {
    rustlib(sysroot, architecture).is_dir()
}

fn rustlib(sysroot: &Path, architecture: Architecture) -> PathBuf {
    sysroot
        .join("lib/rustlib")
        .join(architecture.target())
        .join("lib")
}

/// The distribution's Rust, which builds the BPF programs, too.
fn distribution() -> Result<Origin> {
    let found = toolchain::Toolchain::find().map_err(|_| anyhow!("set-up found no toolchain"))?;
    Ok(found.origin)
}

/// Rust's standard library of the distribution's package, in the version of the Rust that is installed; the folder
/// is one for `--sysroot`.
fn library(architecture: Architecture) -> Result<PathBuf> {
    let (name, version) = installed()?;
    let package = format!("{name}={version}");
    let home = target_dir()?.join("cross").join(architecture.debian());
    let stamp = home.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|there| there == package) {
        return Ok(home.join("usr"));
    }
    let debian = architecture.debian();
    eprintln!("fetching `{name}` for {debian}, to be kept below `target`");
    let part = Part::new(&home)?;
    let suite = Suite::with(
        &codename()?,
        debian,
        Some(&package),
        &part.path().join("apt"),
    )?;
    for file in suite.download(
        std::slice::from_ref(&package),
        &part.path().join("packages"),
    )? {
        unpack(&file, part.path())?;
    }
    for folder in ["apt", "packages"] {
        fs::remove_dir_all(part.path().join(folder))?;
    }
    fs::write(part.path().join("stamp"), &package)?;
    part.finish()?;
    Ok(home.join("usr"))
}

/// The package of the standard library that is installed, and its version.
fn installed() -> Result<(String, String)> {
    for name in ["libstd-rust-web-dev", "libstd-rust-dev"] {
        let mut query = Command::new("dpkg-query");
        query.args([
            "--show",
            "--showformat=${Version} ${db:Status-Status}",
            name,
        ]);
        let Ok(said) = output(&mut query) else {
            continue;
        };
        if let Some((version, "installed")) = said.trim().split_once(' ') {
            return Ok((name.to_owned(), version.to_owned()));
        }
    }
    Err(anyhow!(
        "no Rust of the distribution is installed; with rustup, `rustup target add {}` will do",
        Architecture::Arm64.target()
    ))
}

/// This machine's release.
fn codename() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    text.lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release")
}
