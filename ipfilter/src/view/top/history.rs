//! How many packets had which verdict, second by second.

use std::{collections::VecDeque, time::Duration};

use super::Sample;

/// How many samples are remembered.
const REMEMBERED: usize = 300;

/// The packets at one interface, or the requests, to one API or to none, with one verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The API's name.
    pub api: String,
    /// The interface's name; `requests` for what authorization services decide.
    pub interface: String,
    /// `pass`, `drop`, `reject` or `respond`; of requests `allow` or `deny`.
    pub verdict: &'static str,
    /// How many there were in all.
    pub total: u64,
    /// How many a second, the latest last.
    pub rates: VecDeque<u64>,
}

impl Line {
    /// What it is searched by.
    pub(super) fn name(&self) -> String {
        format!("{} {} {}", self.api, self.interface, self.verdict)
    }

    /// The latest rate.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.rates.back().copied().unwrap_or(0)
    }

    fn is(&self, other: &Self) -> bool {
        (&self.api, &self.interface, self.verdict) == (&other.api, &other.interface, other.verdict)
    }
}

/// The lines as they are, and as they are shown.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: Vec<Line>,
    shown: Vec<Line>,
    /// Whether there was a sample to compare with.
    begun: bool,
}

impl History {
    /// Counts on. What has never been seen yet has no line.
    pub(super) fn push(&mut self, sample: &Sample) {
        let totals = totals(sample);
        // What is not there any more, such as an interface that is gone.
        self.lines
            .retain(|line| totals.iter().any(|total| total.is(line)));
        for total in totals {
            let known = self.lines.iter_mut().find(|line| line.is(&total));
            match known {
                Some(line) => {
                    let risen = total.total.saturating_sub(line.total);
                    line.rates.push_back(rate(risen, sample.since));
                    line.total = total.total;
                    while line.rates.len() > REMEMBERED {
                        line.rates.pop_front();
                    }
                }
                None => {
                    let new = if self.begun { total.total } else { 0 };
                    let rates = VecDeque::from([rate(new, sample.since)]);
                    self.lines.push(Line { rates, ..total });
                }
            }
        }
        self.begun = true;
    }

    /// Shows what has been counted so far.
    pub(super) fn show(&mut self) {
        self.shown.clone_from(&self.lines);
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &Line> {
        self.shown.iter().filter(|line| line.total > 0)
    }
}

/// The packets a second, rounded up: one packet is seen.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate to look at"
)]
fn rate(packets: u64, since: Duration) -> u64 {
    (packets as f64 / since.as_secs_f64().max(0.001)).ceil() as u64
}

fn totals(sample: &Sample) -> Vec<Line> {
    let apis = sample.record.current().map_or(&[][..], |now| &now.apis);
    let name = |index: u32| {
        let api = apis.get(index as usize);
        api.map_or_else(|| format!("#{index}"), |api| api.name.clone())
    };
    let packets = sample.counts.iter().map(|count| Line {
        api: count.api.map_or_else(|| "-".to_owned(), name),
        interface: count.interface.clone().unwrap_or_else(|| "-".to_owned()),
        verdict: count.reason.outcome().name(),
        total: count.total.packets,
        rates: VecDeque::new(),
    });
    let requests = sample.requests.iter().map(|count| Line {
        api: count.api.clone().unwrap_or_else(|| "-".to_owned()),
        interface: "requests".to_owned(),
        verdict: if count.allowed { "allow" } else { "deny" },
        total: count.requests,
        rates: VecDeque::new(),
    });
    let mut totals: Vec<Line> = Vec::new();
    for line in packets.chain(requests) {
        match totals.iter_mut().find(|other| other.is(&line)) {
            Some(same) => same.total = same.total.wrapping_add(line.total),
            None => totals.push(line),
        }
    }
    totals
}
