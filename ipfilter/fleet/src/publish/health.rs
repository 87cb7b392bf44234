//! Whether hosts are as well as before.

use std::collections::{BTreeMap, BTreeSet};

use ipfilter_bundle::message::Packets;

use super::board::Board;
use crate::store::Report;

/// The fewest packets of which a share says something.
const FEWEST: u64 = 50;

/// How hosts were.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    hosts: BTreeMap<String, Before>,
}

#[derive(Clone, Debug)]
struct Before {
    problems: Vec<String>,
    packets: Packets,
    /// The share of packets that were denied, in percent; none if there were too few.
    denied: Option<f64>,
}

impl Baseline {
    /// That of these hosts, as they report.
    pub(super) fn of(board: &Board<'_>, hosts: &BTreeSet<String>) -> Self {
        let hosts = hosts.iter().filter_map(|host| {
            let report = board.report(host)?;
            Some((host.clone(), Before::of(report)))
        });
        Self {
            hosts: hosts.collect(),
        }
    }

    /// Why a host is not as well as it was: it has a problem that it did not have, or denies a larger share of
    /// packets since it `began` than before.
    pub(super) fn judge(
        &self,
        began: &Self,
        host: &str,
        report: &Report,
        max_denied_change: f64,
    ) -> Result<(), String> {
        let Some(before) = self.hosts.get(host) else {
            return Ok(());
        };
        let new = report
            .problems
            .iter()
            .find(|problem| !before.problems.contains(problem));
        if let Some(problem) = new {
            return Err(format!("`{host}` is degraded: {problem}"));
        }
        let since = began
            .hosts
            .get(host)
            .map_or(before.packets, |it| it.packets);
        let now = share(&difference(&report.packets, &since));
        let (Some(was), Some(is)) = (before.denied, now) else {
            return Ok(());
        };
        if is - was > max_denied_change {
            return Err(format!(
                "`{host}` denies {is:.1} % of its packets, and {was:.1} % before: that is more than \
                 `--max-denied-change` of {max_denied_change} percentage points"
            ));
        }
        Ok(())
    }

    /// The hosts of which too little was known.
    pub(super) fn unknown(&self, hosts: &BTreeSet<String>) -> Vec<String> {
        let is_unknown = |host: &&String| {
            let before = self.hosts.get(*host);
            before.is_none_or(|before| before.denied.is_none())
        };
        hosts.iter().filter(is_unknown).cloned().collect()
    }
}

impl Before {
    fn of(report: &Report) -> Self {
        let rates = report.rates.allowed + report.rates.denied;
        let lately = (rates > 0.0).then(|| 100.0 * report.rates.denied / rates);
        Self {
            problems: report.problems.clone(),
            packets: report.packets,
            denied: share(&report.packets).map(|ever| lately.unwrap_or(ever)),
        }
    }
}

fn difference(now: &Packets, before: &Packets) -> Packets {
    Packets {
        allowed: now.allowed.saturating_sub(before.allowed),
        denied: now.denied.saturating_sub(before.denied),
        would_deny: now.would_deny.saturating_sub(before.would_deny),
    }
}

/// The share of packets that are denied, or would be, in percent.
fn share(packets: &Packets) -> Option<f64> {
    let denied = packets.denied + packets.would_deny;
    let all = packets.allowed + denied;
    #[expect(clippy::cast_precision_loss, reason = "shares are no exact numbers")]
    (all >= FEWEST).then(|| 100.0 * denied as f64 / all as f64)
}
