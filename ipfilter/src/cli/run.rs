//! `ipfilter run`: deploy, and stay to keep it current.

use std::env;

use super::{Exit, Stop, require_root};
use crate::{
    config::{Config, ConfigSource, OnError, Service},
    daemon::{Daemon, Events},
    instance::Instance,
};

/// Filter interfaces by a policy, and keep running to keep the filter current
///
/// `ipfilter reload` or SIGHUP reads the files again; SIGTERM and SIGINT end the process. The filter
/// stays attached then, unless `--detach-on-exit` is given: `ipfilter detach` detaches it. Never give
/// the port that you log in through, unless the policy lets you in: it would lock you out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: ConfigSource,

    #[command(flatten)]
    service: Service,
}

/// What to do if a policy is broken and nobody is there to read why; none where a person is.
fn on_error(source: &ConfigSource, config: Option<&Config>) -> Option<OnError> {
    let service = source.service(config.unwrap_or(&Config::default()));
    // A service manager that wants to be notified ("sd_notify(3)").
    let unattended = || env::var_os("NOTIFY_SOCKET").map(|_| OnError::DenyAll);
    service.on_error.or_else(unattended)
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let source = args.source.clone().with_service(&args.service);
    source.check().map_err(Stop::from)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    // Before the filter can be seen: who sees it may send a signal.
    let events = Events::listen()?;
    let mut daemon = Daemon::start(lock, source.clone(), |config| on_error(&source, config))
        .map_err(Stop::from)?;
    let served = runtime.block_on(daemon.serve(events));
    if daemon.service().detach_on_exit {
        daemon.detach()?;
    }
    served?;
    Ok(Exit::Fine)
}
