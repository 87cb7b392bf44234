//! The command line: what to decide by, and where to listen.

use std::{io::Write as _, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use ipfilter_config::{Authorize, Endpoint, PolicyOptions, Stage};
use ipnet::IpNet;
use log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    gate::Gate,
    listen::Listener,
    metrics::Metrics,
    page,
    read::{self, Failure, Origin},
};

/// Decides requests for a reverse proxy, by the resource policies that the filter enforces
///
/// Speaks HTTP (nginx auth_request, Traefik forwardAuth, Caddy forward_auth, Envoy ext_authz), gRPC
/// (envoy.service.auth.v3.Authorization) and HAProxy's SPOE, all on one socket. An allowed request is
/// answered with 200, any other with 403. SIGHUP reads the files again; broken files change nothing.
#[derive(Debug, Parser)]
#[command(name = "ipfilter-authorize", version)]
struct Cli {
    /// Read the settings from the `authorize` section of this configuration file
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "policy",
        required_unless_present = "policy"
    )]
    config: Option<PathBuf>,

    /// Decide by this policy alone
    #[arg(long, value_name = "FILE", requires = "listen")]
    policy: Option<PathBuf>,

    /// Listen on `ADDRESS:PORT`, on a port of 127.0.0.1, or on a Unix socket, `unix:PATH`
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    listen: Option<Endpoint>,

    /// Believe the headers of proxies at these addresses. Whoever connects over a Unix socket is believed
    #[arg(
        long = "trusted-proxy",
        value_name = "CIDR,...",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    trusted_proxies: Vec<IpNet>,

    /// The stage that requests are for (default: the first segment of the path)
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    stage: Option<String>,

    /// The header that names the caller's principal
    #[arg(long, value_name = "HEADER", conflicts_with = "config")]
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
            }),
        })
    }
}

/// Runs the service until it is told to end. Exit codes are those of `ipfilter`.
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
    let (exit, text) = match failure {
        Failure::Policy(text) => (3, text),
        Failure::Config(text) => (2, text),
        Failure::Other(error) => (1, format!("error: {error:#}")),
    };
    // Standard error may be closed; the exit code says the same.
    let _ = writeln!(anstream::stderr(), "{}", text.trim_end());
    ExitCode::from(exit)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let origin = cli.origin()?;
    let (service, authorize) = read::read(&origin)?;
    read::check(&authorize)?;
    let metrics = Metrics::new().context("can't count what is decided")?;
    let gate = Arc::new(Gate::new(service, metrics, cli.reveal));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start")?;
    runtime.block_on(serve(cli, &origin, &authorize, gate))?;
    Ok(())
}

async fn serve(
    cli: &Cli,
    origin: &Origin,
    authorize: &Authorize,
    gate: Arc<Gate>,
) -> anyhow::Result<()> {
    let mut reload = signal(SignalKind::hangup()).context("can't receive signals")?;
    let mut stop = signal(SignalKind::terminate()).context("can't receive signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't receive signals")?;
    let listener = Listener::bind(&authorize.listen).await?;
    if authorize.listen.is_exposed() {
        warn!(
            "{} can be reached from other hosts: their requests are denied unless `trusted_proxies` \
             names them, but a Unix socket or 127.0.0.1 is safer",
            authorize.listen
        );
    }
    info!(
        "deciding requests at {}, policies {}",
        authorize.listen,
        gate.service().digest
    );
    let mut serving = tokio::spawn(listener.serve(Arc::clone(&gate)));
    if let Some(endpoint) = cli.metrics.clone() {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            if let Err(error) = page::serve(endpoint, gate).await {
                error!("no metrics: {error:#}");
            }
        });
    }
    // A service manager may not be there.
    let _: std::io::Result<()> = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    info!("ready");
    loop {
        tokio::select! {
            _ = reload.recv() => reread(origin, authorize, &gate).await,
            _ = stop.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            ended = &mut serving => {
                ended.context("listening broke off")?;
                anyhow::bail!("listening ended");
            }
        }
    }
}

/// Decides by the files as they are now, if they can be used.
async fn reread(origin: &Origin, listening: &Authorize, gate: &Arc<Gate>) {
    let origin = origin.clone();
    let read = tokio::task::spawn_blocking(move || read::read(&origin)).await;
    match read {
        Ok(Ok((service, authorize))) => {
            if authorize.listen != listening.listen {
                warn!(
                    "`listen` has changed: restart the service to listen at {}",
                    authorize.listen
                );
            }
            let digest = service.digest.clone();
            gate.swap(service);
            info!("reloaded: policies {digest}");
        }
        Ok(Err(Failure::Policy(text) | Failure::Config(text))) => {
            error!("reload failed, the policies in force stay:\n{text}");
        }
        Ok(Err(Failure::Other(error))) => {
            error!("reload failed, the policies in force stay: {error:#}");
        }
        Err(error) => error!("reload failed, the policies in force stay: {error}"),
    }
}
