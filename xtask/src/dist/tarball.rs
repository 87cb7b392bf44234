//! The same files for other distributions: to be copied to `/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use testkit::{process::output, tool};

use super::{
    release::Release,
    tree::{Tree, workspace},
};

/// Of interest before anything is copied.
const ON_TOP: &[&str] = &["README.md", "LICENSE", "CHANGELOG.md"];

/// Writes the tarball; where it is.
///
/// # Errors
/// When a file can't be read or tar fails.
pub(super) fn pack(tree: &Tree, release: &Release, output_folder: &Path) -> Result<PathBuf> {
    let name = format!(
        "ipfilter-{}-{}-linux",
        release.version,
        std::env::consts::ARCH
    );
    let folder = tree.root().with_file_name(&name);
    fs::rename(tree.root(), &folder)?;
    for file in ON_TOP {
        fs::copy(workspace().join(file), folder.join(file))?;
    }
    let archive = output_folder.join(format!("{name}.tar.gz"));
    let mut tar = Command::new(tool("tar", "tar")?);
    tar.args([
        "--create",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ])
    // Neither who builds nor when shows.
    .args(["--mode=u=rwX,go=rX", "--exclude=changelog.Debian.gz"])
    .arg(format!("--mtime=@{}", release.epoch))
    .arg("--use-compress-program=gzip --best --no-name")
    .arg("--file")
    .arg(&archive)
    .arg("--directory")
    .arg(folder.parent().unwrap_or(&folder))
    .arg(&name);
    output(&mut tar)?;
    Ok(archive)
}
