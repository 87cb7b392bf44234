//! Archives and digests that depend on what is packed only: not on who packs it, when, and in which folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use testkit::{process::output, tool};

/// Packs what is in `folder` under `name` (`.` for all of it), as `tar` does; files are dated `epoch`.
///
/// # Errors
/// When tar fails.
pub(super) fn tar(folder: &Path, name: &str, epoch: u64, archive: &Path) -> Result<()> {
    let mut tar = Command::new(tool("tar", "tar")?);
    tar.args(["--create", "--format=gnu", "--sort=name"])
        .args(["--owner=0", "--group=0", "--numeric-owner"])
        .args(["--mode=u=rwX,go=rX", "--no-xattrs", "--no-acls"])
        .arg(format!("--mtime=@{epoch}"));
    if archive.extension().is_some_and(|end| end == "gz") {
        tar.arg("--use-compress-program=gzip --best --no-name");
    }
    tar.arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(folder);
    output(tar.arg(name))?;
    Ok(())
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it can't be read.
pub(super) fn sha256(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("can't read `{}`", file.display()))?;
    Ok(hexadecimal(&Sha256::digest(bytes)))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `SHA256SUMS` beside the files, which sha256sum(1) checks, and signatures of everything by the secret key in a
/// file, if there is one; what was written.
///
/// # Errors
/// When a file can't be read or written; when gpg does not take the key.
pub(super) fn sums(files: &[PathBuf], key: Option<&Path>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut lines: Vec<String> = files
        .iter()
        .map(|file| {
            let name = file.file_name().unwrap_or_default().display();
            Ok(format!("{}  {name}\n", sha256(file)?))
        })
        .collect::<Result<_>>()?;
    lines.sort_by(|a, b| {
        a.split_once("  ")
            .map(|line| line.1)
            .cmp(&b.split_once("  ").map(|line| line.1))
    });
    let sums = folder.join("SHA256SUMS");
    fs::write(&sums, lines.concat())?;
    let mut written = vec![sums];
    if let Some(key) = key {
        let all: Vec<&Path> = files.iter().chain(&written).map(PathBuf::as_path).collect();
        written.extend(sign(&all, key, folder)?);
    }
    Ok(written)
}

/// Signs each file with a key that gpg knows for this long only.
fn sign(files: &[&Path], key: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    let home = folder.join("work/gnupg");
    fs::create_dir_all(&home)?;
    super::tree::set_mode(&home, 0o700)?;
    let gpg = || -> Result<Command> {
        let mut gpg = Command::new(tool("gpg", "gpg")?);
        gpg.args(["--batch", "--quiet", "--yes", "--homedir"])
            .arg(&home);
        Ok(gpg)
    };
    output(gpg()?.arg("--import").arg(key))
        .with_context(|| format!("gpg does not take the key in `{}`", key.display()))?;
    let signed = files.iter().map(|file| {
        let mut name = file.as_os_str().to_owned();
        name.push(".asc");
        output(
            gpg()?
                .args(["--armor", "--detach-sign", "--output"])
                .arg(&name)
                .arg(file),
        )?;
        Ok(PathBuf::from(name))
    });
    let signed = signed.collect();
    // The agent holds the key, and the folder.
    let mut stop = Command::new(tool("gpgconf", "gpgconf")?);
    output(stop.arg("--homedir").arg(&home).args(["--kill", "all"]))?;
    fs::remove_dir_all(&home)?;
    signed
}
