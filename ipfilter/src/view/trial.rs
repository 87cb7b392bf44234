//! A trial, as `status` shows it.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use crate::state::{Purpose, Trial};

/// What holds only until a deadline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct TrialStatus {
    purpose: Purpose,
    /// When it ends; none if it is over.
    until: Option<Timestamp>,
    overdue: bool,
    #[serde(skip)]
    text: String,
    /// Whether a process runs the instance.
    #[serde(skip)]
    is_kept: bool,
}

impl TrialStatus {
    pub(super) fn new(trial: &Trial, is_kept: bool) -> Self {
        let until = trial.ends();
        Self {
            purpose: trial.purpose,
            until,
            overdue: until.is_none(),
            text: trial.to_string(),
            is_kept,
        }
    }
}

impl fmt::Display for TrialStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match (self.overdue, self.purpose) {
            (false, Purpose::Change) => "on trial    ",
            (false, Purpose::Pause) => "detached    ",
            (true, _) => "overdue     ",
        };
        write!(f, "{label}{}", self.text)?;
        match (self.overdue, self.is_kept) {
            (true, false) => f.write_str(
                ", and no process has done it: `ipfilter rollback` does it now, and so does the next \
                 `ipfilter run`",
            ),
            (true, true) => f.write_str(": the log says why it is not done yet"),
            (false, _) => Ok(()),
        }
    }
}
