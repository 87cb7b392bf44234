//! `ipfilter status`: what is in force, and what it has done.

use std::{
    io::{self, IsTerminal as _},
    thread,
    time::{Duration, Instant},
};

use log::warn;

use super::{Exit, format::Format, record, require_root};
use crate::{
    instance::Instance,
    kernel::{Filter, Found},
    overrides::Overrides,
    state::{activity, load_overrides},
    view::status::{Counted, Status},
};

/// Show what is deployed, where, since when, and its counters
///
/// Exits with 1 if nothing is deployed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Measure rates for this many seconds (default: half a second on a terminal; no rates in JSON or in
    /// a file)
    #[arg(long, value_name = "SECONDS", value_parser = interval)]
    interval: Option<Duration>,
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
    let status = status
        .with_events(events)
        .beside(filter.namesakes(), filter.strays()?);
    match args.format {
        Format::Text => anstream::print!("{status}"),
        Format::Json => println!("{}", serde_json::to_string(&status)?),
    }
    Ok(if found.is_empty() {
        Exit::Failed
    } else {
        Exit::Fine
    })
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
