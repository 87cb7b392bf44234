//! `ipfilter deploy`: attach the filter, and exit.

use jiff::SignedDuration;

use super::{Exit, Stop, require_root};
use crate::{
    config::{ConfigSource, duration},
    daemon,
    instance::Instance,
    session,
};

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

    /// Roll back unless `ipfilter confirm` follows within this time, such as `60s`; a small process waits
    /// for it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    confirm: Option<SignedDuration>,

    /// Deploy even if it cuts off the session that this command runs in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    args.source.check().map_err(Stop::from)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    let guarded = session::guarded_unless(args.force);
    let confirm = args.confirm;
    daemon::deploy(lock, &args.source, guarded, args.freeze_time, confirm)?;
    Ok(Exit::Fine)
}
