//! When a plan is right, and how much time what is done about it takes.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

/// The time in which a plan is right: from one boundary to the next. Without an end where there is
/// no boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Span {
    pub(in crate::daemon) from: Option<Timestamp>,
    pub(in crate::daemon) until: Option<Timestamp>,
}

impl Span {
    pub(super) fn contains(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    pub(super) fn is_always(self) -> bool {
        self == Self::default()
    }
}

/// How many durations are remembered.
const REMEMBERED: usize = 16;

/// How long the last of something took.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<SignedDuration>);

impl Recent {
    pub(super) fn push(&mut self, took: SignedDuration) {
        self.0.push_back(took);
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// The longest; zero before the first.
    pub(super) fn longest(&self) -> SignedDuration {
        self.0.iter().max().copied().unwrap_or_default()
    }
}
