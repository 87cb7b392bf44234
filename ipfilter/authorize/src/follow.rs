//! Deciding by what the filter's process has in force, in the same step as its tables.
//!
//! That process hands over policies to get ready, and then the order to serve them. While it is away the
//! last ones stay in force, as they do at the interfaces.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use ipfilter_feed::{Message, Policies, Reply, Report, Serve};
use log::{error, info, warn};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    gate::Gate, in_force::InForce, listen::Listening, overruled::Overruled, read, service::Service,
};

/// How soon to connect again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often decisions are reported, and listening is tried again where it failed.
const SECOND: Duration = Duration::from_secs(1);

/// The longest message, in bytes: policies of several million blocks.
const LONGEST: u64 = 1 << 30;

/// What was handed over: the policies in force, and those that are about to be.
struct Follower<'a> {
    gate: &'a Gate,
    listening: &'a mut Listening,
    /// Called once it listens.
    ready: Option<Box<dyn FnOnce() + Send + 'a>>,
    now: Option<Ready>,
    next: Option<Ready>,
    /// The order that is not answered yet, since proxies can't ask where they should.
    unanswered: Option<String>,
    /// Why, as it was last logged.
    trouble: String,
    /// The counters as they were last reported.
    reported: Report,
}

/// Policies that can be served.
#[derive(Clone)]
struct Ready {
    digest: String,
    /// None where the filter's process has no settings for this service: then it denies everything.
    service: Option<Arc<Service>>,
}

/// Follows the filter's process at `path` until listening breaks off. Calls `ready` once it listens.
pub(crate) async fn follow(
    path: &Path,
    gate: &Gate,
    listening: &mut Listening,
    ready: impl FnOnce() + Send,
) -> anyhow::Result<()> {
    let mut follower = Follower {
        gate,
        listening,
        ready: Some(Box::new(ready)),
        now: None,
        next: None,
        unanswered: None,
        trouble: String::new(),
        reported: Report::default(),
    };
    let mut logged = String::new();
    loop {
        let ended = match UnixStream::connect(path).await {
            Ok(stream) => match follower.converse(stream, &mut logged).await {
                Ok(()) => "it has closed the connection".to_owned(),
                Err(Ended::Broken(error)) => return Err(error),
                Err(Ended::Lost(error)) => format!("{error:#}"),
            },
            Err(error) => error.to_string(),
        };
        gate.following(false);
        // Once for each reason, however long it takes.
        if logged != ended {
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
            logged = ended;
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            error = follower.listening.broken() => return Err(error),
        }
        follower.listen().await;
    }
}

/// Why a conversation ended.
enum Ended {
    /// The filter's process is away, or says what is not understood.
    Lost(anyhow::Error),
    /// Nothing is listened at any more.
    Broken(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

impl Follower<'_> {
    async fn converse(&mut self, stream: UnixStream, logged: &mut String) -> Result<(), Ended> {
        let (reader, mut writer) = stream.into_split();
        let mut reader: BufReader<OwnedReadHalf> = BufReader::new(reader);
        let mut seconds = interval(SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut line = Vec::new();
        self.reported = Report::default();
        loop {
            tokio::select! {
                is_whole = next(&mut reader, &mut line) => {
                    if !is_whole? {
                        return Ok(());
                    }
                    let message = Message::read(&line).context("it is of another version")?;
                    line = Vec::new();
                    self.obey(message, &mut writer, logged).await?;
                }
                _ = seconds.tick() => {
                    self.listen().await;
                    self.answer(&mut writer).await?;
                    self.report(&mut writer).await?;
                }
                error = self.listening.broken() => return Err(Ended::Broken(error)),
            }
        }
    }

    async fn obey(
        &mut self,
        message: Message,
        writer: &mut OwnedWriteHalf,
        logged: &mut String,
    ) -> anyhow::Result<()> {
        match message {
            Message::Prepare { digest, policies } => {
                let reply = self.prepare(digest, policies).await;
                write(writer, &reply).await
            }
            Message::Serve(serve) => {
                self.unanswered = Some(serve.order.clone());
                self.serve(serve);
                self.gate.following(true);
                logged.clear();
                self.listen().await;
                self.answer(writer).await
            }
        }
    }

    /// Listens where the policies in force say.
    async fn listen(&mut self) {
        let service = self.now.as_ref().and_then(|ready| ready.service.clone());
        let Some(service) = service else { return };
        match self.listening.at(&service.authorize).await {
            Ok(()) => {
                self.trouble.clear();
                if let Some(ready) = self.ready.take() {
                    ready();
                }
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if trouble != self.trouble {
                    error!(
                        "{trouble}; retrying every second. Proxies can ask only where they could before"
                    );
                }
                self.trouble = trouble;
            }
        }
    }

    /// Answers an order, once proxies can ask where they should.
    async fn answer(&mut self, writer: &mut OwnedWriteHalf) -> anyhow::Result<()> {
        if self.trouble.is_empty()
            && let Some(order) = self.unanswered.take()
        {
            write(writer, &Reply::Serving(order)).await?;
        }
        Ok(())
    }

    /// Reports what has been decided, if there is something new.
    async fn report(&mut self, writer: &mut OwnedWriteHalf) -> anyhow::Result<()> {
        let report = self.gate.report();
        let counters = Report {
            decided: report.decided.clone(),
            refused: report.refused.clone(),
            ..Report::default()
        };
        let is_new =
            counters != self.reported || report.unreported > 0 || !report.denied.is_empty();
        if is_new && self.now.is_some() {
            write(writer, &Reply::Counted(report)).await?;
            self.reported = counters;
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

    fn serve(&mut self, order: Serve) {
        let is_next = |ready: &&Ready| ready.digest == order.digest;
        if self.now.as_ref().filter(is_next).is_none() {
            self.now = self.next.take().filter(|ready| is_next(&ready));
            info!("policies {}, plan {}", order.digest, order.plan);
        }
        let service = self.now.as_ref().and_then(|ready| ready.service.clone());
        if service.is_none() {
            warn!("there are no policies to decide by: every request is denied");
            self.trouble.clear();
        }
        self.gate.swap(InForce {
            service: service.unwrap_or_else(|| Arc::new(Service::closed(order.digest))),
            overruled: Overruled::new(&order.overrides),
            plan: Some(order.plan),
        });
    }
}

async fn write(writer: &mut OwnedWriteHalf, reply: &Reply) -> anyhow::Result<()> {
    writer.write_all(format!("{reply}\n").as_bytes()).await?;
    Ok(())
}

/// Reads on to the end of a line, of which `line` has what was read before; false at the end. Nothing is lost
/// if it is dropped meanwhile.
async fn next(
    reader: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> anyhow::Result<bool> {
    let room = LONGEST.saturating_sub(line.len() as u64);
    reader.take(room).read_until(b'\n', line).await?;
    match line.last() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) => bail!("it broke off within a message"),
    }
}
