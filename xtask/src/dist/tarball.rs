//! The same files for other distributions, with a script that installs and removes them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{
    archive,
    release::Release,
    tree::{Tree, set_mode, workspace},
};

/// Of interest before anything is copied.
const ON_TOP: &[&str] = &["README.md", "LICENSE", "CHANGELOG.md"];

/// Writes the tarball; where it is.
///
/// # Errors
/// When a file can't be read or tar fails.
pub(super) fn pack(tree: &Tree, release: &Release, output_folder: &Path) -> Result<PathBuf> {
    let architecture = tree.architecture().linux();
    let name = format!("ipfilter-{}-{architecture}-linux", release.version);
    let work = tree.beside("tarball");
    let folder = work.join(&name);
    tree.copy_to(
        &folder,
        &[
            "usr/share/doc/ipfilter/changelog.Debian.gz",
            "usr/share/lintian",
        ],
    )?;
    for file in ON_TOP {
        fs::copy(workspace().join(file), folder.join(file))?;
    }
    let script = fs::read_to_string(workspace().join("ipfilter/dist/install.sh"))?;
    let installer = folder.join("install.sh");
    fs::write(&installer, script.replace("@ARCHITECTURE@", architecture))?;
    set_mode(&installer, 0o755)?;
    let file = output_folder.join(format!("{name}.tar.gz"));
    archive::tar(&work, &name, release.epoch, &file)?;
    fs::remove_dir_all(work)?;
    Ok(file)
}
