//! `ipfilter deploy`: attach the filter, and exit.

use super::{Exit, Stop, require_root};
use crate::{config::ConfigSource, daemon::Daemon, instance::Instance};

/// Filter interfaces by a policy, and exit
///
/// The filter stays attached: `ipfilter detach` detaches it, another `deploy` replaces it without a
/// gap. Use `run` instead where files may change, where the policy has dates, where interfaces appear
/// later, or with `--deny respond`, whose keys `run` renews.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: ConfigSource,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    args.source.check().map_err(Stop::from)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    Daemon::start(lock, args.source.clone(), |_| None).map_err(Stop::from)?;
    Ok(Exit::Fine)
}
