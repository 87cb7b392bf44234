//! What the service has decided, as it reports it once a second.
//!
//! The service answers strangers and may be in their hands, so whoever reads a report bounds it: how many entries it
//! has, how long a text is, and which characters are in it.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest report, in bytes.
pub const LONGEST_REPORT: usize = 128 << 10;

/// The most counters of a report.
const MOST_COUNTERS: usize = 256;

/// The most denied requests of a report.
const MOST_DENIED: usize = 50;

/// The most characters of a text, such as a path.
const LONGEST_TEXT: usize = 256;

/// What a service has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The requests that were judged since it started.
    pub decided: Vec<Decided>,
    /// Those that were denied without being judged since it started.
    pub refused: Vec<Refused>,
    /// Denied requests since the report before.
    pub denied: Vec<Denied>,
    /// How many more requests were denied since then.
    pub unreported: u64,
}

/// How many requests of an API a statement has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The API's name.
    pub api: String,
    /// Whether they were allowed.
    pub allowed: bool,
    /// The statement, as metrics name it.
    pub statement: String,
    /// How many.
    pub requests: u64,
}

/// How many requests were denied without being judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, as metrics name it.
    pub reason: String,
    /// How many.
    pub requests: u64,
}

/// A request that was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// When.
    pub time: Timestamp,
    /// The API's name, if it is known.
    pub api: Option<String>,
    /// `explicit_deny`, `implicit_deny`, `override`, or why it was not judged, as metrics name it.
    pub reason: String,
    /// The statement that denied it, if one did.
    pub statement: Option<String>,
    /// The client, if it is known.
    pub source: Option<IpAddr>,
    /// The method, if it is known.
    pub method: Option<String>,
    /// The path, if it is known.
    pub path: Option<String>,
}

impl Report {
    /// Whether there is a place for another denied request.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.denied.len() < MOST_DENIED
    }

    /// The report within its bounds. What is left out of the denied requests is counted.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.decided.truncate(MOST_COUNTERS);
        self.refused.truncate(MOST_COUNTERS);
        self.leave_out(MOST_DENIED);
        for one in &mut self.decided {
            bound(&mut one.api);
            bound(&mut one.statement);
        }
        for one in &mut self.refused {
            bound(&mut one.reason);
        }
        for one in &mut self.denied {
            bound(&mut one.reason);
            let texts = [
                &mut one.api,
                &mut one.statement,
                &mut one.method,
                &mut one.path,
            ];
            texts.into_iter().flatten().for_each(bound);
        }
        self
    }

    fn leave_out(&mut self, kept: usize) {
        let left_out = self.denied.len().saturating_sub(kept);
        self.denied.truncate(kept);
        self.unreported = self.unreported.saturating_add(left_out as u64);
    }

    /// As JSON, no longer than a report may be.
    ///
    /// # Errors
    ///
    /// When it can't be written as JSON.
    pub(crate) fn text(&self) -> serde_json::Result<String> {
        let mut report = self.clone().bounded();
        loop {
            let text = serde_json::to_string(&report)?;
            if text.len() < LONGEST_REPORT {
                return Ok(text);
            }
            if report.denied.is_empty() {
                report.decided.truncate(report.decided.len() / 2);
                report.refused.truncate(report.refused.len() / 2);
            }
            report.leave_out(report.denied.len() / 2);
        }
    }
}

/// Clips a text, and replaces what a terminal would act on rather than show.
fn bound(text: &mut String) {
    let is_shown = |character: char| {
        matches!(character, '"' | '\'' | '\\') || character.escape_debug().len() == 1
    };
    if text.chars().take(LONGEST_TEXT + 1).count() > LONGEST_TEXT || !text.chars().all(is_shown) {
        let bounded = text.chars().take(LONGEST_TEXT);
        *text = bounded
            .map(|character| match is_shown(character) {
                true => character,
                false => char::REPLACEMENT_CHARACTER,
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reply;

    fn denied(path: &str) -> Denied {
        Denied {
            time: Timestamp::UNIX_EPOCH,
            api: Some("api".to_owned()),
            reason: "implicit_deny".to_owned(),
            statement: None,
            source: "203.0.113.7".parse().ok(),
            method: Some("GET".to_owned()),
            path: Some(path.to_owned()),
        }
    }

    #[test]
    fn whatever_a_report_holds_is_bounded() {
        let decided = Decided {
            api: "a".repeat(1000),
            allowed: true,
            statement: "\u{202e}\u{1b}[2J".to_owned(),
            requests: u64::MAX,
        };
        let refused = Refused {
            reason: "\u{ffff}".repeat(1000),
            requests: 1,
        };
        let report = Report {
            decided: vec![decided; 1000],
            refused: vec![refused; 1000],
            denied: vec![denied(&"\u{10ffff}\n".repeat(1000)); 1000],
            unreported: u64::MAX - 1,
        };
        let bounded = report.clone().bounded();
        assert_eq!(bounded.decided.len(), MOST_COUNTERS);
        assert_eq!(bounded.denied.len(), MOST_DENIED);
        assert_eq!(bounded.unreported, u64::MAX);
        let shown = format!("{bounded:?}");
        assert!(
            !shown.contains("\\u{1b}") && !shown.contains("\\n"),
            "{shown}"
        );
        let line = Reply::Counted(report).to_string();
        assert!(line.len() < LONGEST_REPORT + 16, "{}", line.len());
        assert!(matches!(line.parse(), Ok(Reply::Counted(_))));
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let report = Report {
            denied: vec![denied("/pets/\"a'\\"); MOST_DENIED + 3],
            ..Report::default()
        };
        let Ok(Reply::Counted(read)) = Reply::Counted(report).to_string().parse() else {
            panic!("another reply");
        };
        assert_eq!((read.denied.len(), read.unreported), (MOST_DENIED, 3));
        assert_eq!(read.denied[0], denied("/pets/\"a'\\"));
        assert!(!read.has_place());
    }
}
