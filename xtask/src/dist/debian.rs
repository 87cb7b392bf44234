//! The Debian package: what dpkg wants to know beside the files (deb-control(5), Debian Policy,
//! chapters 5 and 6).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use testkit::{process::output, tool};

use super::{
    release::{Release, homepage, maintainer},
    tree::{Tree, set_mode, workspace},
};

/// The scripts that run when the package is installed, upgraded and removed.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// How much trouble to take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compression {
    Small,
    Fast,
}

/// Writes the package; where it is. Its control files are gone from the tree afterwards.
///
/// # Errors
/// When a tool fails.
pub(super) fn pack(
    tree: &Tree,
    release: &Release,
    compression: Compression,
    folder: &Path,
) -> Result<PathBuf> {
    let files = files_below(tree.root())?;
    tree.text("DEBIAN/control", &control(tree, &files, release)?)?;
    tree.text("DEBIAN/md5sums", &sums(tree, &files)?)?;
    tree.text("DEBIAN/conffiles", &configuration(&files))?;
    for script in SCRIPTS {
        let text = fs::read_to_string(workspace().join("ipfilter/dist/debian").join(script))?;
        set_mode(&tree.text(&format!("DEBIAN/{script}"), &text)?, 0o755)?;
    }
    let name = format!(
        "ipfilter_{}_{}.deb",
        release.full(),
        tree.architecture().debian()
    );
    let package = folder.join(name);
    let mut build = Command::new(tool("dpkg-deb", "dpkg")?);
    build.args(match compression {
        Compression::Small => ["-Zxz", "-z9"],
        Compression::Fast => ["-Zgzip", "-z1"],
    });
    build.args(["--root-owner-group", "--build"]);
    build.env("SOURCE_DATE_EPOCH", release.epoch.to_string());
    output(build.arg(tree.root()).arg(&package))?;
    fs::remove_dir_all(tree.root().join("DEBIAN"))?;
    Ok(package)
}

/// All files, relative to `root`, in order.
pub(super) fn files_below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn control(tree: &Tree, files: &[PathBuf], release: &Release) -> Result<String> {
    let template = fs::read_to_string(workspace().join("ipfilter/dist/debian/control"))?;
    Ok(template
        .replace("@VERSION@", &release.full())
        .replace("@ARCHITECTURE@", tree.architecture().debian())
        .replace("@MAINTAINER@", &maintainer())
        .replace("@HOMEPAGE@", &homepage())
        .replace("@SIZE@", &installed_size(tree, files)?.to_string()))
}

/// In KiB, each file rounded up, as Debian Policy (5.6.20) has it.
fn installed_size(tree: &Tree, files: &[PathBuf]) -> Result<u64> {
    files.iter().try_fold(0, |sum, file| {
        let size = fs::metadata(tree.root().join(file))?.len();
        Ok(sum + size.div_ceil(1024))
    })
}

fn sums(tree: &Tree, files: &[PathBuf]) -> Result<String> {
    let mut command = Command::new(tool("md5sum", "coreutils")?);
    let fixed = files.iter().filter(|file| !file.starts_with("etc"));
    output(command.args(fixed).current_dir(tree.root()))
}

/// What operators change: dpkg asks before it replaces those, and keeps them until a purge.
fn configuration(files: &[PathBuf]) -> String {
    files
        .iter()
        .filter(|file| file.starts_with("etc"))
        .map(|file| format!("/{}\n", file.display()))
        .collect()
}
