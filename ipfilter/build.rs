//! Builds the BPF programs, to be embedded in the library: the file `ipfilter-ebpf` in `OUT_DIR`.
//!
//! The Rust that cargo itself runs can't build for BPF when it is a stable one, so another is
//! looked for; `cargo xtask setup` provides it. Reruns when the programs, their dependencies or
//! the profiles change.

use std::{env, ffi::OsString};

use anyhow::{Result, anyhow};
use aya_build::Package;
use toolchain::{Lack, Toolchain};

fn main() {
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
    let next_abi = env::var_os("CARGO_FEATURE_NEXT_ABI").is_some();
    aya_build::build_ebpf(
        [Package {
            name: "ipfilter-ebpf",
            root_dir: "../ipfilter-ebpf",
            features: if next_abi { &["next-abi"] } else { &[] },
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
    // Whatever it says becomes a warning that cargo repeats at every build: leave what matters.
    set("CARGO_TERM_QUIET", "true".into());
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
