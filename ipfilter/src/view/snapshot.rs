//! The state of an instance at one moment, from which metrics and health are made.

use std::fmt;

use jiff::Timestamp;

use super::services::Services;
use crate::{
    kernel::Count,
    plan::{Share, TableSizes},
    state::{Cause, Verified},
    view::fleet::FleetState,
};

/// What an instance is at, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The protected APIs' names, by index.
    pub apis: Vec<String>,
    /// By index, the share of sources that each API denies, of those that may not call it.
    pub shares: Vec<Share>,
    /// The counters, or why they can't be read.
    pub counts: Result<Vec<Count>, String>,
    /// The denied packets that were not reported to each reader of events, as far as known.
    pub unreported: Vec<(&'static str, u64)>,
    /// How large the source tables are.
    pub tables: TableSizes,
    /// How many interfaces are filtered.
    pub filtered: usize,
    /// The names and patterns of interfaces that are still to come.
    pub waiting: Vec<String>,
    /// SHA-256 of the plan in force, in hexadecimal, and since when it is; none if it is not known.
    pub deployed: Option<(String, Timestamp)>,
    /// Why interfaces that are there are not filtered.
    pub unattached: Option<String>,
    /// Why interfaces can't be watched.
    pub unwatched: Option<String>,
    /// The authorization services that read the policies; none where none is configured.
    pub services: Option<Services>,
    /// How the host is in its fleet, if it belongs to one.
    pub fleet: Option<FleetState>,
    /// Why what is in force is not what was asked for.
    pub degraded: Option<String>,
    /// Why the plan for this time is not in force, where another one should be.
    pub overdue: Option<String>,
    /// What others have undone and could not be repaired.
    pub unrepaired: Option<String>,
    /// What this process has done so far.
    pub tally: Tally,
    /// The next time at which the plan may be another.
    pub next_boundary: Option<Timestamp>,
    /// How the last verification went, if there was one.
    pub verified: Option<Verified>,
}

impl Snapshot {
    /// Everything that keeps the filter from being what was asked for; nothing if all is well. A
    /// reload that failed is not among it: what was asked for before is in force, as it should be.
    #[must_use]
    pub fn ailments(&self) -> Vec<Ailment> {
        let nothing = self.filtered == 0;
        let waiting = self.waiting.join(", ");
        let (nothing, waiting) = (
            nothing.then_some("every packet passes"),
            (!waiting.is_empty()).then_some(waiting.as_str()),
        );
        let all = [
            (Reason::NothingFiltered, nothing),
            (Reason::Waiting, waiting),
            (Reason::Unattached, self.unattached.as_deref()),
            (Reason::Unwatched, self.unwatched.as_deref()),
            (Reason::Degraded, self.degraded.as_deref()),
            (Reason::Overdue, self.overdue.as_deref()),
            (Reason::Unpinned, self.unrepaired.as_deref()),
            (
                Reason::Uncounted,
                self.counts.as_ref().err().map(String::as_str),
            ),
        ];
        let all = all.into_iter().filter_map(|(reason, detail)| {
            let detail = detail?.to_owned();
            Some(Ailment { reason, detail })
        });
        all.collect()
    }
}

/// Something that keeps the filter from being what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// What kind of thing it is.
    pub reason: Reason,
    /// What exactly.
    pub detail: String,
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.describe(), self.detail)
    }
}

/// Why an instance is not healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No interface is filtered.
    NothingFiltered,
    /// Interfaces that were asked for are not there.
    Waiting,
    /// Interfaces are there, and the filter could not be attached.
    Unattached,
    /// Interfaces that appear may go unnoticed for a while.
    Unwatched,
    /// Something else than what was asked for is in force.
    Degraded,
    /// The plan for this time is not in force.
    Overdue,
    /// The filter would not outlive the process.
    Unpinned,
    /// The counters can't be read.
    Uncounted,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NothingFiltered,
        Self::Waiting,
        Self::Unattached,
        Self::Unwatched,
        Self::Degraded,
        Self::Overdue,
        Self::Unpinned,
        Self::Uncounted,
    ];

    /// As metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NothingFiltered => "nothing_filtered",
            Self::Waiting => "waiting",
            Self::Unattached => "unattached",
            Self::Unwatched => "unwatched",
            Self::Degraded => "degraded",
            Self::Overdue => "overdue",
            Self::Unpinned => "unpinned",
            Self::Uncounted => "uncounted",
        }
    }

    /// As a person reads it.
    fn describe(self) -> &'static str {
        match self {
            Self::NothingFiltered => "no interface is filtered",
            Self::Waiting => "not filtered, because not there",
            Self::Unattached => "not filtered, because the filter can't be attached",
            Self::Unwatched => "interfaces that appear may be unfiltered for a second",
            Self::Degraded => "degraded, not what was asked for is in force",
            Self::Overdue => "the plan for this time can't be deployed",
            Self::Unpinned => "the filter is attached only as long as this process runs",
            Self::Uncounted => "the counters can't be read",
        }
    }
}

/// What a process has done since its start.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Deployments, by who asked for them.
    deployments: [u64; Cause::ALL.len()],
    /// Reloads that failed.
    pub reload_failures: u64,
    /// When the files were last read in order to be deployed, and whether they were.
    pub last_reload: (Timestamp, bool),
}

impl Tally {
    /// That of a process that has just deployed for the first time; `as_asked`: whether what
    /// the files say.
    #[must_use]
    pub fn begin(as_asked: bool) -> Self {
        let mut tally = Self {
            deployments: [0; Cause::ALL.len()],
            reload_failures: 0,
            last_reload: (Timestamp::now(), as_asked),
        };
        tally.deployed(Cause::Start);
        tally
    }

    /// Counts a deployment.
    pub fn deployed(&mut self, cause: Cause) {
        let counts = Cause::ALL.iter().zip(&mut self.deployments);
        for (_, count) in counts.filter(|(other, _)| **other == cause) {
            *count += 1;
        }
    }

    /// Counts a reload, and whether it was done.
    pub fn reloaded(&mut self, done: bool) {
        self.reload_failures += u64::from(!done);
        self.last_reload = (Timestamp::now(), done);
    }

    /// How often each cause has led to a deployment.
    pub fn deployments(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.into_iter().zip(self.deployments)
    }
}
