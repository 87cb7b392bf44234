//! `ipfilter verify`: prove that the tables in the kernel are what the policy says.

use std::{io::Write as _, thread::sleep, time::Duration};

use anyhow::bail;
use jiff::Timestamp;
use log::warn;

use super::{Exit, format::Format, record, require_root};
use crate::{
    daemon::InForce,
    instance::Instance,
    kernel::{Filter, Interface},
    state::Verified,
    verify::{Difference, compare},
    view::verify::Report,
};

/// How often it is looked again where the plan changes meanwhile, and the pause between.
const LOOKS: usize = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// Prove that the tables in the kernel equal the policy as deployed
///
/// Reads the tables of the programs that are attached, compiles the deployed policy again, and compares
/// their answers for every IPv4 and IPv6 address, each API and each port. Exits with 1 if they differ.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("reading the tables in the kernel")?;
    let report = verified(instance)?;
    let differences = report.count();
    let verified = Verified {
        time: Timestamp::now(),
        differences: differences.try_into()?,
    };
    if let Err(error) = verified.save(instance) {
        warn!("metrics will not show this verification: {error:#}");
    }
    let mut out = std::io::BufWriter::new(anstream::stdout().lock());
    match args.format {
        Format::Text => write!(out, "{report}")?,
        Format::Json => {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(if differences == 0 {
        Exit::Fine
    } else {
        Exit::Failed
    })
}

/// Compares what is deployed. The process that keeps the instance may be deploying another plan at this
/// moment: then it is looked again.
fn verified(instance: &Instance) -> anyhow::Result<Report> {
    let mut seen = look(instance);
    for _ in 1..LOOKS {
        if matches!(seen, Ok((_, Steady::Yes))) {
            break;
        }
        sleep(PAUSE);
        seen = look(instance);
    }
    seen.map(|(report, _)| report)
}

/// Whether the programs say that they enforce the plan that was recorded.
enum Steady {
    Yes,
    No,
}

fn look(instance: &Instance) -> anyhow::Result<(Report, Steady)> {
    let dumps = Filter::of(instance).dump()?;
    if dumps.is_empty() {
        bail!("nothing is deployed: every packet passes");
    }
    let in_force = InForce::of(instance)?;
    let plan = in_force.deployed()?;
    let bound = record(instance).bound;
    let wanted = Interface::matching(&in_force.spec().interfaces, &bound)?.interfaces;
    let is_attached = |interface: &Interface| {
        let mut attached = dumps.iter().flat_map(|dump| &dump.attached);
        attached.any(|(other, _)| other.index == interface.index)
    };
    let missing = wanted.into_iter().filter(|wanted| !is_attached(wanted));
    let missing: Vec<_> = missing.map(|interface| interface.name).collect();
    let found = dumps.into_iter().map(|dump| {
        let differences = compare(&plan, &dump);
        (dump, differences)
    });
    let found: Vec<_> = found.collect();
    let is_other = |difference: &Difference| matches!(difference, Difference::Plan { .. });
    let other = found.iter().any(|(_, it)| it.iter().any(is_other));
    let steady = if other || !missing.is_empty() {
        Steady::No
    } else {
        Steady::Yes
    };
    Ok((Report::new(&plan, &found, &missing), steady))
}
