//! What `ipfilter compile` prints: the size of a plan and of the tables made of it.

use std::fmt;

use serde::Serialize;

use crate::plan::{FamilyMeasures, Lookup, Plan};

/// A plan's size, as text by [`Display`](fmt::Display) and as JSON by [`Serialize`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The plan's digest in hexadecimal.
    pub digest: String,
    /// The protected services.
    pub apis: Vec<Api>,
    /// IPv4, then IPv6.
    pub families: Vec<Family>,
    /// The source table that will be used: `trie` or `intervals`.
    pub lookup: String,
}

/// One protected service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Api {
    /// Its name.
    pub name: String,
    /// Its ports, as on the command line.
    pub ports: String,
    /// `tcp`, `udp`, or both.
    pub protocols: Vec<String>,
    /// What happens to denied packets: `drop`, `reject` or `respond`.
    pub deny: String,
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
    /// The report on `plan`, if it were deployed with `lookup`.
    #[must_use]
    pub fn new(plan: &Plan, lookup: Lookup) -> Self {
        let measures = plan.measure();
        Self {
            digest: plan.digest().to_string(),
            apis: plan.apis.iter().map(Api::new).collect(),
            families: vec![
                Family::new("IPv4", &measures.v4),
                Family::new("IPv6", &measures.v6),
            ],
            lookup: lookup.choose(plan).to_string(),
        }
    }
}

impl Api {
    fn new(api: &crate::plan::Api) -> Self {
        let protocols = api.protocols.iter();
        Self {
            name: api.name.clone(),
            ports: api.ports.to_string(),
            protocols: protocols.map(|p| p.to_string().to_lowercase()).collect(),
            deny: api.deny.to_string(),
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
        writeln!(f, "plan {}", self.digest)?;
        for Api {
            name,
            ports,
            protocols,
            deny,
        } in &self.apis
        {
            let protocols = protocols.join(" and ");
            writeln!(f, "  {name}: {protocols} {ports}, others: {deny}")?;
        }
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
        writeln!(f, "lookup: {}", self.lookup)
    }
}

/// A size in memory for people: binary units, three digits or so.
fn bytes(bytes: usize) -> String {
    const UNIT: usize = 1024;
    let tenths = |unit: usize| {
        let tenths = (bytes * 10 + unit / 2) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..UNIT => format!("{bytes} B"),
        ..1_048_576 => format!("{} KiB", tenths(UNIT)),
        _ => format!("{} MiB", tenths(UNIT * UNIT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addresses::AddressSet,
        plan::{self, Deny, Protocols},
    };

    fn plan() -> Plan {
        let networks = ["192.0.2.0/24", "203.0.113.7/32", "2001:db8::/32"];
        let api = plan::Api {
            name: "petstore".to_owned(),
            ports: "443,8000-8010".parse().unwrap(),
            protocols: Protocols::BOTH,
            deny: Deny::Respond,
            sources: AddressSet::from_networks(networks.map(|n| n.parse().unwrap())),
        };
        Plan::new(vec![api], Vec::new()).unwrap()
    }

    #[test]
    fn text_is_a_small_table() {
        let plan = plan();
        let digest = plan.digest();
        let want = format!(
            "plan {digest}
  petstore: tcp and udp 443,8000-8010, others: respond
        prefixes  intervals  trie entries       trie  interval table
IPv4           2          2             2      256 B       512.0 KiB
IPv6           1          1             1      128 B       512.0 KiB
lookup: trie
"
        );
        assert_eq!(Report::new(&plan, Lookup::Auto).to_string(), want);
    }

    #[test]
    fn json_has_every_number() {
        let plan = plan();
        let report = Report::new(&plan, Lookup::Intervals);
        let want = serde_json::json!({
            "digest": plan.digest().to_string(),
            "apis": [{
                "name": "petstore",
                "ports": "443,8000-8010",
                "protocols": ["tcp", "udp"],
                "deny": "respond",
            }],
            "families": [
                {
                    "family": "IPv4", "prefixes": 2, "intervals": 2, "answers": 2,
                    "trie": { "entries": 2, "bytes": 256 },
                    "table": { "bytes": 524_320 },
                },
                {
                    "family": "IPv6", "prefixes": 1, "intervals": 1, "answers": 2,
                    "trie": { "entries": 1, "bytes": 128 },
                    "table": { "bytes": 524_336 },
                },
            ],
            "lookup": "intervals",
        });
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
