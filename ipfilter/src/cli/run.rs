//! `ipfilter run`: deploy, and stay to keep it current.

use super::{Exit, Stop, require_root, target::Target};
use crate::{daemon::Daemon, instance::Instance};

/// Filter interfaces by a policy, and stay: SIGHUP deploys anew, SIGTERM and SIGINT end it
///
/// The filter stays attached when the process ends, unless `--detach-on-exit` is given: `ipfilter
/// detach` takes it off. Careful with the port you log in through: an API port that is also your SSH
/// port locks out whoever the policy does not name.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    /// Take the filter off when the process ends
    #[arg(long)]
    detach_on_exit: bool,
}

pub(super) fn run(args: &Args, instance: Instance) -> anyhow::Result<Exit> {
    let spec = args.target.spec()?;
    require_root("filtering an interface")?;
    let _lock = instance.lock()?;
    let mut daemon = Daemon::start(instance, spec).map_err(Stop::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let served = runtime.block_on(daemon.serve());
    if args.detach_on_exit {
        daemon.detach()?;
    }
    served?;
    Ok(Exit::Fine)
}
