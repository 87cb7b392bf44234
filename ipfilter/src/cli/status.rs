//! `ipfilter status`: what is in force, and what it has done.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::warn;

use super::{Exit, Stop, format::Format, record, require_root};
use crate::{
    daemon::InForce,
    exposure::{Host, findings},
    instance::Instance,
    kernel::{Filter, Found, host_addresses, listeners, unfiltered},
    overrides::Overrides,
    published::published,
    state::{Trial, activity, load_overrides},
    view::{
        exposure::Exposure,
        status::{Counted, Status},
    },
};

/// Show what is deployed, where, since when, and its counters
///
/// Exits with 1 if nothing is deployed, or `--check` finds something.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Measure rates for this many seconds (default: half a second on a terminal; no rates in JSON or in
    /// a file)
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    interval: Option<Duration>,

    /// Compare with who listens on this host: ports of an API that nobody listens on, and ways to an API
    /// that the filter does not cover
    #[arg(long)]
    check: bool,
}

/// What a person waits without noticing much.
const INTERVAL: Duration = Duration::from_millis(500);

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse()
        .ok()
        .filter(|seconds| (0.001..=3600.0).contains(seconds));
    let seconds = seconds.ok_or("an interval is 0.001 to 3600 seconds")?;
    Ok(Duration::from_secs_f64(seconds))
}

impl Args {
    fn interval(&self) -> Option<Duration> {
        let read = matches!(self.format, Format::Text) && io::stdout().is_terminal();
        self.interval.or(read.then_some(INTERVAL))
    }
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("looking at the filter")?;
    let filter = Filter::of(instance);
    let found = filter.inspect()?;
    let record = record(instance);
    let overrides = load_overrides(instance).unwrap_or_else(|error| {
        warn!("the overrides are missing here: {error:#}");
        Overrides::default()
    });
    let counted = if found.is_empty() {
        Counted::default()
    } else {
        count(&filter, api_count(&found), args.interval())?
    };
    let status = Status::new(
        instance,
        instance.owner()?,
        &found,
        record,
        &overrides,
        &counted,
    );
    let events = activity(instance).unwrap_or_else(|error| {
        warn!("what happened lately is missing here: {error:#}");
        Vec::new()
    });
    let trial = Trial::load(instance).unwrap_or_else(|error| {
        warn!("whether a change is on trial is not known: {error:#}");
        None
    });
    let status = status
        .with_events(events)
        .beside(filter.namesakes(), filter.strays()?)
        .on_trial(trial.as_ref());
    let is_checked = args.check && !found.is_empty();
    let exposure = is_checked.then(|| check(instance, &found));
    let (exposure, unchecked) = match exposure.transpose() {
        Ok(exposure) => (exposure, None),
        Err(error) => (None, Some(error)),
    };
    let is_clean = exposure.as_ref().is_none_or(Exposure::is_clean);
    let status = status.checked(exposure);
    match args.format {
        Format::Text => anstream::print!("{status}"),
        Format::Json => println!("{}", serde_json::to_string(&status)?),
    }
    match unchecked {
        Some(error) => Err(error.context("can't check what is open")),
        None if found.is_empty() || !is_clean => Ok(Exit::Failed),
        None => Ok(Exit::Fine),
    }
}

/// Compares what is in force with who listens here, and by which ways they are reached.
fn check(instance: &Instance, found: &[Found]) -> anyhow::Result<Exposure> {
    let in_force = InForce::of(instance).map_err(Stop::from)?;
    let plan = in_force.plan(Timestamp::now()).map_err(Stop::from)?;
    let filtered: Vec<_> = found.iter().map(|found| found.interface.clone()).collect();
    let host = Host {
        listeners: listeners()?,
        unfiltered: unfiltered(&filtered)?,
        addresses: host_addresses()?,
        published: published(),
    };
    Ok(Exposure::new(findings(&plan, &host)))
}

/// The counters, and what they were `interval` before.
fn count(filter: &Filter, apis: usize, interval: Option<Duration>) -> anyhow::Result<Counted> {
    let start = Instant::now();
    let counts = filter.counters(apis)?;
    let Some(interval) = interval else {
        return Ok(Counted {
            counts,
            before: None,
        });
    };
    thread::sleep(interval);
    Ok(Counted {
        before: Some((counts, start.elapsed())),
        counts: filter.counters(apis)?,
    })
}

fn api_count(found: &[Found]) -> usize {
    let apis = found.iter().filter_map(|found| found.config);
    apis.map(|config| config.apis.bits().count_ones() as usize)
        .max()
        .unwrap_or(0)
}
