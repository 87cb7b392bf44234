//! `ipfilter deploy`: attach the filter, and exit.

use super::{Exit, Stop, require_root};
use crate::{config::ConfigSource, daemon, instance::Instance, session};

/// Filter interfaces by a policy, and exit
///
/// The filter stays attached: `ipfilter detach` detaches it, another `deploy` replaces it without a
/// gap. Use `run` instead where files may change, where the policy has dates, where interfaces appear
/// later, or with `--deny respond`, whose keys `run` renews.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: ConfigSource,

    /// Keep the plan of this moment for good, whatever dates the policy has
    #[arg(long)]
    freeze_time: bool,

    /// Deploy even what cuts off the session that this command is given in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    args.source.check().map_err(Stop::from)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    let guarded = (!args.force).then(session::own).flatten();
    daemon::deploy(lock, &args.source, guarded, args.freeze_time)?;
    Ok(Exit::Fine)
}
