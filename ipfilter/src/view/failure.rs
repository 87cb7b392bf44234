//! Why there is no deployment, and warnings of one, in words.

use std::fmt;

use anstream::adapter::strip_str;

use super::diagnostics::render_all;
use crate::{document::problem::Findings, failure::Failure};

/// A failure as an operator reads it. The stream it is written to takes the colours out where they are not
/// wanted.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(findings) | Self::Config(findings) => f.write_str(&problems(findings)),
            Self::Partial(findings) => write!(
                f,
                "the policy can be enforced only in part, which `--allow-partial` permits:\n\n{}",
                problems(findings)
            ),
            Self::Usage(text) | Self::Guarded(text) => f.write_str(text),
            Self::Dataplane(error) => error.fmt(f),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

/// A failure without colours, to be kept.
#[must_use]
pub fn plain(failure: &Failure) -> String {
    strip_str(&failure.to_string()).to_string()
}

/// A failure without colours and excerpts, for one line.
#[must_use]
pub fn in_a_line(failure: &Failure) -> String {
    let plain = plain(failure);
    let lines = plain.lines().map(str::trim);
    let headings = lines.take_while(|line| !line.starts_with('|') && !line.starts_with("╭"));
    let headings: Vec<_> = headings.filter(|line| !line.is_empty()).collect();
    let line = headings.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// All that there is to say about a document.
#[must_use]
pub fn problems(findings: &Findings) -> String {
    render_all(&findings.source, &findings.problems)
}
