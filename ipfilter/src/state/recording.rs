//! Denied packets on disk: lines of JSON in files that begin at a time, the oldest of which are removed.
//!
//! Nothing depends on them. A line that can't be read, such as half of one that a power cut left, is passed over.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;

use crate::{config::Recording, instance::Instance};

/// How files are called: this, the second at which each begins, and [`END`].
const BEGIN: &str = "denied-";
const END: &str = ".jsonl";

/// A new file is begun each day.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A file is at most one in so many of the bytes that all may take.
const PARTS: u64 = 16;

/// The longest line that is read, in bytes.
const LONGEST: u64 = 4096;

/// A file.
struct Part {
    begins: Timestamp,
    path: PathBuf,
    size: u64,
}

/// Where the files of an instance are.
fn folder(instance: &Instance) -> PathBuf {
    instance.state().join("denied")
}

/// The files, the oldest first.
fn parts(instance: &Instance) -> io::Result<Vec<Part>> {
    let entries = match fs::read_dir(folder(instance)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let part = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let second = name.to_str()?.strip_prefix(BEGIN)?.strip_suffix(END)?;
        Some(Part {
            begins: Timestamp::from_second(second.parse().ok()?).ok()?,
            path: entry.path(),
            size: entry.metadata().ok()?.len(),
        })
    };
    let mut parts: Vec<_> = entries.flatten().filter_map(part).collect();
    parts.sort_by_key(|part| part.begins);
    Ok(parts)
}

/// Adds whole lines, and removes what is too old or too much.
///
/// # Errors
///
/// When that fails; then they are lost.
pub(crate) fn record(
    instance: &Instance,
    recording: Recording,
    lines: &str,
    now: Timestamp,
) -> anyhow::Result<()> {
    let folder = folder(instance);
    let append = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        let mut parts = parts(instance)?;
        let fits = |part: &Part| {
            // A clock that was set back begins a file too.
            let is_today = part.begins <= now && now.duration_since(part.begins) < DAY;
            is_today && part.size < recording.max_bytes / PARTS
        };
        let path = match parts.last().filter(|part| fits(part)) {
            Some(part) => part.path.clone(),
            None => folder.join(format!("{BEGIN}{}{END}", now.as_second())),
        };
        append(&path, lines)?;
        parts.retain(|part| part.path != path);
        remove(&parts, recording, now)
    };
    append().with_context(|| format!("can't write to `{}`", folder.display()))
}

fn append(path: &PathBuf, lines: &str) -> io::Result<()> {
    let mut file = File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    // Half a line that a crash left must not spoil the next one.
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(lines.as_bytes())
}

/// Removes the oldest of `parts`, beside which there is the present one.
fn remove(parts: &[Part], recording: Recording, now: Timestamp) -> io::Result<()> {
    let most = recording.max_bytes - recording.max_bytes / PARTS;
    let kept = SignedDuration::from_hours(24 * i64::from(recording.days));
    let mut size = 0;
    for part in parts.iter().rev() {
        size += part.size;
        let is_old = now.duration_since(part.begins) > kept + DAY;
        if size > most || is_old {
            fs::remove_file(&part.path)?;
        }
    }
    Ok(())
}

/// Hands each line that was recorded, and is a `T`, to `each`, the oldest first, until that fails. Returns how
/// many files there are.
///
/// # Errors
///
/// When a file can't be read, or `each` fails.
pub fn recorded<T: DeserializeOwned>(
    instance: &Instance,
    since: Timestamp,
    mut each: impl FnMut(&str, T) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    let folder = folder(instance);
    let failed = || format!("can't read `{}`", folder.display());
    let parts = parts(instance).with_context(failed)?;
    for (index, part) in parts.iter().enumerate() {
        // Whatever is in it came before the next one.
        if parts.get(index + 1).is_some_and(|next| next.begins < since) {
            continue;
        }
        let mut lines = BufReader::new(File::open(&part.path).with_context(failed)?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(LONGEST).read_until(b'\n', &mut line);
            if read.with_context(failed)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if let Ok(one) = serde_json::from_str(text) {
                each(text, one)?;
            }
        }
    }
    Ok(parts.len())
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn the_oldest_go_and_what_is_left_is_read_in_order() {
        let instance: Instance = format!("recording-{}", process::id()).parse().unwrap();
        let home = folder(&instance);
        assert!(home.ends_with("denied") || env::var_os("STATE_DIRECTORY").is_some());
        let recording = Recording {
            days: 2,
            max_bytes: 1 << 16,
        };
        let begin = Timestamp::from_second(1_800_000_000).unwrap();
        let line = |number: u32| {
            format!(
                "{{\"number\": {number}, \"filler\": \"{}\"}}\n",
                "x".repeat(1000)
            )
        };
        for number in 0..200 {
            let now = begin + SignedDuration::from_mins(i64::from(number));
            record(&instance, recording, &line(number), now).unwrap();
        }
        let read = || {
            let mut numbers = Vec::new();
            recorded(&instance, begin, |_, one: serde_json::Value| {
                numbers.push(one["number"].as_u64().unwrap());
                Ok(())
            })
            .unwrap();
            numbers
        };
        let size: u64 = parts(&instance).unwrap().iter().map(|part| part.size).sum();
        assert!(size <= recording.max_bytes, "{size}");
        let numbers = read();
        assert_eq!(numbers.last(), Some(&199));
        assert!(numbers.len() > 30, "{numbers:?}");
        assert!(numbers.is_sorted());
        // Half a line is passed over.
        let last = parts(&instance).unwrap().pop().unwrap().path;
        append(&last, "{\"number\": 9").unwrap();
        let much_later = begin + SignedDuration::from_hours(10);
        record(&instance, recording, &line(300), much_later).unwrap();
        assert_eq!(read().last(), Some(&300));
        let days_later = begin + SignedDuration::from_hours(24 * 9);
        record(&instance, recording, &line(400), days_later).unwrap();
        assert_eq!(read(), [400]);
        fs::remove_dir_all(instance.state()).unwrap();
    }
}
