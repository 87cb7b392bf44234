//! Builds the BPF programs, to be embedded in the library: the file `ipfilter-ebpf` in `OUT_DIR`.
//!
//! The Rust that cargo itself runs can't build for BPF when it is a stable one, so another is
//! looked for; `cargo xtask setup` provides it. Reruns when the programs, their dependencies or
//! the profiles change.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, exit},
};

use anyhow::{Result, anyhow};
use aya_build::Package;
use toolchain::{Lack, Toolchain};

/// Set where the inner cargo runs this program in front of the compiler: folders, each as `FROM=TO`, a line each.
const REMAPPED: &str = "IPFILTER_BPF_REMAPPED";

fn main() {
    if let Ok(folders) = env::var(REMAPPED) {
        compile(&folders);
    }
    for file in ["../Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={file}");
    }
    if let Err(error) = build() {
        format!("{error:#}")
            .lines()
            .for_each(|line| println!("cargo::error={line}"));
    }
}

fn build() -> Result<()> {
    let toolchain = Toolchain::find().map_err(|lacks| anyhow!(missing(&lacks)))?;
    prepare(&toolchain);
    aya_build::build_ebpf(
        [Package {
            name: "ipfilter-ebpf",
            root_dir: "../ipfilter-ebpf",
            ..Package::default()
        }],
        aya_build::Toolchain::Custom(toolchain.origin.name()),
    )
}

fn missing(lacks: &[Lack]) -> String {
    let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
    format!(
        "no toolchain for the BPF programs: run `cargo xtask setup` ({})",
        lacks.join("; ")
    )
}

/// Tells the inner cargo, through the environment, what aya-build has no parameter for.
fn prepare(toolchain: &Toolchain) {
    for (name, value) in toolchain.environment() {
        set(&name, value);
    }
    if let Some(folder) = shared_folder() {
        set("CARGO_BUILD_BUILD_DIR", folder.into_os_string());
    }
    if let Ok(own) = env::current_exe() {
        set("RUSTC_WRAPPER", own.into_os_string());
        set(REMAPPED, remapped().into());
    }
    // Whatever it says becomes a warning that cargo repeats at every build: leave what matters.
    set("CARGO_TERM_QUIET", "true".into());
}

/// The object names the sources of its instructions, for the verifier's log. Where this machine keeps them is left
/// out, so that the same sources give the same object in every folder.
fn remapped() -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let home = env::var_os("CARGO_HOME").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    [(sources, "/build"), (Some(home.as_path()), "/cargo")]
        .iter()
        .filter_map(|(from, to)| Some(format!("{}={to}\n", (*from)?.display())))
        .collect()
}

/// Becomes the compiler that the arguments name. This takes the place of compiler flags, for which aya-build has
/// no parameter.
fn compile(folders: &str) -> ! {
    let mut arguments = env::args_os().skip(1);
    let mut compiler = Command::new(arguments.next().unwrap_or_default());
    compiler.args(arguments);
    for folder in folders.lines() {
        compiler.arg(format!("--remap-path-prefix={folder}"));
    }
    eprintln!("can't start the compiler: {}", compiler.exec());
    exit(1)
}

/// Where the inner cargo keeps what it compiles on the way: one folder for all profiles and features, as what the
/// programs depend on takes far longer to build than they do, and is the same for all. Nothing if cargo's
/// target folder is not to be seen from here; then each keeps its own.
fn shared_folder() -> Option<PathBuf> {
    let own = env::var_os("OUT_DIR")?;
    let target = Path::new(&own)
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
    Some(target.join("bpf"))
}

#[expect(
    unsafe_code,
    reason = "aya-build takes these from the environment only"
)]
fn set(name: &str, value: OsString) {
    // SAFETY: this build script has a single thread until aya-build is called, so nobody reads the
    // environment meanwhile.
    unsafe { env::set_var(name, value) }
}
