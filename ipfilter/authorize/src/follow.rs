//! Deciding by what the filter's process has in force, in the same step as its tables.
//!
//! That process hands over policies to get ready, and then the order to serve them. While it is away the
//! last ones stay in force, as they do at the interfaces.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use ipfilter_config::Authorize;
use ipfilter_feed::{Message, Policies, Reply, Serve};
use log::{error, info, warn};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::watch,
    time::sleep,
};

use crate::{gate::Gate, in_force::InForce, overruled::Overruled, read, service::Service};

/// How soon to connect again.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest message, in bytes: policies of several million blocks.
const LONGEST: u64 = 1 << 30;

/// The policies that were handed over last: those in force, and those that are about to be.
#[derive(Default)]
struct Follower {
    now: Option<Ready>,
    next: Option<Ready>,
}

/// Policies that can be served.
#[derive(Clone)]
struct Ready {
    digest: String,
    /// None where the filter's process has no settings for this service: then it denies everything.
    service: Option<Arc<Service>>,
}

/// Follows the filter's process at `path` for ever. `listen` gets the settings of what is served.
pub(crate) async fn follow(path: &Path, gate: &Gate, listen: &watch::Sender<Option<Authorize>>) {
    let mut follower = Follower::default();
    let mut reported = String::new();
    loop {
        let ended = match UnixStream::connect(path).await {
            Ok(stream) => {
                let ended = follower.converse(stream, gate, listen, &mut reported).await;
                ended.err().map_or_else(
                    || "it has closed the connection".to_owned(),
                    |error| format!("{error:#}"),
                )
            }
            Err(error) => error.to_string(),
        };
        gate.following(false);
        // Once for each reason, however long it takes.
        if reported != ended {
            let path = path.display();
            match &follower.now {
                Some(_) => warn!(
                    "the filter's process can't be followed at `{path}`, so the policies it handed over \
                     last stay in force: {ended}"
                ),
                None => warn!(
                    "waiting for the filter's process at `{path}`, and deciding nothing: {ended}. It is \
                     there while `ipfilter run` runs with an `authorize` section whose `user` is this one"
                ),
            }
            reported = ended;
        }
        sleep(PAUSE).await;
    }
}

impl Follower {
    async fn converse(
        &mut self,
        stream: UnixStream,
        gate: &Gate,
        listen: &watch::Sender<Option<Authorize>>,
        reported: &mut String,
    ) -> anyhow::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Some(line) = next(&mut reader).await? {
            let message = Message::read(&line).context("it is of another version")?;
            drop(line);
            let reply = match message {
                Message::Prepare { digest, policies } => self.prepare(digest, policies).await,
                Message::Serve(serve) => {
                    let plan = serve.plan.clone();
                    self.serve(serve, gate, listen);
                    gate.following(true);
                    reported.clear();
                    Reply::Serving(plan)
                }
            };
            writer.write_all(format!("{reply}\n").as_bytes()).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, digest: String, policies: Policies) -> Reply {
        if self.now.as_ref().is_some_and(|now| now.digest == digest) {
            return Reply::Ready(digest);
        }
        let name = digest.clone();
        let ready = tokio::task::spawn_blocking(move || read::handed(policies, name)).await;
        let failure = match ready {
            Ok(Ok(service)) => {
                let service = service.map(Arc::new);
                self.next = Some(Ready {
                    digest: digest.clone(),
                    service,
                });
                return Reply::Ready(digest);
            }
            Ok(Err(failure)) => failure.to_string(),
            Err(error) => error.to_string(),
        };
        error!("the policies {digest} can't be used:\n{failure}");
        self.next = None;
        Reply::Unusable(digest)
    }

    fn serve(&mut self, order: Serve, gate: &Gate, listen: &watch::Sender<Option<Authorize>>) {
        let is_next = |ready: &&Ready| ready.digest == order.digest;
        if self.now.as_ref().filter(is_next).is_none() {
            self.now = self.next.take().filter(|ready| is_next(&ready));
            info!("policies {}, plan {}", order.digest, order.plan);
        }
        let service = self.now.as_ref().and_then(|ready| ready.service.clone());
        if service.is_none() {
            warn!("there are no policies to decide by: every request is denied");
        }
        if let Some(service) = &service {
            listen.send_if_modified(|listen| {
                let changed = listen.as_ref() != Some(&service.authorize);
                *listen = Some(service.authorize.clone());
                changed
            });
        }
        gate.swap(InForce {
            service: service.unwrap_or_else(|| Arc::new(Service::closed(order.digest))),
            overruled: Overruled::new(&order.overrides),
            plan: Some(order.plan),
        });
    }
}

/// The next line; nothing at the end.
async fn next(reader: &mut (impl AsyncBufRead + Unpin)) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(LONGEST).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => bail!("it broke off within a message"),
    }
}
