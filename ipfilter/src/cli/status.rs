//! `ipfilter status`: what is in force, and what it has done.

use super::{Exit, format::Format, record, require_root};
use crate::{
    dataplane::{Filter, Found},
    instance::Instance,
    report::status::Status,
};

/// Show what is deployed, where, since when, and its counters
///
/// Ends with 1 where nothing is deployed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("looking at the filter")?;
    let filter = Filter::of(instance);
    let found = filter.inspect()?;
    let record = record(instance);
    let counts = if found.is_empty() {
        Vec::new()
    } else {
        filter.counters(api_count(&found))?
    };
    let status = Status::new(instance, instance.owner()?, &found, record, &counts);
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

fn api_count(found: &[Found]) -> usize {
    let apis = found.iter().filter_map(|found| found.config);
    apis.map(|config| config.apis.bits().count_ones() as usize)
        .max()
        .unwrap_or(0)
}
