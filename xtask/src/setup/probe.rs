//! Whether a toolchain really builds: it builds the smallest program there is, as the build script
//! of `ipfilter` builds the real ones. When nothing changed since, cargo sees that in a moment.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use testkit::target_dir;
use toolchain::{TARGET, Toolchain};

const MANIFEST: &str = "[package]\nname = \"probe\"\nedition = \"2024\"\n\n[workspace]\n";

const PROGRAM: &str = r#"#![no_std]
#![no_main]

#[unsafe(no_mangle)]
extern "C" fn probe() -> u32 {
    2
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

/// Builds; the inner error is what the build said.
///
/// # Errors
/// When the files can't be written.
pub(super) fn build(toolchain: &Toolchain) -> Result<Result<(), String>> {
    let folder = target_dir()?
        .join("xtask-probe")
        .join(toolchain.origin.name());
    write(&folder.join("Cargo.toml"), MANIFEST)?;
    write(&folder.join("src/main.rs"), PROGRAM)?;
    let mut command = toolchain.origin.command("cargo");
    command
        .args(["build", "--quiet", "--release", "--target", TARGET])
        .args(toolchain.version.is_nightly().then_some("-Zbuild-std=core"))
        .current_dir(&folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .envs(toolchain.environment());
    let output = command.output().context("can't start cargo")?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(String::from_utf8_lossy(&output.stderr)
        .trim()
        .to_owned()))
}

/// Writes a file unless it is so already: cargo goes by the time it was changed.
fn write(file: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let written = file
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(file, text));
    written.with_context(|| format!("can't write `{}`", file.display()))
}
