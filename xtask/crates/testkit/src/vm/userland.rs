//! The few programs that VMs of another architecture run besides what they are given: this machine's won't do there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    cache::Part,
    mirror::{Suite, unpack},
};
use crate::{Architecture, target_dir};

/// The release that QEMU is of, too; any would do.
const SUITE: &str = "bookworm";

/// Each with all that it depends on.
const PACKAGES: [&str; 4] = ["dash", "iproute2", "util-linux", "curl"];

/// Where they are in their packages, and where to put them: in the folders of [`super::Vm`]'s `PATH`.
const PROGRAMS: [(&str, &str); 4] = [
    ("bin/dash", "bin/sh"),
    ("bin/ip", "sbin/ip"),
    ("usr/bin/nsenter", "usr/bin/nsenter"),
    ("usr/bin/curl", "usr/bin/curl"),
];

/// A folder with the programs and their libraries, fetched unless it was before.
///
/// # Errors
/// When no mirror that this machine knows has them.
pub(super) fn fetch(architecture: Architecture) -> Result<PathBuf> {
    let debian = architecture.debian();
    let home = target_dir()?.join("vm").join(format!("userland-{debian}"));
    if home.exists() {
        return Ok(home);
    }
    eprintln!("fetching a shell and network tools for {debian}, to be kept below `target`");
    gather(architecture, &home)
        .with_context(|| format!("can't get programs of Debian `{SUITE}` for {debian}"))?;
    Ok(home)
}

fn gather(architecture: Architecture, home: &Path) -> Result<()> {
    let part = Part::new(home)?;
    let work = Part::new(&home.with_extension("work"))?;
    let suite = Suite::with(SUITE, architecture.debian(), None, &work.path().join("apt"))?;
    let unpacked = work.path().join("unpacked");
    for name in PACKAGES {
        for package in suite.download_whole(name)? {
            unpack(&package, &unpacked)?;
        }
    }
    for (from, to) in PROGRAMS {
        place(&unpacked.join(from), &part.path().join(to))?;
    }
    let triplet = format!("{}-linux-gnu", architecture.linux());
    for folder in ["lib", "usr/lib"] {
        let libraries = Path::new(folder).join(&triplet);
        for entry in fs::read_dir(unpacked.join(&libraries))? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default();
            if file.is_file() && name.to_string_lossy().contains(".so.") {
                place(&file, &part.path().join("lib").join(&triplet).join(name))?;
            }
        }
    }
    let loader = fs::read_dir(unpacked.join("lib"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("ld-linux"))
        })
        .context("the packages have no dynamic linker")?;
    let name = loader.file_name().unwrap_or_default();
    place(&loader, &part.path().join("lib").join(name))?;
    part.finish()
}

/// Copies a file, or what a link leads to.
fn place(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to).with_context(|| format!("the packages lack `{}`", from.display()))?;
    Ok(())
}
