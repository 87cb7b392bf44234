//! A flood of denied frames on a live interface: CPU time per frame on the receiver's side.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use testkit::{
    lists::{Family, List, Shape},
    process::output,
};

use super::{
    Bench,
    bed::Bed,
    results::{Results, Row, Spread},
    rivals::{Loaded, PORT, Rival, ipfilter},
};

/// Who is flooded.
const RIVALS: [Rival; 7] = [
    Rival::Ipfilter,
    Rival::Unreported,
    Rival::Trie,
    Rival::NftNetdev,
    Rival::NftInet,
    Rival::Ipset,
    Rival::XdpFilter,
];

/// Who is also measured with frames that are let through.
const ALLOWED: [&str; 2] = ["ipfilter", "nftables netdev ingress"];

/// Prefixes in the list that is enforced while metrics are asked for.
const SCRAPED: usize = 1000;

/// Time between two scrapes: twenty times as often as anyone would.
const SCRAPE_EVERY: Duration = Duration::from_millis(50);

/// How long the daemon may take until it has metrics.
const READY: Duration = Duration::from_secs(20);

/// Calls of a hundred thousand frames each, in one round.
const CALLS: &str = "5";

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    for family in [Family::V4, Family::V6] {
        for size in bench.options.large() {
            flood(bench, family, size, results)?;
        }
    }
    scraped(bench, results)?;
    swap(bench, results)
}

/// What each contender's frames cost: of denied sources anywhere, and, where the list lets them through, of
/// allowed ones, which go on to the host.
fn flood(bench: &Bench<'_>, family: Family, size: usize, results: &mut Results) -> Result<()> {
    let list = List::new(Shape::Sparse, family, size);
    let (unit, lean, passing) = (Bed::new()?, Bed::new()?, Bed::new()?);
    let _dropping = Bed::attach(bench, &unit.receiver, &unit.interface, "drop")?;
    let _lean = Bed::attach(bench, &lean.receiver, &lean.interface, "lean")?;
    let _passing = Bed::attach(bench, &passing.receiver, &passing.interface, "pass")?;
    let rivals: Vec<Rival> = RIVALS
        .into_iter()
        .filter(|rival| rival.can(family, size))
        .collect();
    let beds: Vec<Bed> = rivals.iter().map(|_| Bed::new()).collect::<Result<_>>()?;
    let mut loaded = Vec::new();
    for (&rival, bed) in rivals.iter().zip(&beds) {
        let path = rival.write(bench, &list, bed)?;
        output(&mut rival.load(bench, bed, &path)?)?;
        loaded.push(Loaded { rival, bench, bed });
        rival.enforce(bed, &list)?;
    }
    let rivals = || rivals.iter().map(|rival| rival.name()).zip(&beds);
    let denied: Vec<(&str, &Bed)> = [("XDP_DROP", &unit), ("lean program", &lean)]
        .into_iter()
        .chain(rivals())
        .collect();
    let allowed: Vec<(&str, &Bed)> = [("XDP_PASS", &passing)]
        .into_iter()
        .chain(rivals().filter(|(name, _)| ALLOWED.contains(name)))
        .collect();
    for (outcome, contenders) in [("denied", &denied), ("allowed", &allowed)] {
        let inside = (outcome == "allowed").then_some(size);
        let mut times = vec![Vec::new(); contenders.len()];
        for _ in 0..bench.options.rounds {
            for ((_, bed), times) in contenders.iter().zip(&mut times) {
                bench.interrupt.check()?;
                times.push(round(bench, bed, family, inside)?);
            }
        }
        let names = contenders.iter().map(|(name, _)| *name);
        let case = format!("{family} {outcome}, {size} prefixes");
        push(results, "flood", &case, names.zip(times))?;
    }
    Ok(())
}

/// What a frame costs while the metrics are asked for again and again, and while they are not.
fn scraped(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let list = List::new(Shape::Sparse, Family::V4, SCRAPED);
    let bed = Bed::new()?;
    let path = Rival::Ipfilter.write(bench, &list, &bed)?;
    let socket = bench.folder.join("metrics");
    let mut command = ipfilter(bench, &bed);
    command
        .args(["run", "--interface", &bed.interface])
        .args(["--port", PORT, "--policy"])
        .arg(path)
        .arg("--metrics")
        .arg(format!("unix:{}", socket.display()));
    // The filter outlives its daemon, which ends first.
    let _loaded = Loaded {
        rival: Rival::Ipfilter,
        bench,
        bed: &bed,
    };
    let _daemon = bed.receiver.spawn(&mut command)?;
    let start = Instant::now();
    while let Err(error) = scrape(&socket) {
        bench.interrupt.check()?;
        if start.elapsed() > READY {
            return Err(error.context("the metrics never came"));
        }
        thread::sleep(SCRAPE_EVERY);
    }
    let contenders = [("not scraped", false), ("scraped 20 times a second", true)];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..bench.options.rounds {
        for ((_, scraped), times) in contenders.iter().zip(&mut times) {
            bench.interrupt.check()?;
            let (ended, told) = mpsc::channel::<()>();
            let scraper = scraped.then(|| {
                let socket = socket.clone();
                thread::spawn(move || {
                    while told.recv_timeout(SCRAPE_EVERY) == Err(RecvTimeoutError::Timeout) {
                        scrape(&socket)?;
                    }
                    anyhow::Ok(())
                })
            });
            times.push(round(bench, &bed, Family::V4, None)?);
            drop(ended);
            if let Some(scraper) = scraper {
                scraper.join().map_err(|_| anyhow!("scraping failed"))??;
            }
        }
    }
    let names = contenders.iter().map(|(name, _)| *name);
    push(
        results,
        "scrape",
        &format!("{SCRAPED} prefixes"),
        names.zip(times),
    )
}

/// A row for each contender with its times.
fn push<'a>(
    results: &mut Results,
    part: &'static str,
    case: &str,
    contenders: impl Iterator<Item = (&'a str, Vec<f64>)>,
) -> Result<()> {
    for (name, times) in contenders {
        results.push(Row {
            part,
            case: case.to_owned(),
            contender: name.to_owned(),
            spread: Spread::of(times).context("no rounds")?,
            unit: "ns of CPU time per frame",
            note: String::new(),
        });
    }
    Ok(())
}

/// Asks for the metrics, and reads them.
fn scrape(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    if !page.contains("ipfilter_packets_total") {
        bail!("these are no metrics: {page}");
    }
    Ok(())
}

/// What a frame costs the receiver, in ns.
fn round(bench: &Bench<'_>, bed: &Bed, family: Family, inside: Option<usize>) -> Result<f64> {
    bed.pin()?;
    let before = bed.work()?;
    let mut command = bed.sender.command(&bench.kernel);
    command
        .args(["send", "--interface", "tx0", "--mac", &bed.mac()?])
        .args(["--port", PORT, "--calls", CALLS])
        .args(["--family", if family == Family::V4 { "4" } else { "6" }]);
    if let Some(size) = inside {
        command.args(["--inside", &size.to_string()]);
    }
    output(&mut command)?;
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
