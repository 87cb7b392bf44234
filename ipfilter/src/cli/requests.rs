//! `ipfilter explain --request`: what a policy says of whole requests.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;
use jiff::Timestamp;

use super::format::Format;
use crate::{
    policy::{Policy, Request},
    view::explain::{Unanswered, View},
};

/// Answers each line of the file. Says whether all could be answered.
///
/// # Errors
///
/// When the file cannot be read, or an answer cannot be printed.
pub(super) fn answer(policy: &Policy, path: &Path, format: Format) -> anyhow::Result<bool> {
    let file: Box<dyn io::Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(path);
        Box::new(file.with_context(|| format!("cannot read the requests `{}`", path.display()))?)
    };
    let mut input = BufReader::new(file);
    let mut out = BufWriter::new(io::stdout().lock());
    let mut all_answered = true;
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = input.read_until(b'\n', &mut line);
        if read.with_context(|| format!("{}:{number}: cannot read", path.display()))? == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                let now = request.time.unwrap_or_else(Timestamp::now);
                let source = policy.explain(request.source, now);
                let view = View::of_both(&policy.decide(&request), &source);
                print(&mut out, format, &view)?;
            }
            Err(error) => {
                all_answered = false;
                print(&mut out, format, &Unanswered::new(number, &error))?;
            }
        }
        // A caller that waits for an answer before the next question gets it.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(all_answered)
}

fn print<V: serde::Serialize + std::fmt::Display>(
    out: &mut impl Write,
    format: Format,
    view: &V,
) -> anyhow::Result<()> {
    match format {
        Format::Text => writeln!(out, "{view}")?,
        Format::Json => {
            serde_json::to_writer(&mut *out, view)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
