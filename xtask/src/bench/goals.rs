//! What has to be reached, and whether it was.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    authorize,
    respond::{self, Refuser},
    results::Results,
};

/// One thing to reach.
#[derive(Debug)]
pub(super) struct Goal {
    what: String,
    limit: f64,
    /// Whether less is better.
    at_most: bool,
    /// What was measured; nothing if it was not.
    measured: Option<f64>,
}

impl Goal {
    fn at_most(what: impl Into<String>, limit: f64, measured: Option<f64>) -> Self {
        Self {
            what: what.into(),
            limit,
            at_most: true,
            measured,
        }
    }

    fn at_least(what: impl Into<String>, limit: f64, measured: Option<f64>) -> Self {
        Self {
            at_most: false,
            ..Self::at_most(what, limit, measured)
        }
    }

    fn outcome(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(measured) if (measured <= self.limit) == self.at_most => "reached",
            Some(measured) if measured == self.limit => "reached",
            Some(_) => "missed",
        }
    }
}

/// All goals.
pub(super) fn judge(results: &Results) -> Vec<Goal> {
    let mut goals = packets(results);
    goals.extend(floods(results));
    goals.extend(reports(results));
    goals.extend(loads(results));
    goals.extend(refusals(results));
    goals.extend(authorization(results));
    goals
}

fn packets(results: &Results) -> Vec<Goal> {
    let ns = |case: &str, program: &str| results.median("packet", case, program);
    let ratio = |case: &str| Some(ns(case, "intervals")? / ns(case, "drop")?);
    let above = |case: &str| Some(ns(case, "intervals")? - ns(case, "parse")?);
    let mut goals = Vec::new();
    for (case, limit) in [
        ("IPv4 sparse 1000000 random", 5.0),
        ("IPv4 sparse 1000 random", 2.5),
        ("IPv4 dense 500000 inside", 3.5),
        ("IPv6 sparse 100000 random", 6.0),
        ("IPv6 sparse 100000 inside", 6.0),
        ("IPv6 long 100000 inside", 6.0),
        ("IPv6 clusters 100000 inside", 6.0),
    ] {
        let what = format!("{case}: intervals, times XDP_DROP");
        goals.push(Goal::at_most(what, limit, ratio(case)));
    }
    for (case, limit) in [
        ("IPv4 sparse 1000000 random", 30.0),
        ("IPv6 sparse 1000000 random", 80.0),
        ("IPv6 sparse 1000000 inside", 80.0),
        ("IPv6 sparse 100000 random", 25.0),
        ("IPv6 sparse 100000 inside", 25.0),
        ("IPv6 long 100000 inside", 40.0),
    ] {
        let what = format!("{case}: intervals, ns above parsing");
        goals.push(Goal::at_most(what, limit, above(case)));
    }
    let slower = results
        .cases("packet")
        .into_iter()
        .filter_map(|case| Some(ns(case, "intervals")? - ns(case, "trie")?));
    let what = "intervals, ns slower than the trie where they are slowest beside it";
    goals.push(Goal::at_most(what, 2.0, slower.reduce(f64::max)));
    goals
}

/// Ratios to what ran in the same rounds.
fn floods(results: &Results) -> Vec<Goal> {
    let of = |case: &str, contender: &str| {
        results.median("flood", &format!("{case} prefixes"), contender)
    };
    let to = |case: &str, unit: &str| Some(of(case, "ipfilter")? / of(case, unit)?);
    let mut goals = Vec::new();
    for (case, unit, limit) in [
        ("IPv4 denied, 10", "lean program", 1.2),
        ("IPv4 denied, 1000", "lean program", 1.2),
        ("IPv4 denied, 10", "xdp-filter", 1.0),
        ("IPv4 denied, 100000", "XDP_DROP", 3.0),
        ("IPv4 denied, 1000000", "XDP_DROP", 4.0),
        ("IPv6 denied, 100000", "XDP_DROP", 3.5),
    ] {
        let what = format!("flood, {case} prefixes: times {unit}");
        goals.push(Goal::at_most(what, limit, to(case, unit)));
    }
    for (case, rival, limit) in [
        ("IPv4 denied, 10", "nftables netdev ingress", 5.0),
        ("IPv4 denied, 1000", "nftables netdev ingress", 5.0),
        ("IPv4 denied, 1000000", "nftables netdev ingress", 15.0),
        ("IPv4 denied, 1000000", "iptables with ipset", 15.0),
    ] {
        let what = format!("flood, {case} prefixes: times cheaper than {rival}");
        let cheaper = to(case, rival).map(|ratio| 1.0 / ratio);
        goals.push(Goal::at_least(what, limit, cheaper));
    }
    for family in ["IPv4", "IPv6"] {
        for size in [10, 1000, 100_000, 1_000_000] {
            let case = format!("{family} denied, {size}");
            let what = format!("flood, {case} prefixes: times the trie");
            goals.push(Goal::at_most(what, 1.0, to(&case, "ipfilter, trie")));
        }
    }
    goals
}

/// The cost of reports: how many times more a packet takes with them than without.
fn reports(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (part, case, with, without) in [
        (
            "packet",
            "IPv4 sparse 10 random",
            "intervals",
            "intervals, no reports",
        ),
        (
            "packet",
            "IPv6 sparse 10 random",
            "intervals",
            "intervals, no reports",
        ),
        (
            "packet",
            "IPv4 sparse 1000000 random",
            "intervals",
            "intervals, no reports",
        ),
        (
            "flood",
            "IPv4 denied, 10 prefixes",
            "ipfilter",
            "ipfilter, no reports",
        ),
        (
            "flood",
            "IPv4 denied, 1000000 prefixes",
            "ipfilter",
            "ipfilter, no reports",
        ),
        (
            "scrape",
            "1000 prefixes",
            "scraped 20 times a second",
            "not scraped",
        ),
    ] {
        let of = |contender| results.median(part, case, contender);
        let ratio = of(with)
            .zip(of(without))
            .map(|(with, without)| with / without);
        goals.push(Goal::at_most(
            format!("{part}, {case}: times {without}"),
            1.1,
            ratio,
        ));
    }
    goals
}

fn loads(results: &Results) -> Vec<Goal> {
    let of = |case: &str, contender| results.median("load", case, contender);
    let million = "1000000 prefixes";
    let times = |rival| Some(of(million, rival)? / of(million, "ipfilter")?);
    vec![
        Goal::at_most("a million prefixes loaded, s", 0.5, of(million, "ipfilter")),
        Goal::at_most(
            "a hundred thousand prefixes loaded, s",
            0.1,
            of("100000 prefixes", "ipfilter"),
        ),
        Goal::at_least(
            "a million loaded: times faster than nft -f of a merged list",
            5.0,
            times("nftables inet raw"),
        ),
        Goal::at_least(
            "a million loaded: times faster than nft -f with auto-merge",
            10.0,
            times("nftables, auto-merge"),
        ),
        Goal::at_most(
            "swap, ms",
            50.0,
            results.median("swap", "a program behind a link", "BPF_LINK_UPDATE"),
        ),
    ]
}

fn refusals(results: &Results) -> Vec<Goal> {
    let of = |refuser: Refuser| results.median(respond::COST, respond::CASE, refuser.name());
    let share = of(Refuser::Respond).zip(of(Refuser::Nginx));
    vec![Goal::at_most(
        "a refusal by respond: share of what it costs nginx",
        0.1,
        share.map(|(ours, theirs)| ours / theirs),
    )]
}

fn authorization(results: &Results) -> Vec<Goal> {
    let ours = |part, case: &str| results.median(part, case, "ipfilter-authorize");
    let mut goals = Vec::new();
    for case in ["10 prefixes", "1000000 prefixes"] {
        goals.push(Goal::at_least(
            format!("requests authorized a second, {case}"),
            40_000.0,
            ours(authorize::SATURATED, case),
        ));
        goals.push(Goal::at_most(
            format!("an authorization at 10,000 a second, {case}: 99th percentile, µs"),
            200.0,
            ours(authorize::LATENCY, case),
        ));
    }
    for case in [authorize::APART, authorize::TOGETHER] {
        let nginx = |contender| results.median(authorize::PROXIED, case, contender);
        let ratio = || Some(nginx(authorize::ASKING)? / nginx(authorize::ALONE)?);
        goals.push(Goal::at_least(
            format!("{case}: auth_request's share of nginx alone"),
            0.5,
            ratio(),
        ));
    }
    goals
}

pub(super) fn markdown(goals: &[Goal]) -> String {
    let mut text = "| to reach | limit | measured | |\n|---|---|---|---|\n".to_owned();
    for goal in goals {
        let sign = if goal.at_most { "≤" } else { "≥" };
        let measured = goal
            .measured
            .map_or_else(|| "-".to_owned(), |measured| format!("{measured:.2}"));
        // Writing to a string can't fail.
        let _: std::fmt::Result = writeln!(
            text,
            "| {} | {sign} {} | {measured} | {} |",
            goal.what,
            goal.limit,
            goal.outcome()
        );
    }
    text
}

pub(super) fn json(goals: &[Goal]) -> Vec<Value> {
    let goals = goals.iter();
    goals
        .map(|goal| {
            json!({
                "goal": goal.what,
                "limit": goal.limit,
                "measured": goal.measured,
                "outcome": goal.outcome(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_in_their_direction() {
        assert_eq!(Goal::at_most("x", 2.0, Some(2.0)).outcome(), "reached");
        assert_eq!(Goal::at_most("x", 2.0, Some(2.1)).outcome(), "missed");
        assert_eq!(Goal::at_least("x", 2.0, Some(2.0)).outcome(), "reached");
        assert_eq!(Goal::at_least("x", 2.0, Some(1.9)).outcome(), "missed");
        assert_eq!(Goal::at_least("x", 2.0, None).outcome(), "not measured");
    }
}
