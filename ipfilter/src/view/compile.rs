//! What `ipfilter compile` prints: the size of a plan and of the tables made of it.

use std::fmt;

use serde::Serialize;

use super::sources::Meaning;
use crate::plan::{self, FamilyMeasures, Measures};

/// The size of what a policy compiles to, as text by [`Display`](fmt::Display) and as JSON by [`Serialize`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The policy's file.
    pub policy: String,
    /// IPv4, then IPv6.
    pub families: Vec<Family>,
    /// The source table that will be used: `trie` or `intervals`.
    pub lookup: String,
    /// The times still to come at which the filter deploys anew by itself, as RFC 3339 has them.
    pub boundaries: Vec<String>,
    /// Who may call now, and from each boundary on.
    #[serde(flatten)]
    pub meaning: Meaning,
}

/// One address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// Disjoint prefixes that may pass.
    pub prefixes: usize,
    /// Ranges that may pass.
    pub intervals: usize,
    /// Distinct sets of APIs that a source may call.
    pub answers: usize,
    /// The table as a trie.
    pub trie: Trie,
    /// The table as intervals.
    pub table: Table,
}

/// The smallest trie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trie {
    /// Its entries.
    pub entries: usize,
    /// About how much kernel memory they take.
    pub bytes: usize,
}

/// The interval table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Table {
    /// What it takes, if it fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<usize>,
    /// Why it does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Report {
    /// The report on the policy in the file `policy`, of which `measures` are the sources' and
    /// which `table` would serve, and which means `meaning`.
    #[must_use]
    pub fn new(policy: &str, measures: &Measures, table: plan::Table, meaning: Meaning) -> Self {
        Self {
            policy: policy.to_owned(),
            families: vec![
                Family::new("IPv4", &measures.v4),
                Family::new("IPv6", &measures.v6),
            ],
            lookup: table.to_string(),
            boundaries: meaning.changes.iter().map(|it| it.at.clone()).collect(),
            meaning,
        }
    }
}

impl Family {
    fn new(family: &'static str, measures: &FamilyMeasures) -> Self {
        let table = measures.table.as_ref();
        Self {
            family,
            prefixes: measures.prefixes,
            intervals: measures.intervals,
            answers: measures.answers,
            trie: Trie {
                entries: measures.entries,
                bytes: measures.trie_bytes(),
            },
            table: Table {
                bytes: table.ok().map(|sizes| sizes.total()),
                error: table.err().map(ToString::to_string),
            },
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.policy)?;
        writeln!(
            f,
            "{:6}{:>10}{:>11}{:>14}{:>11}{:>16}",
            "", "prefixes", "intervals", "trie entries", "trie", "interval table"
        )?;
        for family in &self.families {
            let trie = bytes(family.trie.bytes);
            let table = family.table.bytes.map_or("too large".to_owned(), bytes);
            writeln!(
                f,
                "{:6}{:>10}{:>11}{:>14}{trie:>11}{table:>16}",
                family.family, family.prefixes, family.intervals, family.trie.entries
            )?;
        }
        for error in self
            .families
            .iter()
            .filter_map(|family| family.table.error.as_ref())
        {
            writeln!(f, "{error}")?;
        }
        writeln!(f, "lookup: {}", self.lookup)?;
        writeln!(f, "may call: {}", self.meaning.may_call.text)?;
        for change in &self.meaning.changes {
            writeln!(f, "from {}: {}", change.at, change.may_call.text)?;
        }
        Ok(())
    }
}

/// A size in memory for people: binary units, three digits or so.
fn bytes(bytes: usize) -> String {
    const UNIT: usize = 1024;
    let tenths = |unit: usize| {
        let tenths = (bytes * 10 + unit / 2) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    if bytes < UNIT {
        format!("{bytes} B")
    } else if bytes < UNIT * UNIT {
        format!("{} KiB", tenths(UNIT))
    } else {
        format!("{} MiB", tenths(UNIT * UNIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addresses::AddressSet, plan::SourceMap, view::sources::Sources};

    fn report(table: plan::Table) -> Report {
        let networks = ["192.0.2.0/24", "203.0.113.7/32", "2001:db8::/32"];
        let sources = AddressSet::from_networks(networks.map(|n| n.parse().unwrap()));
        let v4 = SourceMap::new(&[&sources.v4]).unwrap();
        let v6 = SourceMap::new(&[&sources.v6]).unwrap();
        let meaning = Meaning {
            may_call: Sources::from(&sources),
            always_allowed: Sources::from(&sources),
            changes: Vec::new(),
        };
        Report::new("petstore.json", &Measures::of(&v4, &v6), table, meaning)
    }

    #[test]
    fn text_is_a_small_table() {
        let want = "petstore.json:
        prefixes  intervals  trie entries       trie  interval table
IPv4           2          2             2      256 B           144 B
IPv6           1          1             1      128 B            64 B
lookup: trie
may call: 257 IPv4 addresses in 2 networks, 1 IPv6 network
";
        assert_eq!(report(plan::Table::Trie).to_string(), want);
    }

    #[test]
    fn json_has_every_number() {
        let sources = serde_json::json!({
            "text": "257 IPv4 addresses in 2 networks, 1 IPv6 network",
            "ipv4_addresses": 257, "ipv4_networks": 2, "ipv6_networks": 1,
        });
        let want = serde_json::json!({
            "policy": "petstore.json",
            "families": [
                {
                    "family": "IPv4", "prefixes": 2, "intervals": 2, "answers": 2,
                    "trie": { "entries": 2, "bytes": 256 },
                    "table": { "bytes": 144 },
                },
                {
                    "family": "IPv6", "prefixes": 1, "intervals": 1, "answers": 2,
                    "trie": { "entries": 1, "bytes": 128 },
                    "table": { "bytes": 64 },
                },
            ],
            "lookup": "intervals",
            "boundaries": [],
            "may_call": sources,
            "always_allowed": sources,
            "changes": [],
        });
        let report = report(plan::Table::Intervals);
        assert_eq!(serde_json::to_value(report).unwrap(), want);
    }

    #[test]
    fn sizes_are_short() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (524_320, "512.0 KiB"),
            (1_782_579, "1.7 MiB"),
            (4_294_967_296, "4096.0 MiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
