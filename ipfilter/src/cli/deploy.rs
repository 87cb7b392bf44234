//! `ipfilter deploy`: put the filter on, and leave.

use super::{Exit, Stop, require_root, target::Target};
use crate::{daemon::Daemon, instance::Instance};

/// Filter interfaces by a policy as `run` does, without staying
///
/// The filter stays attached: `ipfilter detach` takes it off, another `deploy` replaces it without a
/// gap. Nobody then picks up changed files, dates in the policy that pass, or interfaces that come
/// later, and the keys of `--deny respond` are not renewed: `run` does all that.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let asked = args.target.asked(None)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    Daemon::start(lock, asked, None).map_err(Stop::from)?;
    Ok(Exit::Fine)
}
