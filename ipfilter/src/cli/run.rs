//! `ipfilter run`: deploy, and stay to keep it current.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use log::{error, info, warn};
use tokio::runtime::Runtime;

use super::{Exit, Stop, require_root};
use crate::{
    config::{Config, ConfigSource, OnError, Service},
    daemon::{Daemon, Events},
    instance::Instance,
    session,
};

/// Filter interfaces by a policy, and keep running to keep the filter current
///
/// `ipfilter reload` or SIGHUP reads the files again; SIGTERM and SIGINT end the process. The filter
/// stays attached then, unless `--detach-on-exit` is given: `ipfilter detach` detaches it. Never give
/// the port that you log in through, unless the policy lets you in: it would lock you out. With
/// `--confirm 60s` it rolls back to what was in force before, or detaches the filter if nothing was, unless
/// `ipfilter confirm` follows in time. It also rolls back if the process ends meanwhile.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: ConfigSource,

    #[command(flatten)]
    service: Service,

    /// Deploy even if it cuts off the session that this command runs in
    #[arg(long)]
    force: bool,
}

/// What to do if a policy is broken and nobody is there to read why; none where a person is.
fn on_error(source: &ConfigSource, config: Option<&Config>) -> Option<OnError> {
    let service = source.service(config.unwrap_or(&Config::default()));
    // A service manager that wants to be notified ("sd_notify(3)").
    let unattended = || env::var_os("NOTIFY_SOCKET").map(|_| OnError::DenyAll);
    service.on_error.or_else(unattended)
}

/// How often the loop may fail within [`CALM`] before that is final.
const FAILURES: usize = 10;

const CALM: Duration = Duration::from_secs(60);

/// How long nothing is tried after it has failed.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let source = args.source.clone().with_service(&args.service);
    source.check().map_err(Stop::from)?;
    require_root("filtering an interface")?;
    let lock = instance.lock()?;
    let runtime = new_runtime()?;
    // Before the filter can be seen: who sees it may send a signal.
    let events = listen(&runtime)?;
    let guarded = session::guarded_unless(args.force);
    let mut daemon = Daemon::start(lock, source.clone(), guarded, |config| {
        on_error(&source, config)
    })?;
    serve(&mut daemon, runtime, events)?;
    // Nothing but a request to end gets here: an error leaves the filter attached.
    if daemon.service().detach_on_exit {
        daemon.detach()?;
        info!("detached from all interfaces");
    } else {
        warn!(
            "the filter stays attached but is no longer kept current: `ipfilter --instance {0} detach` \
             detaches it, `ipfilter --instance {0} run` resumes",
            instance.name()
        );
    }
    Ok(Exit::Fine)
}

fn new_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

fn listen(runtime: &Runtime) -> anyhow::Result<Events> {
    let _entered = runtime.enter();
    Events::listen()
}

/// Serves until it is asked to end. A failure to receive events, which the runtime makes a panic, is
/// answered by beginning to receive them anew, unless it comes again and again.
fn serve(daemon: &mut Daemon, runtime: Runtime, events: Events) -> anyhow::Result<()> {
    let mut failures: Vec<Instant> = Vec::new();
    let mut next = Ok((runtime, events));
    loop {
        let failure = match next {
            Ok((runtime, events)) => {
                let serve = || runtime.block_on(daemon.serve(events));
                match catch_unwind(AssertUnwindSafe(serve)) {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(failure)) => failure,
                    Err(_) => anyhow!("an internal error, which is above in the log"),
                }
            }
            Err(failure) => failure,
        };
        failures.retain(|failed| failed.elapsed() < CALM);
        failures.push(Instant::now());
        if failures.len() > FAILURES {
            return Err(failure.context("events can't be received; the filter stays attached"));
        }
        error!("can't receive events, starting over: {failure:#}");
        thread::sleep(PAUSE);
        next = new_runtime().and_then(|runtime| {
            let events = listen(&runtime)?;
            Ok((runtime, events))
        });
    }
}
