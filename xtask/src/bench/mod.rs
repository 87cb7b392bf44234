//! `cargo xtask bench`: what ipfilter costs, beside others that are given the same list.
//!
//! Costs are CPU time: wall time says more about who else is on the machine. Rivals take turns, the
//! median of the rounds counts, and each stands beside a ratio to its unit, as machines change their
//! speed.

mod authorize;
mod bed;
mod flood;
mod goals;
mod loading;
mod machine;
mod packets;
mod respond;
mod results;
mod rivals;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use testkit::{need_root, process::Interrupt};

use self::results::Results;
use crate::{build, setup};

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// A flood on a live interface
    Flood,
    /// Per packet in the kernel, in test runs
    Packets,
    /// Loading and freeing
    Load,
    /// Refusals: resets and 403s
    Respond,
    /// The authorization service
    Authorize,
}

/// What to measure, and how thoroughly.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,

    /// Numbers of prefixes
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1,10,1000,100000,1000000"
    )]
    sizes: Vec<usize>,

    /// Measurements of each; the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Install the rivals' Debian packages; without it, those that are there are measured
    #[arg(long)]
    with_rivals: bool,
}

impl Options {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The sizes that are worth loading and flooding.
    fn large(&self) -> impl Iterator<Item = usize> + '_ {
        let sizes = self.sizes.iter().copied();
        sizes.filter(|size| [10, 1000, 100_000, 1_000_000].contains(size))
    }
}

/// What every part needs.
struct Bench<'a> {
    options: &'a Options,
    interrupt: &'a Interrupt,
    /// The `ipfilter` binary.
    ipfilter: PathBuf,
    /// The benchmark inside the kernel.
    kernel: PathBuf,
    /// Where files go.
    folder: PathBuf,
}

/// Measures, and prints a table; the same goes to `target/bench/results.md`, and as JSON to
/// `results.json` beside it.
///
/// # Errors
/// [`testkit::Refused`] without root or where set-up can't help; when something can't be measured, or on
/// a signal.
pub(crate) fn run(options: &Options, interrupt: &Interrupt) -> Result<ExitCode> {
    need_root("the benchmark, which loads BPF programs and makes network namespaces,")?;
    setup::run(interrupt)?;
    setup::tools("for the benchmark's interfaces", bed::TOOLS, interrupt)?;
    if options.with_rivals {
        setup::tools("measured beside ipfilter", rivals::TOOLS, interrupt)?;
    }
    let ipfilter = build::release(interrupt)?;
    let folder = ipfilter
        .parent()
        .and_then(|release| release.parent())
        .context("no target folder")?
        .join("bench");
    fs::create_dir_all(&folder)?;
    let bench = Bench {
        options,
        interrupt,
        ipfilter,
        kernel: build::bench(interrupt)?,
        folder,
    };
    let mut results = Results::default();
    for part in Part::value_variants() {
        if options.has(*part) {
            eprintln!("── {part:?}");
            match part {
                Part::Packets => packets::run(&bench, &mut results),
                Part::Flood => flood::run(&bench, &mut results),
                Part::Load => loading::run(&bench, &mut results),
                Part::Respond => respond::run(&bench, &mut results),
                Part::Authorize => authorize::run(&bench, &mut results),
            }?;
        }
    }
    let goals = goals::judge(&results);
    let machine = machine::describe();
    let markdown = format!(
        "{machine}\n{}\n{}",
        results.markdown(),
        goals::markdown(&goals)
    );
    print!("{markdown}");
    fs::write(bench.folder.join("results.md"), &markdown)?;
    let json = serde_json::json!({ "machine": machine, "rows": results.json(), "goals": goals::json(&goals) });
    fs::write(bench.folder.join("results.json"), format!("{json:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}
