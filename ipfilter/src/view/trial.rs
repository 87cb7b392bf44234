//! A trial, as `status` shows it.

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

    /// What kind of thing holds.
    pub(super) fn label(&self) -> &'static str {
        match (self.overdue, self.purpose) {
            (false, Purpose::Change) => "on trial",
            (false, Purpose::Pause) => "detached",
            (true, _) => "overdue",
        }
    }

    /// Until when, and what to do about it.
    pub(super) fn words(&self) -> String {
        let more = match (self.overdue, self.is_kept) {
            (true, false) => {
                ", and no process has done it: `ipfilter rollback` does it now, and so does the next \
                 `ipfilter run`"
            }
            (true, true) => ": the log says why it is not done yet",
            (false, _) => "",
        };
        format!("{}{more}", self.text)
    }
}
