//! `ipfilter-fleet agent`: follows a group on a host.

use std::path::PathBuf;

use log::{error, info, warn};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    agent::{self, Agent, Metrics, Socket},
    etcd::{Access, Place},
    outcome::{Exit, Stop},
};

/// Follow a group on this host: have the filter's process enforce what the group is to, and report
///
/// Needs no privileges: it may do what the filter's process lets the user of its `fleet` section do, which is to
/// offer releases. Runs until a signal ends it. While etcd is away, everything stays as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The group: `etcd://HOST[:PORT],…/GROUP`
    #[arg(long, value_name = "URL")]
    follow: Place,

    /// The socket of the filter's process for agents
    #[arg(
        long,
        value_name = "SOCKET",
        default_value = "/run/ipfilter/default.fleet"
    )]
    socket: PathBuf,

    /// What this host is called in the group [default: its host name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Serve metrics at `/metrics` and health at `/healthz` on this address
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,

    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(args: Args) -> Result<Exit, Stop> {
    if args.access.ca.is_none() {
        warn!(
            "the connections to etcd are not encrypted: give `--ca` for those that leave this host"
        );
    }
    let metrics = Metrics::new().map_err(|error| Stop::failed(error.to_string()))?;
    let agent = Agent {
        credentials: args.access.read().map_err(Stop::usage)?,
        name: agent::name(args.name.as_deref()).map_err(Stop::usage)?,
        id: agent::id(),
        host: Socket::new(&args.socket),
        metrics: metrics.clone(),
        place: args.follow,
    };
    let mut stop = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Some(address) = args.metrics {
        tokio::spawn(async move {
            if let Err(error) = agent::serve(&address, metrics).await {
                error!("no metrics: {error:#}");
            }
        });
    }
    info!(
        "this host is `{}` of group `{}`",
        agent.name, agent.place.group
    );
    // A service manager may not be there.
    let _: std::io::Result<()> = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        () = agent.run() => {}
        _ = stop.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Exit::Fine)
}
