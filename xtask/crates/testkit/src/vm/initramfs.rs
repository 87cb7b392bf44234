//! The file tree that a VM starts with, as the archive the kernel unpacks (cpio, format `newc`;
//! kernel documentation: "initramfs buffer format").

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow, bail};
use cpio::newc::{Builder, ModeFileType, trailer};

use crate::tool;

/// Files by their absolute path in the VM.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug)]
enum Entry {
    Folder,
    Copy(PathBuf),
    Text { text: String, mode: u32 },
}

impl Tree {
    /// An empty folder.
    pub(super) fn folder(&mut self, path: &str) {
        self.add(Path::new(path), Entry::Folder);
    }

    /// A file with this text; `mode` as in chmod(2).
    pub(super) fn text(&mut self, path: &str, text: &str, mode: u32) {
        let text = text.to_owned();
        self.add(Path::new(path), Entry::Text { text, mode });
    }

    /// A file or a whole folder of this machine.
    ///
    /// # Errors
    /// When it does not exist or the VM's path is not absolute.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        if !to.is_absolute() || to.components().any(|part| part == Component::ParentDir) {
            bail!("`{}` is not an absolute path in the VM", to.display());
        }
        let meta = fs::metadata(from).with_context(|| format!("no file `{}`", from.display()))?;
        if !meta.is_dir() {
            self.add(to, Entry::Copy(from.to_owned()));
            return Ok(());
        }
        self.add(to, Entry::Folder);
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            self.copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// A program of this machine with the libraries it is linked with, at the same paths.
    ///
    /// # Errors
    /// When it does not exist, or a library of it does not.
    pub(super) fn program(&mut self, program: &Path) -> Result<()> {
        self.copy(program, program)?;
        for library in libraries(program)? {
            self.copy(&library, &library)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, entry: Entry) {
        for parent in path.ancestors().skip(1) {
            self.entries
                .entry(parent.to_owned())
                .or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Writes the archive, not compressed: to unpack it costs the VM more than the space.
    ///
    /// # Errors
    /// When a file can't be read or the archive can't be written.
    pub(super) fn write(&self, archive: &Path) -> Result<()> {
        let mut writer = BufWriter::new(File::create(archive)?);
        // Parents sort before what is in them.
        for (number, (path, entry)) in (1..).zip(&self.entries) {
            let name = path.strip_prefix("/").unwrap_or(path);
            if name.as_os_str().is_empty() {
                continue;
            }
            let name = name
                .to_str()
                .ok_or_else(|| anyhow!("`{}` is not UTF-8", path.display()))?;
            let head = Builder::new(name).ino(number);
            writer = entry
                .write(head, writer)
                .with_context(|| format!("can't pack `{}`", path.display()))?;
        }
        trailer(writer)?.flush()?;
        Ok(())
    }
}

impl Entry {
    fn write<W: Write>(&self, head: Builder, writer: W) -> Result<W> {
        match self {
            Self::Folder => put(
                head,
                ModeFileType::Directory,
                0o755,
                &mut io::empty(),
                0,
                writer,
            ),
            Self::Text { text, mode } => {
                let mut bytes = text.as_bytes();
                let size = bytes.len() as u64;
                put(head, ModeFileType::Regular, *mode, &mut bytes, size, writer)
            }
            Self::Copy(from) => {
                let mut file = File::open(from)?;
                let meta = file.metadata()?;
                let mode = meta.permissions().mode() & 0o7777;
                put(
                    head,
                    ModeFileType::Regular,
                    mode,
                    &mut file,
                    meta.len(),
                    writer,
                )
            }
        }
    }
}

fn put<W: Write>(
    head: Builder,
    kind: ModeFileType,
    mode: u32,
    content: &mut impl io::Read,
    size: u64,
    writer: W,
) -> Result<W> {
    let size = u32::try_from(size).context("longer than this kind of archive can hold")?;
    let mut entry = head.mode(mode).set_mode_file_type(kind).write(writer, size);
    io::copy(content, &mut entry)?;
    Ok(entry.finish()?)
}

/// The libraries that the dynamic linker loads for a program, itself included; none for one that is
/// linked statically.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new(tool("ldd", "libc-bin")?)
        .arg(program)
        .env("LC_ALL", "C")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !complaint.contains("not a dynamic executable") {
        bail!(
            "can't list the libraries of `{}`: {}",
            program.display(),
            complaint.trim()
        );
    }
    if let Some(line) = said.lines().find(|line| line.contains("not found")) {
        bail!("`{}` lacks a library: {}", program.display(), line.trim());
    }
    Ok(paths(&said))
}

/// The absolute paths in the lines of ldd(1): `name => /path (0x…)` or `/path (0x…)`.
fn paths(ldd: &str) -> Vec<PathBuf> {
    ldd.lines()
        .filter_map(|line| line.split_once(" (0x").map(|(start, _)| start.trim()))
        .map(|start| start.rsplit(" => ").next().unwrap_or(start))
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_paths_are_those_of_the_linker_too() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            paths(ldd),
            [
                Path::new("/lib/x/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert!(paths("\tstatically linked\n").is_empty());
    }

    #[test]
    fn an_archive_has_parents_before_files_and_keeps_modes() {
        let mut tree = Tree::default();
        tree.text("/a/b/run", "#!/bin/sh\n", 0o755);
        tree.folder("/tmp");
        let archive = std::env::temp_dir().join(format!("tree-{}", std::process::id()));
        tree.write(&archive).unwrap();
        let mut file = File::open(&archive).unwrap();
        let mut seen = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(file).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            seen.push((reader.entry().name().to_owned(), reader.entry().mode()));
            file = reader.skip().unwrap();
        }
        fs::remove_file(archive).unwrap();
        let expected = [
            ("a", 0o40755),
            ("a/b", 0o40755),
            ("a/b/run", 0o100_755),
            ("tmp", 0o40755),
        ];
        assert_eq!(seen, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }

    #[test]
    fn paths_that_leave_the_guests_root_are_refused() {
        let mut tree = Tree::default();
        let here = std::env::current_exe().unwrap();
        assert!(tree.copy(&here, Path::new("x/y")).is_err());
        assert!(tree.copy(&here, Path::new("/x/../../y")).is_err());
        assert!(tree.copy(Path::new("/nowhere"), Path::new("/x")).is_err());
    }
}
