//! Counting decisions about records.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::IpAddr,
};

use jiff::Timestamp;

use crate::{Decision, Judged};

/// The most sources that are counted separately; more are counted together.
const MOST_SOURCES: usize = 1_000_000;

/// The most that is kept of what could not be read, to show it.
const EXAMPLES: usize = 5;

/// Decisions about records.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records that were read.
    pub records: u64,
    /// What could not be read.
    pub unreadable: u64,
    /// The first things of that kind, with their places.
    pub examples: Vec<String>,
    /// Records by API, decision and reason.
    pub counts: BTreeMap<Count, u64>,
    /// Records of further sources, which are not counted one by one.
    pub left_out: u64,
    /// Records of which the decision changed, by what it was and is.
    pub changed: BTreeMap<(Decision, Decision), u64>,
    sources: HashMap<Key, Seen>,
}

/// What records are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// The API's index.
    pub api: Option<usize>,
    /// The decision about them.
    pub decision: Decision,
    /// Why.
    pub reason: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Key {
    source: IpAddr,
    was: Option<Decision>,
    decision: Decision,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    count: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// A source's records with the same decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceCount {
    /// The source.
    pub source: IpAddr,
    /// What was decided by the policy that was compared with, if there was one.
    pub was: Option<Decision>,
    /// What was decided.
    pub decision: Decision,
    /// How many records.
    pub count: u64,
    /// When the first one was, if records have times.
    pub first: Option<Timestamp>,
    /// When the last one was.
    pub last: Option<Timestamp>,
}

impl Tally {
    /// Counts a record; `was` is what was decided by the policy that is compared with, if there is one: then only
    /// sources with another decision are kept.
    pub fn add(&mut self, judged: &Judged, was: Option<Decision>, time: Option<Timestamp>) {
        self.records += 1;
        let count = Count {
            api: judged.api,
            decision: judged.decision,
            reason: judged.reason,
        };
        *self.counts.entry(count).or_default() += 1;
        let changed = was.filter(|was| *was != judged.decision);
        if let Some(was) = changed {
            *self.changed.entry((was, judged.decision)).or_default() += 1;
        }
        let wanted = match was {
            Some(_) => changed.is_some(),
            None => judged.decision != Decision::Other,
        };
        if let Some(source) = judged.source.filter(|_| wanted) {
            let decision = judged.decision;
            self.see(
                Key {
                    source,
                    was: changed,
                    decision,
                },
                time,
            );
        }
    }

    fn see(&mut self, key: Key, time: Option<Timestamp>) {
        let room = self.sources.len() < MOST_SOURCES;
        match self.sources.entry(key) {
            Entry::Occupied(mut seen) => {
                let seen = seen.get_mut();
                seen.count += 1;
                // Logs are not always in the order of time.
                seen.first = seen.first.into_iter().chain(time).min();
                seen.last = seen.last.into_iter().chain(time).max();
            }
            Entry::Vacant(vacant) if room => {
                vacant.insert(Seen {
                    count: 1,
                    first: time,
                    last: time,
                });
            }
            Entry::Vacant(_) => self.left_out += 1,
        }
    }

    /// Counts something that could not be read, and keeps the first few to show them.
    pub fn unreadable(&mut self, what: impl FnOnce() -> String) {
        self.unreadable += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(what());
        }
    }

    /// Records by decision.
    #[must_use]
    pub fn decided(&self, decision: Decision) -> u64 {
        let counts = self.counts.iter();
        counts
            .filter(|(count, _)| count.decision == decision)
            .map(|(_, number)| number)
            .sum()
    }

    /// The sources: those that are denied first, of each decision the ones with most records first.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceCount> {
        let mut all: Vec<SourceCount> = self
            .sources
            .iter()
            .map(|(key, seen)| SourceCount {
                source: key.source,
                was: key.was,
                decision: key.decision,
                count: seen.count,
                first: seen.first,
                last: seen.last,
            })
            .collect();
        all.sort_by_key(|it| (it.decision, std::cmp::Reverse(it.count), it.source, it.was));
        all
    }
}
