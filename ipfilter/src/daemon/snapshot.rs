//! What an instance is at, at one moment: what metrics and health are told from.

use jiff::Timestamp;

use crate::kernel::{Count, TableSizes};
use crate::state::{ApiRecord, Cause};

/// What an instance is at, at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The protected APIs' names, by index.
    pub apis: Vec<String>,
    /// What was counted, or why that can't be told.
    pub counts: Result<Vec<Count>, String>,
    /// The denied packets that each reader of events was not told of, as far as it can be said.
    pub unreported: Vec<(&'static str, u64)>,
    /// How large the source tables are.
    pub tables: TableSizes,
    /// How many interfaces are filtered.
    pub filtered: usize,
    /// The names and patterns of interfaces that are still to come.
    pub waiting: Vec<String>,
    /// SHA-256 of the plan in force, in hexadecimal, and since when it is; none if it is not known.
    pub deployed: Option<(String, Timestamp)>,
    /// Why what is in force is not what was asked for.
    pub degraded: Option<String>,
    /// Why the plan for this time is not in force, where another one should be.
    pub overdue: Option<String>,
    /// What others have undone and could not be put right.
    pub unmended: Option<String>,
    /// What this process has done so far.
    pub tally: Tally,
    /// The next time at which the plan may be another.
    pub next_boundary: Option<Timestamp>,
}

impl Snapshot {
    /// Everything that keeps the filter from being what was asked for; nothing if all is well. A
    /// reload that failed is not among it: what was asked for before is in force, as it should be.
    #[must_use]
    pub fn ailments(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.filtered == 0 {
            all.push("no interface is filtered: every packet passes".to_owned());
        }
        if !self.waiting.is_empty() {
            let names = self.waiting.join(", ");
            all.push(format!("not filtered, because not there: {names}"));
        }
        let told = [
            (
                "degraded, not what was asked for is in force",
                &self.degraded,
            ),
            ("the plan for this time can't be deployed", &self.overdue),
            (
                "the filter stands only as long as this process",
                &self.unmended,
            ),
        ];
        for (what, why) in told {
            all.extend(why.as_ref().map(|why| format!("{what}: {why}")));
        }
        let uncounted = self.counts.as_ref().err().cloned();
        all.extend(uncounted);
        all
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
    /// That of a process that has just deployed for the first time; `as_asked` tells whether what
    /// the files say.
    pub(super) fn begin(as_asked: bool) -> Self {
        let mut tally = Self {
            deployments: [0; Cause::ALL.len()],
            reload_failures: 0,
            last_reload: (Timestamp::now(), as_asked),
        };
        tally.deployed(Cause::Start);
        tally
    }

    pub(super) fn deployed(&mut self, cause: Cause) {
        let counts = Cause::ALL.iter().zip(&mut self.deployments);
        for (_, count) in counts.filter(|(other, _)| **other == cause) {
            *count += 1;
        }
    }

    pub(super) fn reloaded(&mut self, done: bool) {
        self.reload_failures += u64::from(!done);
        self.last_reload = (Timestamp::now(), done);
    }

    /// How often each cause has led to a deployment.
    pub fn deployments(&self) -> impl Iterator<Item = (Cause, u64)> + '_ {
        Cause::ALL.into_iter().zip(self.deployments)
    }
}

pub(super) fn names(apis: &[ApiRecord]) -> Vec<String> {
    apis.iter().map(|api| api.name.clone()).collect()
}
