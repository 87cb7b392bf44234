//! A flood of denied frames on a live interface: CPU time per frame on the receiver's side.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};
use xtask::{
    lists::{Family, List, Shape},
    process::output,
};

use super::{
    Bench,
    bed::Bed,
    results::{Results, Row, Spread},
    rivals::{Loaded, PORT, Rival},
};

/// Who is flooded.
const RIVALS: [Rival; 6] = [
    Rival::Ipfilter,
    Rival::Trie,
    Rival::NftNetdev,
    Rival::NftInet,
    Rival::Ipset,
    Rival::XdpFilter,
];

/// Calls of a hundred thousand frames each, in one round.
const CALLS: &str = "5";

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    for size in bench.options.large() {
        flood(bench, size, results)?;
    }
    swap(bench, results)
}

fn flood(bench: &Bench<'_>, size: usize, results: &mut Results) -> Result<()> {
    let list = List::new(Shape::Sparse, Family::V4, size);
    let unit = Bed::new()?;
    let _dropping = Bed::attach(bench, &unit.receiver, &unit.interface, "drop")?;
    let rivals: Vec<Rival> = RIVALS.into_iter().filter(|rival| rival.can(size)).collect();
    let beds: Vec<Bed> = rivals.iter().map(|_| Bed::new()).collect::<Result<_>>()?;
    let mut loaded = Vec::new();
    for (&rival, bed) in rivals.iter().zip(&beds) {
        let path = rival.write(bench, &list, bed)?;
        output(&mut rival.load(bench, bed, &path)?)?;
        loaded.push(Loaded { rival, bench, bed });
        rival.enforce(bed, &list)?;
    }
    let contenders: Vec<(&str, &Bed)> = [("XDP_DROP", &unit)]
        .into_iter()
        .chain(rivals.iter().map(|rival| rival.name()).zip(&beds))
        .collect();
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..bench.options.rounds {
        for ((_, bed), times) in contenders.iter().zip(&mut times) {
            bench.interrupt.check()?;
            times.push(round(bench, bed)?);
        }
    }
    for ((name, _), times) in contenders.iter().zip(times) {
        results.push(Row {
            part: "flood",
            case: format!("{size} prefixes"),
            contender: (*name).to_owned(),
            spread: Spread::of(times).context("no rounds")?,
            unit: "ns of CPU time per frame",
            note: String::new(),
        });
    }
    Ok(())
}

/// What a frame costs the receiver, in ns.
fn round(bench: &Bench<'_>, bed: &Bed) -> Result<f64> {
    bed.pin()?;
    let before = bed.work()?;
    output(
        bed.sender
            .command(&bench.kernel)
            .args(["send", "--interface", "tx0", "--mac", &bed.mac()?])
            .args(["--port", PORT, "--calls", CALLS]),
    )?;
    // What is still in the queue.
    thread::sleep(Duration::from_millis(20));
    let after = bed.work()?;
    let frames = after.frames - before.frames;
    let spent = after.nanoseconds - before.nanoseconds;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    Ok(spent as f64 / frames.max(1) as f64)
}

/// How long the call takes that swaps a program behind a link.
fn swap(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let bed = Bed::new()?;
    let mut command = bed.receiver.command(&bench.kernel);
    let text = output(command.args(["swap", "--interface", &bed.interface]))?;
    let told: serde_json::Value = serde_json::from_str(&text)?;
    let number = |key: &str| told.get(key).and_then(serde_json::Value::as_f64);
    results.push(Row {
        part: "swap",
        case: "a program behind a link".to_owned(),
        contender: "BPF_LINK_UPDATE".to_owned(),
        spread: Spread {
            median: number("median_ms").context("no time")?,
            low: number("low_ms").context("no time")?,
            high: number("high_ms").context("no time")?,
        },
        unit: "ms",
        note: "wall time, mostly an RCU grace period".to_owned(),
    });
    Ok(())
}
