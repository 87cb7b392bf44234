//! The command line: what to decide by, and where to listen.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser;
use ipfilter_config::{Authorize, Endpoint, PolicyOptions, Stage};
use ipnet::IpNet;
use log::{error, info, warn};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    failure::Failure,
    follow::follow,
    gate::Gate,
    in_force::InForce,
    listen::Listening,
    metrics::Metrics,
    page,
    read::{self, Origin},
    service::Service,
};

/// The most threads that answer.
const MOST_THREADS: usize = 4;

/// Decides requests for a reverse proxy, by the resource policies that the filter enforces
///
/// Speaks HTTP (nginx auth_request, Traefik forwardAuth, Caddy forward_auth, Envoy ext_authz), gRPC
/// (envoy.service.auth.v3.Authorization) and HAProxy's SPOE, all on one socket. An allowed request is
/// answered with 200, any other with 403.
///
/// With `--follow` it decides by what `ipfilter run` has in force, policies and overrides, and changes in the
/// same step. While that process is away, what it handed over last stays in force. With `--config` and
/// `--policy` it reads the files itself, again on SIGHUP; broken files change nothing.
#[derive(Debug, Parser)]
#[command(name = "ipfilter-authorize", version)]
struct Cli {
    /// Decide by what the process that listens here has in force: `/run/ipfilter/INSTANCE.policies`
    #[arg(
        long,
        value_name = "SOCKET",
        conflicts_with_all = ["config", "policy"],
        required_unless_present_any = ["config", "policy"]
    )]
    follow: Option<PathBuf>,

    /// Read the settings from the `authorize` section of this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    config: Option<PathBuf>,

    /// Decide by this policy alone
    #[arg(long, value_name = "FILE", requires = "listen")]
    policy: Option<PathBuf>,

    /// Listen on `ADDRESS:PORT`, on a port of 127.0.0.1, or on a Unix socket, `unix:PATH`
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["config", "follow"])]
    listen: Option<Endpoint>,

    /// Believe the headers of proxies at these addresses. Whoever connects over a Unix socket is believed
    #[arg(
        long = "trusted-proxy",
        value_name = "CIDR,...",
        value_delimiter = ',',
        conflicts_with_all = ["config", "follow"]
    )]
    trusted_proxies: Vec<IpNet>,

    /// The stage that requests are for (default: the first segment of the path)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "follow"])]
    stage: Option<String>,

    /// The header that names the caller's principal
    #[arg(long, value_name = "HEADER", conflicts_with_all = ["config", "follow"])]
    principal_header: Option<String>,

    /// Serve metrics at `/metrics` and health at `/healthz` on this address
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Endpoint>,

    /// Tell proxies which statement denied, in the header `X-Ipfilter-Statement`
    #[arg(long)]
    reveal: bool,

    #[command(flatten)]
    options: PolicyOptions,
}

impl Cli {
    fn origin(&self) -> anyhow::Result<Origin> {
        if let Some(config) = &self.config {
            return Ok(Origin::Config(config.clone()));
        }
        let listen = self
            .listen
            .clone()
            .context("say where to listen with `--listen`")?;
        Ok(Origin::Policy {
            file: self
                .policy
                .clone()
                .context("give `--config` or `--policy`")?,
            options: Box::new(self.options.clone()),
            authorize: Box::new(Authorize {
                listen,
                trusted_proxies: self.trusted_proxies.clone(),
                stage: self.stage.clone().map_or(Stage::FromPath, Stage::Named),
                endpoints: Default::default(),
                principal_header: self.principal_header.clone(),
                context_headers: Default::default(),
                user: Default::default(),
            }),
        })
    }
}

/// Runs the service until a signal ends it. Exit codes are those of `ipfilter`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results; anything else is a usage error.
            let exit = if error.use_stderr() { 2 } else { 0 };
            return match error.print() {
                Ok(()) => ExitCode::from(exit),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let failure = match run(&cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    // Standard error may be closed; the exit code says the same.
    let _ = writeln!(anstream::stderr(), "{}", failure.to_string().trim_end());
    ExitCode::from(failure.exit())
}

fn run(cli: &Cli) -> Result<(), Failure> {
    raise_descriptors();
    let metrics = Metrics::new().context("can't count what is decided")?;
    let runtime = runtime().context("can't start")?;
    if let Some(path) = &cli.follow {
        let nothing = InForce::alone(Service::closed("none".to_owned()));
        let gate = Arc::new(Gate::new(nothing, metrics, cli.reveal).reporting());
        return Ok(runtime.block_on(following(cli, path, gate))?);
    }
    let origin = cli.origin()?;
    let (service, authorize) = read::read(&origin)?;
    let gate = Gate::new(InForce::alone(service), metrics, cli.reveal);
    Ok(runtime.block_on(alone(cli, &origin, authorize, Arc::new(gate)))?)
}

/// As many threads as there are processors for this process, and not more than proxies keep busy. On one
/// processor threads would only take turns.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match processors {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder
        .worker_threads(processors.min(MOST_THREADS))
        .enable_all()
        .build()
}

/// Lets this process have as many descriptors as it may: each connection takes one.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!("can't raise the limit of open files, so fewer connections are accepted: {error}");
    }
}

/// Decides by files, which SIGHUP has read again.
async fn alone(
    cli: &Cli,
    origin: &Origin,
    authorize: Authorize,
    gate: Arc<Gate>,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut listening = Listening::new(Arc::clone(&gate));
    listening.at(&authorize).await?;
    ready(cli, &gate);
    loop {
        tokio::select! {
            error = listening.broken() => return Err(error),
            asked = signals.next() => match asked {
                Asked::Reload => reread(origin, &mut listening, &gate).await,
                Asked::End => return Ok(()),
            },
        }
    }
}

/// Decides by what the filter's process has in force; until that is known, it listens nowhere.
async fn following(cli: &Cli, path: &Path, gate: Arc<Gate>) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let mut listening = Listening::new(Arc::clone(&gate));
    let mut followed = pin!(follow(path, &gate, &mut listening, || ready(cli, &gate)));
    loop {
        tokio::select! {
            ended = &mut followed => return ended,
            asked = signals.next() => if asked == Asked::End { return Ok(()) },
        }
    }
}

/// Says that requests are decided from now on.
fn ready(cli: &Cli, gate: &Arc<Gate>) {
    if let Some(endpoint) = cli.metrics.clone() {
        let gate = Arc::clone(gate);
        tokio::spawn(async move {
            if let Err(error) = page::serve(endpoint, gate).await {
                error!("no metrics: {error:#}");
            }
        });
    }
    // A service manager may not be there.
    let _: std::io::Result<()> = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!("ready");
}

/// What signals ask for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Reload,
    End,
}

struct Signals {
    reload: Signal,
    stop: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let of = |kind| signal(kind).context("can't receive signals");
        Ok(Self {
            reload: of(SignalKind::hangup())?,
            stop: of(SignalKind::terminate())?,
            interrupt: of(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.reload.recv() => Asked::Reload,
            _ = self.stop.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
        }
    }
}

/// Decides by the files as they are now, if they can be used.
async fn reread(origin: &Origin, listening: &mut Listening, gate: &Arc<Gate>) {
    const FAILED: &str = "reload failed, the policies in force stay";
    let origin = origin.clone();
    let read = tokio::task::spawn_blocking(move || read::read(&origin)).await;
    let (service, authorize) = match read {
        Ok(Ok(read)) => read,
        Ok(Err(failure)) => return error!("{FAILED}:\n{failure}"),
        Err(error) => return error!("{FAILED}: {error}"),
    };
    if let Err(error) = listening.at(&authorize).await {
        return error!("{FAILED}: {error:#}");
    }
    let digest = service.digest.clone();
    gate.swap(InForce::alone(service));
    info!("reloaded: policies {digest}");
}
