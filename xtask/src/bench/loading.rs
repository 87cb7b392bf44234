//! Loading a list from its file, what it takes in the kernel, and freeing it.

use std::{
    fs,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use testkit::{
    lists::{Family, List, Shape},
    process::{Guard, output},
};

use super::{
    Bench,
    bed::Bed,
    results::{Results, Row, Spread},
    rivals::{Loaded, Rival},
};

/// Who loads.
const RIVALS: [Rival; 5] = [
    Rival::Ipfilter,
    Rival::Trie,
    Rival::NftInet,
    Rival::NftAutoMerge,
    Rival::Ipset,
];

/// Sizes that are loaded beside the chosen ones, to see whether the cost of a prefix grows.
const ALSO: usize = 10_000;

/// How long freeing may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Memory that can be told from what else goes on, in MB.
const TELLING: f64 = 4.0;

/// What one loading took.
#[derive(Debug)]
struct Cost {
    /// CPU time of the command, in s.
    seconds: f64,
    /// The command's memory at its highest, in MB.
    peak: f64,
    /// What the kernel has more than before, in MB.
    kernel: f64,
    /// Until the kernel had most of that back, in ms; nothing where it is too little to tell from
    /// what else goes on.
    free: Option<f64>,
}

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let mut sizes: Vec<usize> = bench.options.large().chain([ALSO]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        let list = List::new(Shape::Sparse, Family::V4, size);
        let rivals: Vec<Rival> = RIVALS
            .into_iter()
            .filter(|rival| rival.can(Family::V4, size))
            .collect();
        let mut costs: Vec<Vec<Cost>> = rivals.iter().map(|_| Vec::new()).collect();
        // A round of a million takes a quarter of a minute, most of it of the rivals'.
        let rounds = bench.options.rounds.min(3);
        for _ in 0..rounds {
            for (&rival, costs) in rivals.iter().zip(&mut costs) {
                bench.interrupt.check()?;
                costs.push(load(bench, rival, &list)?);
            }
        }
        for (rival, costs) in rivals.iter().zip(costs) {
            let of = |pick: fn(&Cost) -> f64| Spread::of(costs.iter().map(pick).collect());
            let median = |pick| of(pick).map_or(f64::NAN, |spread| spread.median);
            let free = Spread::of(costs.iter().filter_map(|cost| cost.free).collect());
            let free = free.map_or_else(String::new, |free| {
                format!(", freed after {:.0} ms", free.median)
            });
            results.push(Row {
                part: "load",
                case: format!("{size} prefixes"),
                contender: rival.name().to_owned(),
                spread: of(|cost| cost.seconds).context("no rounds")?,
                unit: "s of CPU time",
                note: format!(
                    "{:.0} MB at most, {:.1} MB in the kernel{free}",
                    median(|cost| cost.peak),
                    median(|cost| cost.kernel),
                ),
            });
        }
    }
    Ok(())
}

fn load(bench: &Bench<'_>, rival: Rival, list: &List) -> Result<Cost> {
    let bed = Bed::new()?;
    let path = rival.write(bench, list, &bed)?;
    let empty = kernel_memory()?;
    let (seconds, peak) = watch(&mut rival.load(bench, &bed, &path)?)?;
    let loaded = Loaded {
        rival,
        bench,
        bed: &bed,
    };
    thread::sleep(Duration::from_millis(100));
    let kernel = kernel_memory()? - empty;
    let start = Instant::now();
    for mut command in rival.unload(bench, &bed)? {
        output(&mut command)?;
    }
    let telling = kernel > TELLING;
    while telling && start.elapsed() < PATIENCE && kernel_memory()? - empty > kernel / 5.0 {
        thread::sleep(Duration::from_millis(2));
    }
    let free = telling.then(|| start.elapsed().as_secs_f64() * 1e3);
    drop(loaded);
    Ok(Cost {
        seconds,
        peak,
        kernel,
        free,
    })
}

/// Runs a command; its CPU time in s, to ten milliseconds, and its memory at its highest in MB.
fn watch(command: &mut Command) -> Result<(f64, f64)> {
    let before = children()?;
    let mut guard = Guard::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let mut peak = 0.0;
    let status = loop {
        if let Some(status) = guard.ended()? {
            break status;
        }
        peak = high_water(guard.id()).unwrap_or(peak);
        thread::sleep(Duration::from_millis(1));
    };
    if !status.success() {
        bail!("loading failed ({status}); what went wrong is above");
    }
    Ok((children()? - before, peak))
}

/// CPU time of the children that have ended (proc_pid_stat(5): cutime and cstime), in s.
fn children() -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{}/stat", process::id()))?;
    // After the name, which may hold anything; the fields from the third on.
    let (_, fields) = text.rsplit_once(") ").context("no fields")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let number = |field: usize| -> Result<f64> {
        let text = fields.get(field - 3).context("too few fields")?;
        Ok(text.parse()?)
    };
    // A hundred ticks a second on every architecture that Linux has users on.
    Ok((number(16)? + number(17)?) / 100.0)
}

/// The most memory that a process had so far, in MB.
fn high_water(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    field(&status, "VmHWM:")
}

/// Memory that the kernel has for itself, in MB.
fn kernel_memory() -> Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let parts = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];
    parts
        .into_iter()
        .map(|name| field(&text, name).with_context(|| format!("no `{name}`")))
        .sum()
}

/// A number of kB in a file of /proc, in MB.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_kilobytes_become_megabytes() {
        assert_eq!(field("A:  1000 kB\nB: 2 kB\n", "A:"), Some(1.024));
        assert_eq!(field("A:  1000 kB\n", "C:"), None);
        assert!(kernel_memory().unwrap() > 0.0);
        assert!(high_water(process::id()).unwrap() > 0.0);
    }

    #[test]
    fn a_commands_cpu_time_is_seen() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let (seconds, peak) = watch(&mut command).unwrap();
        assert!(seconds > 0.0 && peak > 0.0, "{seconds} {peak}");
    }
}
