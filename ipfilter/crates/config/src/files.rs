//! Reading the files that operators write.
//!
//! Whatever lies at a path, reading it neither waits nor fills the memory: a named pipe, a device or
//! a socket is refused by name, and a file is read up to a limit.

use std::{
    fs::{self, File, FileType},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use ipfilter_policy::{SIZE_LIMIT, Source, visible};

/// The most bytes of a configuration file.
pub const CONFIG_LIMIT: u64 = 4 << 20;

/// The most bytes of a response's body: more than any that fits a packet.
pub const BODY_LIMIT: u64 = 64 << 10;

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
///
/// When it is larger, something else than a regular file, or can't be read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let bytes = read_up_to(path, limit + 1)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

pub(crate) fn too_large(limit: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("it is larger than the limit of {limit} bytes"),
    )
}

/// Reads a policy file; `-` is standard input. Reads no further than a policy may be long, which
/// [`ipfilter_policy::parse`] then reports.
///
/// # Errors
///
/// When the file is not a regular one, or can't be opened or read.
pub fn read_policy(path: &Path) -> io::Result<Source> {
    let limit = SIZE_LIMIT as u64 + 1;
    let bytes = if path == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
        bytes
    } else {
        read_up_to(path, limit)?
    };
    Ok(Source::new(shown(path), bytes))
}

fn read_up_to(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Before it is opened, too: to open a device may have effects.
    refuse_special(fs::metadata(path)?.file_type())?;
    let nonblocking = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking.bits().cast_signed())
        .open(path)?;
    refuse_special(file.metadata()?.file_type())?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A path as it may be printed: a file's name must not write on the operator's terminal.
#[must_use]
pub fn shown(path: &Path) -> String {
    path.display().to_string().chars().map(visible).collect()
}

/// Refuses everything but regular files.
fn refuse_special(kind: FileType) -> io::Result<()> {
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("it is {what}, and only regular files are read"),
    ))
}

#[cfg(test)]
mod tests {
    use std::{env, os::unix::net::UnixListener, process};

    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_up_to_their_limit_are_read() {
        let folder = env::temp_dir().join(format!("ipfilter-files-{}", process::id()));
        let _: io::Result<()> = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let (file, pipe, socket) = (
            folder.join("file"),
            folder.join("pipe"),
            folder.join("socket"),
        );
        fs::write(&file, "four").unwrap();
        assert_eq!(read(&file, 4).unwrap(), b"four");
        let said = read(&file, 3).unwrap_err().to_string();
        assert_eq!(said, "it is larger than the limit of 3 bytes");
        mknodat(CWD, &pipe, Kind::Fifo, Mode::RUSR, 0).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a pipe"),
            (&socket, "a socket"),
            (&folder, "a directory"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let said = read(path, 9).unwrap_err().to_string();
            assert!(said.contains(what), "{said}");
            assert!(read_policy(path).is_err());
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
