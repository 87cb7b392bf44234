//! `ipfilter run`: deploy, and stay to keep it current.

use std::env;

use clap::ValueEnum;

use super::{Exit, Stop, require_root, target::Target};
use crate::{
    daemon::{Daemon, Events, OnError},
    endpoint::Endpoint,
    instance::Instance,
};

/// Filter interfaces by a policy, and stay: `reload` deploys anew, SIGTERM and SIGINT end it
///
/// The filter stays attached when the process ends, unless `--detach-on-exit` is given: `ipfilter
/// detach` takes it off. Careful with the port you log in through: an API port that is also your SSH
/// port locks out whoever the policy does not name.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    /// Deploy anew when the policy or the configuration changes
    #[arg(long)]
    watch: bool,

    /// What to do if the policy is broken at the start and there is no last good plan to fall back on.
    /// Without this option, and not started by a service manager, a broken policy is an error
    #[arg(long, value_enum, value_name = "WHAT")]
    on_error: Option<OnErrorArg>,

    /// Serve metrics to Prometheus at `/metrics`, and health at `/healthz`: an address and a port, a
    /// port of 127.0.0.1, or `unix:` and the path of a socket. Comes before the configuration's
    /// `metrics`
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Endpoint>,

    /// Take the filter off when the process ends
    #[arg(long)]
    detach_on_exit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnErrorArg {
    /// Shut everyone out from the APIs whose policies are broken (a service manager's default)
    DenyAll,
    /// End with an error
    Fail,
}

impl Args {
    /// What is done unattended if the policy is broken; none where a person reads what is wrong.
    fn on_error(&self) -> Option<OnError> {
        match self.on_error {
            Some(OnErrorArg::DenyAll) => Some(OnError::DenyAll),
            Some(OnErrorArg::Fail) => Some(OnError::Fail),
            // A service manager that wants to be notified ("sd_notify(3)").
            None => env::var_os("NOTIFY_SOCKET").map(|_| OnError::DenyAll),
        }
    }
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let asked = args.target.asked(args.metrics.clone())?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    // Before the filter can be seen: who sees it may send a signal.
    let events = Events::listen()?;
    let mut daemon = Daemon::start(lock, asked, args.on_error()).map_err(Stop::from)?;
    let served = runtime.block_on(daemon.serve(events, args.watch));
    if args.detach_on_exit {
        daemon.detach()?;
    }
    served?;
    Ok(Exit::Fine)
}
