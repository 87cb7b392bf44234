//! Building `bpf-linker` with a given LLVM.

use std::{env, path::Path, process::Command};

use anyhow::Result;
use testkit::process::{Interrupt, output};
use toolchain::linker_root;

use super::{
    act, apt,
    recipe::{arguments, packages, prefix},
};

/// Installs the development files of this LLVM and builds the linker, into a folder of its own, so
/// that one the user has for other projects stays as it is.
///
/// # Errors
/// As [`apt::install`]; when the build fails.
pub(super) fn install(llvm: u32, interrupt: &Interrupt) -> Result<()> {
    let name = llvm.to_string();
    let mut wanted = packages(&name);
    // Not split off LLVM's own package everywhere.
    wanted.retain(|package| !package.starts_with("libpolly") || apt::is_offered(package));
    if has_cxx_library() {
        wanted.retain(|package| package != "g++");
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    apt::install("bpf-linker is built with them", &wanted, interrupt)?;
    act(
        &format!("building a bpf-linker that reads what LLVM {llvm} writes; about a minute"),
        &mut command(llvm),
        interrupt,
    )
}

/// Whether the development files of this LLVM are installed or offered by the distribution.
pub(super) fn has_llvm(llvm: u32) -> bool {
    prefix(&llvm.to_string()).join("bin/llvm-config").exists()
        || apt::is_offered(&format!("llvm-{llvm}-dev"))
}

fn command(llvm: u32) -> Command {
    let root = linker_root(llvm);
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .arg("install")
        .args(arguments(&llvm.to_string()))
        // It is wanted because the one that may be there does not work.
        .arg("--force")
        .arg("--root")
        .arg(&root)
        .env("LLVM_PREFIX", prefix(&llvm.to_string()))
        .env("PATH", with_path(&root.join("bin")))
        .env_remove("CARGO_TARGET_DIR");
    command
}

/// `PATH` with `folder` in it: or cargo advises to put it there, which nobody needs to do.
fn with_path(folder: &Path) -> std::ffi::OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([folder.to_owned()]);
    env::join_paths(folders).unwrap_or(path)
}

/// Whether programs can be linked with the C++ library; the compiler answers with the bare name
/// when it has no such file.
fn has_cxx_library() -> bool {
    output(Command::new("cc").arg("-print-file-name=libstdc++.so"))
        .is_ok_and(|file| Path::new(file.trim()).is_absolute())
}
