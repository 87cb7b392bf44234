//! Files that must be whole or absent, whatever happens while they are written.
//!
//! A file is written beside the one it replaces, synced, and then takes its name; the folder is
//! synced as well, so that a power cut leaves one or the other ("fsync(2)", "rename(2)"). Its first
//! line is the SHA-256 of the rest: what the disk has damaged is never taken for what was written.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::files;

/// The most bytes of a file: more than the policies of all APIs may have.
const LIMIT: u64 = 8 << 30;

/// The SHA-256 of `bytes`, in hexadecimal.
pub(super) fn checksum(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `content` to `path`, in a folder that is made if need be.
///
/// # Errors
///
/// When that fails; then the file is what it was.
pub(super) fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let beside = path.with_extension("new");
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut file = create(&beside)?;
        writeln!(file, "{}", checksum(content))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write()
        .inspect_err(|_| {
            // Best effort: a disk that is full should not keep half a file as well.
            let _: io::Result<()> = fs::remove_file(&beside);
        })
        .with_context(|| format!("can't write `{}`", path.display()))
}

/// A new file for its owner alone. What lies at `path`, such as half a file of an earlier process or
/// a symbolic link, is removed and never followed.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// What was written to `path`, if anything was.
///
/// # Errors
///
/// When it can't be read, or is not what was written.
pub(super) fn read(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let mut bytes = match files::read(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("can't read `{}`", path.display()));
        }
    };
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (told, content) = (halves.next(), halves.next().unwrap_or_default());
    ensure!(
        told == Some(checksum(content).as_bytes()),
        "`{}` is damaged: its checksum is not that of its content",
        path.display()
    );
    let before = bytes.len() - content.len();
    bytes.drain(..before);
    Ok(Some(bytes))
}

/// Whether `path` holds this content, whose checksum is known, whole and undamaged.
pub(super) fn holds(path: &Path, checksum: &str, content: &[u8]) -> bool {
    let bytes = files::read(path, LIMIT).unwrap_or_default();
    let rest = bytes.strip_prefix(checksum.as_bytes());
    rest.and_then(|rest| rest.strip_prefix(b"\n")) == Some(content)
}

/// Removes what was written to `path`, if anything was.
///
/// # Errors
///
/// When that fails.
pub(super) fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// The same, so that no power cut brings it back.
///
/// # Errors
///
/// When that fails.
pub(super) fn remove_durably(path: &Path) -> anyhow::Result<()> {
    remove(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, path::PathBuf, process};

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = env::temp_dir().join(format!("ipfilter-store-{}-{name}", process::id()));
        let _: io::Result<()> = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_was_written_is_read_and_what_was_damaged_is_not() {
        let folder = folder("whole");
        let path = folder.join("deeper/file.json");
        assert!(read(&path).unwrap().is_none());
        for content in [&b"{}"[..], b"", b"two\nlines\n", &[0xff, 0, b'\n']] {
            write(&path, content).unwrap();
            assert_eq!(read(&path).unwrap().as_deref(), Some(content));
            assert!(holds(&path, &checksum(content), content));
            assert!(!holds(&path, &checksum(content), b"other"));
        }
        write(&path, b"the whole content").unwrap();
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            assert!(!holds(
                &path,
                &checksum(b"the whole content"),
                b"the whole content"
            ));
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path).is_err(), "cut to {at}");
        }
        remove(&path).unwrap();
        remove_durably(&path).unwrap();
        assert!(read(&path).unwrap().is_none());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn files_are_their_owners_and_links_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let folder = folder("links");
        let path = folder.join("file.json");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("victim"), "precious").unwrap();
        symlink(folder.join("victim"), path.with_extension("new")).unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(folder.join("victim")).unwrap(), b"precious");
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_file());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = folder("failing");
        let path = folder.join("file.json");
        write(&path, b"old").unwrap();
        // Nothing can be written to a name that is a folder.
        fs::create_dir(path.with_extension("new")).unwrap();
        let message = write(&path, b"new").unwrap_err().to_string();
        assert!(message.contains("file.json"), "{message}");
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"old"[..]));
        fs::remove_dir_all(&folder).unwrap();
    }
}
