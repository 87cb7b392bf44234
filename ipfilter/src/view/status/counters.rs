//! What was counted, as people read it.

use super::CounterStatus;
use crate::addresses::words::grouped;

/// The counters, over all interfaces.
fn totals(counters: &[CounterStatus]) -> Vec<CounterStatus> {
    let mut totals: Vec<CounterStatus> = Vec::new();
    for count in counters {
        let alike = |total: &&mut CounterStatus| {
            (&total.api, total.verdict, total.reason) == (&count.api, count.verdict, count.reason)
        };
        match totals.iter_mut().find(alike) {
            Some(total) => {
                total.packets += count.packets;
                total.bytes += count.bytes;
                add(&mut total.packets_per_second, count.packets_per_second);
                add(&mut total.bytes_per_second, count.bytes_per_second);
            }
            None => totals.push(count.clone()),
        }
    }
    totals
}

fn add(sum: &mut Option<f64>, rate: Option<f64>) {
    if let Some(rate) = rate {
        *sum = Some(sum.unwrap_or(0.0) + rate);
    }
}

/// How many packets were allowed and denied, in a line.
pub(super) fn in_short(counters: &[CounterStatus]) -> String {
    let of = |wanted: &dyn Fn(&CounterStatus) -> bool| {
        let mut packets = 0;
        let mut rate = None;
        for count in counters.iter().filter(|count| wanted(count)) {
            packets += count.packets;
            add(&mut rate, count.packets_per_second);
        }
        let rate = rate.map_or_else(String::new, |rate| format!(" ({rate:.0}/s)"));
        (packets, rate)
    };
    let to_api = |count: &CounterStatus| count.api.is_some();
    let (would, would_rate) = of(&|count| count.reason == "would_deny");
    let (denied, denied_rate) = of(&|count| count.verdict != "pass");
    let (allowed, allowed_rate) =
        of(&|count| to_api(count) && count.verdict == "pass" && count.reason != "would_deny");
    let (other, other_rate) = of(&|count| !to_api(count) && count.verdict == "pass");
    let mut all = format!(
        "{} allowed{allowed_rate}, {} denied{denied_rate}",
        grouped(u128::from(allowed)),
        grouped(u128::from(denied))
    );
    if would > 0 {
        all += &format!(
            ", {} would be denied{would_rate}",
            grouped(u128::from(would))
        );
    }
    all + &format!(
        ", {} not for an API{other_rate}",
        grouped(u128::from(other))
    )
}

/// All counters that are not 0, as a table.
pub(super) fn table(counters: &[CounterStatus]) -> Vec<String> {
    let totals = totals(counters);
    let rates = totals
        .iter()
        .any(|count| count.packets_per_second.is_some());
    let mut heading = format!(
        "{:<12} {:<7} {:<20} {:>14} {:>16}",
        "api", "", "reason", "packets", "bytes"
    );
    if rates {
        heading += &format!(" {:>11} {:>13}", "packets/s", "bytes/s");
    }
    let lines = totals
        .iter()
        .filter(|count| count.packets > 0)
        .map(|count| {
            let mut line = format!(
                "{:<12} {:<7} {:<20} {:>14} {:>16}",
                count.api.as_deref().unwrap_or("-"),
                count.verdict,
                count.reason,
                count.packets,
                count.bytes
            );
            if let (Some(packets), Some(bytes)) = (count.packets_per_second, count.bytes_per_second)
            {
                line += &format!(" {packets:>11.0} {bytes:>13.0}");
            }
            line
        });
    [heading].into_iter().chain(lines).collect()
}
