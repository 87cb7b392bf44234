//! Which of the sources that were seen lately lose access, as `diff --live` prints it.

use std::{fmt, net::IpAddr};

use jiff::Timestamp;
use serde::Serialize;

use crate::impact::{Impact, Lost};

/// The sources that were seen lately.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ImpactView {
    /// How many pairs of a source and an API were seen; none where that is not known.
    seen: Option<usize>,
    /// Why it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    /// Those that lose access, the busiest first.
    lost: Vec<LostView>,
    #[serde(skip)]
    now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct LostView {
    api: String,
    source: IpAddr,
    packets: u64,
    bytes: u64,
    packets_per_second: Option<f64>,
    first: Timestamp,
    last: Timestamp,
}

/// How many sources text shows; JSON has all of them.
const SHOWN: usize = 20;

impl ImpactView {
    /// What is known at `now`, or why nothing is.
    pub(crate) fn new(impact: Result<Impact, String>, now: Timestamp) -> Self {
        let (impact, unknown) = match impact {
            Ok(impact) => (Some(impact), None),
            Err(reason) => (None, Some(reason)),
        };
        Self {
            seen: impact.as_ref().map(|impact| impact.seen),
            unknown,
            lost: impact
                .into_iter()
                .flat_map(|impact| impact.lost)
                .map(LostView::from)
                .collect(),
            now,
        }
    }
}

impl From<Lost> for LostView {
    fn from(lost: Lost) -> Self {
        Self {
            packets_per_second: lost.rate(),
            api: lost.api,
            source: lost.source,
            packets: lost.packets,
            bytes: lost.bytes,
            first: lost.first,
            last: lost.last,
        }
    }
}

impl fmt::Display for ImpactView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.unknown {
            return writeln!(f, "which sources called lately is not known: {reason}");
        }
        let seen = match self.seen.unwrap_or_default() {
            0 => return writeln!(f, "no source called lately"),
            1 => "1 source".to_owned(),
            seen => format!("{seen} sources"),
        };
        if self.lost.is_empty() {
            return writeln!(f, "none of the {seen} that called lately loses access");
        }
        let lose = if self.lost.len() == 1 {
            "loses"
        } else {
            "lose"
        };
        writeln!(
            f,
            "of the {seen} that called lately, {} {lose} access:",
            self.lost.len()
        )?;
        for lost in self.lost.iter().take(SHOWN) {
            let (api, source, packets) = (&lost.api, lost.source.to_string(), lost.packets);
            let rate = lost.packets_per_second.map_or_else(String::new, rate);
            let ago = ago(self.now, lost.last);
            writeln!(
                f,
                "  {source:<18} {api}: {packets} packets{rate}, last {ago} ago"
            )?;
        }
        match self.lost.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} more; `--format json` lists all"),
        }
    }
}

/// A rate in the smallest unit of time in which it is at least one.
fn rate(per_second: f64) -> String {
    let units = [(1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "day")];
    let fits = |(seconds, _): &&(f64, &str)| per_second * seconds >= 1.0;
    let (seconds, unit) = units.iter().find(fits).unwrap_or(&units[3]);
    format!(", {:.0}/{unit}", per_second * seconds)
}

/// How long ago `time` was.
fn ago(now: Timestamp, time: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(lost: Vec<Lost>) -> String {
        let now = Timestamp::from_second(1000).unwrap();
        ImpactView::new(Ok(Impact { seen: 30, lost }), now).to_string()
    }

    #[test]
    fn it_reads_well() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let lost = Lost {
            api: "reports".into(),
            source: "192.0.2.7".parse().unwrap(),
            packets: 1200,
            bytes: 72000,
            first: second(600),
            last: second(997),
        };
        assert_eq!(
            view(Vec::new()),
            "none of the 30 sources that called lately loses access\n"
        );
        assert_eq!(
            view(vec![lost.clone()]),
            "of the 30 sources that called lately, 1 loses access:\n  \
             192.0.2.7          reports: 1200 packets, 3/s, last 3 s ago\n"
        );
        assert!(view(vec![lost; 25]).ends_with("  and 5 more; `--format json` lists all\n"));
        assert_eq!(
            [0.5, 0.0001, 7.4].map(rate),
            [", 30/min", ", 9/day", ", 7/s"]
        );
    }
}
