//! What happened to an instance, as lines of JSON in a file that does not grow for ever.
//!
//! Nothing depends on it: a line that can't be read, such as half of one that a power cut left, is
//! passed over. One process writes at a time, the one that holds the instance's lock.

use std::{
    fmt,
    fs::{self, DirBuilder, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use jiff::Timestamp;
use log::warn;
use serde::{Deserialize, Serialize};

use super::Requester;
use crate::{files, instance::Instance};

/// How many entries about overrides, and how many others, are kept: bans that come by the hundred
/// must not push out the last reload.
const KEPT: usize = 200;

/// The size in bytes from which the file is shortened.
const LONG: u64 = 256 << 10;

/// The most bytes that are read: a file that is longer is not ours.
const LIMIT: u64 = 64 << 20;

/// The most characters of a description.
const WIDEST: usize = 300;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// Who or what asked for it.
    pub by: Requester,
    /// SHA-256 of the plan in force afterwards, in hexadecimal; none if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What happened, in one line; empty where the kind says it all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub what: String,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $label:literal;)*) => {
        /// What kind of thing happened.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Kind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As programs read it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// As people read it.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

kinds! {
    /// A process began to run the instance.
    Start: "start", "started";
    /// The process that ran the instance was asked to end.
    Stop: "stop", "stopped";
    /// The files were deployed by a process that did not stay.
    Deploy: "deploy", "deployed";
    /// The files were deployed anew.
    Reload: "reload", "reloaded";
    /// A bundle of the fleet was deployed.
    Release: "release", "released";
    /// The deployment before took the place of the one in force.
    Rollback: "rollback", "rolled back";
    /// Something that was asked for, or was due, failed.
    Failure: "failure", "failed";
    /// Another plan was due by the policies' dates.
    Boundary: "time_boundary", "time boundary";
    /// The clock was set.
    ClockSet: "clock_set", "clock set";
    /// An interface got another name.
    Rename: "rename", "renamed";
    /// The filter was attached to an interface.
    Attach: "attach", "attached";
    /// The filter was detached from an interface, or the interface went away.
    Detach: "detach", "detached";
    /// What somebody undid was repaired.
    Repair: "repair", "repaired";
    /// Overrides were made, or got another end.
    OverrideAdded: "override_added", "override added";
    /// Overrides were removed before their end.
    OverrideRemoved: "override_removed", "override removed";
    /// Overrides came to their end.
    OverrideEnded: "override_ended", "override ended";
    /// A deployment that was to be confirmed was.
    Confirm: "confirm", "confirmed";
    /// A deployment that was to be confirmed was not, and was rolled back.
    ConfirmMissed: "confirm_missed", "not confirmed";
}

impl Kind {
    fn is_override(self) -> bool {
        matches!(
            self,
            Self::OverrideAdded | Self::OverrideRemoved | Self::OverrideEnded
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

impl Entry {
    /// Something that happens now.
    #[must_use]
    pub fn now(kind: Kind, by: Requester, digest: Option<String>, what: &str) -> Self {
        Self {
            time: Timestamp::now(),
            kind,
            by,
            digest,
            what: one_line(what),
        }
    }
}

/// The first lines of a text as one, without control characters, and of a length to be shown.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    match line.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{} …", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// Adds entries to those of `instance`, the oldest first. A failure is logged: nothing depends on it.
pub(crate) fn note(instance: &Instance, entries: &[Entry]) {
    if let Err(error) = append(&path(instance), entries) {
        warn!("`status` will not show what happened just now: {error:#}");
    }
}

/// What happened to `instance`, the oldest first.
///
/// # Errors
///
/// When the file is there and can't be read.
pub fn activity(instance: &Instance) -> anyhow::Result<Vec<Entry>> {
    read(&path(instance))
}

fn path(instance: &Instance) -> PathBuf {
    instance.state().join("activity.jsonl")
}

fn append(path: &Path, entries: &[Entry]) -> anyhow::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let lines = lines(entries)?;
    let append = || {
        let mut file = open(path)?;
        // Half a line is left alone, and takes no other with it.
        if !ends_with_line(&mut file)? {
            file.write_all(b"\n")?;
        }
        file.write_all(&lines)?;
        Ok::<_, io::Error>(file.metadata()?.len())
    };
    let length = append().with_context(|| format!("can't write `{}`", path.display()))?;
    if length > LONG {
        shorten(path)?;
    }
    Ok(())
}

fn lines(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut options = File::options();
    options.read(true).append(true).create(true).mode(0o600);
    // The folder is root's own: a link in it is a mistake, and is not followed.
    options.custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

fn ends_with_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    let bytes = match files::read(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("can't read `{}`", path.display()));
        }
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// Leaves the latest entries alone. The file is replaced as a whole: a crash leaves one or the other.
fn shorten(path: &Path) -> anyhow::Result<()> {
    let lines = lines(&latest(read(path)?))?;
    let beside = path.with_extension("new");
    let replace = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open(&beside)?;
        file.write_all(&lines)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    replace().with_context(|| format!("can't shorten `{}`", path.display()))
}

/// The latest [`KEPT`] about overrides, and as many others, in their order.
fn latest(mut entries: Vec<Entry>) -> Vec<Entry> {
    let (mut overrides, mut others) = (0, 0);
    entries.reverse();
    entries.retain(|entry| {
        let count = if entry.kind.is_override() {
            &mut overrides
        } else {
            &mut others
        };
        *count += 1;
        *count <= KEPT
    });
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests;
