//! The policy corpus, read: what documented policies mean for documented sources (see its README).

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Policies that an interface can enforce exactly, whatever the time.
pub(crate) const EXACT: &str = include_str!("../corpus/exact.jsonl");
/// The same, whose answers change with the clock: every probe has its time.
pub(crate) const TIME: &str = include_str!("../corpus/time.jsonl");
/// Policies that an interface can only enforce in part.
pub(crate) const PARTIAL: &str = include_str!("../corpus/partial.jsonl");
/// Documents that are no legal policies.
pub(crate) const INVALID: &str = include_str!("../corpus/invalid.jsonl");

/// Policies and whole requests.
pub(crate) const REQUESTS: &str = include_str!("../corpus/requests.jsonl");

/// A legal policy, and what is known of sources.
#[derive(Deserialize)]
pub(crate) struct Case<'c> {
    pub(crate) name: &'c str,
    #[serde(borrow)]
    pub(crate) policy: &'c RawValue,
    #[serde(default)]
    pub(crate) probes: Vec<Probe>,
    #[serde(default)]
    pub(crate) must_drop: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) must_drop_relational: Vec<IpAddr>,
    #[serde(default)]
    pub(crate) must_pass: Vec<Pass>,
}

/// What a source must be answered.
#[derive(Deserialize)]
pub(crate) struct Probe {
    pub(crate) source: IpAddr,
    pub(crate) expected: String,
    pub(crate) kind: Option<String>,
    pub(crate) time: Option<Timestamp>,
}

/// A source that some request must get through from.
#[derive(Deserialize)]
pub(crate) struct Pass {
    pub(crate) source: IpAddr,
}

/// A document, and the JSON path at which it is wrong.
#[derive(Deserialize)]
pub(crate) struct Invalid {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) policy_text: String,
}

/// The objects of a file, one a line.
pub(crate) fn lines<'c, T: Deserialize<'c>>(text: &'c str) -> impl Iterator<Item = T> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("the corpus is JSON Lines"))
}
