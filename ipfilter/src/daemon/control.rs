//! Asking a running process to do something, over a socket of its own ("unix(7)").
//!
//! One line of JSON each way. Who may write to the socket's file may ask; that is root.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use log::warn;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    feed::{Feed, Requests},
    fleet::Desk,
};
use crate::failure::Failure;
use crate::instance::Instance;
use crate::overrides::{Change, Override, shown};
use crate::session::Session;
use crate::state::Requester;
use crate::view::fleet::FleetState;
use crate::view::services::Services;

/// The longest request, in bytes.
const LONGEST: u64 = 1 << 20;

/// How long who has connected may take to ask.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for what can be answered at once.
const LOOKING: Duration = Duration::from_secs(1);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Deploy anew from the files.
    Reload(Terms),
    /// Go back to the deployment before.
    Rollback(Terms),
    /// Keep a change that would be rolled back.
    Confirm(Terms),
    /// Detach the filter for a while.
    Detach(Terms),
    /// Change the overrides.
    Override(Change),
    /// The same, answered at once: before it is in force, or refused.
    Queue(Change),
}

/// What can be looked at, whatever the process is busy with.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Look {
    /// What authorization services report; of the denied requests, those after the first so many, or none.
    Requests(Option<u64>),
    /// The authorization services, and how far they are.
    Services,
    /// How the host is in its fleet.
    Fleet,
}

/// A line of who asks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Look(Look),
    Do(Request),
}

/// How a request is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// Close the connections of sources that are denied then.
    pub cut: bool,
    /// Take it back after this time.
    pub lasts: Option<SignedDuration>,
    /// The sessions that it must not cut off.
    pub sessions: Vec<Session>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How it ended.
    pub result: Ending,
    /// The message to the operator: what is in force now, or why it is not.
    pub message: String,
    /// The overrides that were added, renewed or removed.
    #[serde(default)]
    pub overrides: Vec<Override>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// What was asked for is in force.
    Done,
    /// What was asked for waits for its turn.
    Queued,
    /// The configuration is wrong; the old plan stays.
    Misconfigured,
    /// A policy is invalid; the old plan stays.
    Invalid,
    /// A policy can only partly be enforced; the old plan stays.
    Partial,
    /// It would cut off who asks for it; the old plan stays.
    Guarded,
    /// Something else on this host must end first; the old plan stays.
    Waiting,
    /// Anything else went wrong; the old plan stays.
    Failed,
}

impl Answer {
    pub(super) fn new(result: &Result<(), Failure>, done: impl FnOnce() -> String) -> Self {
        let (result, message) = match result {
            Ok(()) => (Ending::Done, done()),
            Err(failure) => {
                let ending = match failure {
                    Failure::Config(_) => Ending::Misconfigured,
                    Failure::Policy(_) => Ending::Invalid,
                    Failure::Partial(_) => Ending::Partial,
                    Failure::Guarded(_) => Ending::Guarded,
                    _ => Ending::Failed,
                };
                (ending, failure.to_string())
            }
        };
        Self {
            result,
            message,
            overrides: Vec::new(),
        }
    }

    /// That a change waits for its turn.
    fn queued(change: &Change) -> Self {
        let what = match change {
            Change::Add(rule) => format!("{} {}", rule.effect, shown(rule.source)),
            Change::Remove(_) | Change::Lift { .. } | Change::LiftReason(_) => "removal".into(),
            Change::Group(_) => "overrides of the group".into(),
        };
        Self {
            result: Ending::Queued,
            message: format!(
                "accepted, and not in force yet: {what}. It takes about a second; `ipfilter overrides` then \
                 shows it, or the log why not"
            ),
            overrides: Vec::new(),
        }
    }

    /// Adds what came of a step after the plan was put in force.
    pub(super) fn add(&mut self, more: &Result<String, Failure>) {
        match more {
            Ok(done) => self.message = format!("{}; {done}", self.message),
            Err(failure) => {
                self.result = Ending::Failed;
                self.message = format!("{}, but {failure}", self.message);
            }
        }
    }
}

/// A request that has arrived, who has sent it, and where the answer goes.
#[derive(Debug)]
pub(super) struct Asked(
    pub(super) Request,
    pub(super) Requester,
    pub(super) oneshot::Sender<Answer>,
);

/// Asks the process that runs `instance`, and waits until it has done it.
///
/// # Errors
///
/// When none runs it, or it ends before it has answered.
pub fn ask(instance: &Instance, request: &Request) -> anyhow::Result<Answer> {
    exchange(instance, request, None)
}

/// What authorization services report to the process that runs `instance`; of the denied requests, those after the
/// first `seen`, or none. Does not wait for a process that is stuck.
///
/// # Errors
///
/// When none runs it, or it does not answer.
pub fn requests(instance: &Instance, seen: Option<u64>) -> anyhow::Result<Requests> {
    exchange(instance, &Look::Requests(seen), Some(LOOKING))
}

/// The authorization services that read the policies from the process that runs `instance`; nothing where none is
/// configured, or was. Does not wait for a process that is stuck.
///
/// # Errors
///
/// When none runs it, or it does not answer.
pub fn services(instance: &Instance) -> anyhow::Result<Option<Services>> {
    exchange(instance, &Look::Services, Some(LOOKING))
}

/// How the host of `instance` is in its fleet, if it belongs to one. Does not wait for a process that is stuck.
///
/// # Errors
///
/// When no process runs it, or it does not answer.
pub fn fleet(instance: &Instance) -> anyhow::Result<Option<FleetState>> {
    exchange(instance, &Look::Fleet, Some(LOOKING))
}

/// Writes a line to the process that runs `instance`, and reads one.
fn exchange<A: DeserializeOwned>(
    instance: &Instance,
    request: &impl Serialize,
    patience: Option<Duration>,
) -> anyhow::Result<A> {
    let mut stream = match UnixStream::connect(path(instance)) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            bail!(
                "no process runs instance `{}`: start one with `ipfilter run`",
                instance.name()
            )
        }
        Err(error) => {
            return Err(error).with_context(|| format!("can't ask instance `{}`", instance.name()));
        }
    };
    let lost = "the process that runs the instance has not answered; its log says more";
    stream.set_read_timeout(patience).context(lost)?;
    writeln!(stream, "{}", serde_json::to_string(&request)?).context(lost)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context(lost)?;
    serde_json::from_str(&line).context(lost)
}

/// The socket of the process that runs an instance; removed when it is dropped.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    serving: tokio::task::JoinHandle<()>,
}

impl Control {
    /// Begins to listen. Whoever calls this holds the instance's lock: a socket that is there
    /// already is a dead process's. Needs a runtime to be entered.
    pub(super) fn listen<E>(
        instance: &Instance,
        events: mpsc::Sender<E>,
        desks: (Feed, Desk),
    ) -> anyhow::Result<Self>
    where
        E: From<Asked> + Send + Sync + 'static,
    {
        let path = path(instance);
        let listen = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir_all(instance.runtime())?;
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = listen().with_context(|| format!("can't listen at `{}`", path.display()))?;
        let serving = tokio::spawn(serve(listener, events, desks));
        Ok(Self { path, serving })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.serving.abort();
        // Best effort: a socket without a process is as good as none.
        let _: io::Result<()> = fs::remove_file(&self.path);
    }
}

async fn serve<E: From<Asked> + Send + Sync + 'static>(
    listener: UnixListener,
    events: mpsc::Sender<E>,
    desks: (Feed, Desk),
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (events, desks) = (events.clone(), desks.clone());
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &events, &desks).await {
                        warn!("a control request failed: {error:#}");
                    }
                });
            }
            Err(error) => {
                // Such as too many open files: others must end first.
                warn!("can't accept a control request: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn answer<E: From<Asked> + Send + Sync + 'static>(
    mut stream: tokio::net::UnixStream,
    events: &mpsc::Sender<E>,
    (feed, desk): &(Feed, Desk),
) -> anyhow::Result<()> {
    let peer = stream.peer_cred().context("nobody is known to ask")?;
    let (reader, mut writer) = stream.split();
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(reader.take(LONGEST));
    timeout(PATIENCE, reader.read_line(&mut line))
        .await
        .context("nothing was asked")??;
    if line.is_empty() {
        // Somebody wanted to know only which process listens.
        return Ok(());
    }
    let mut text = match serde_json::from_str(&line).context("it is no request")? {
        Line::Look(Look::Requests(seen)) => serde_json::to_vec(&feed.requests(seen))?,
        Line::Look(Look::Services) => serde_json::to_vec(&feed.services())?,
        Line::Look(Look::Fleet) => serde_json::to_vec(&desk.state())?,
        Line::Do(request) => {
            let (sender, receiver) = oneshot::channel();
            let (uid, pid) = (peer.uid(), peer.pid());
            let by = Requester::of_process(uid, pid);
            let queued = match &request {
                Request::Queue(change) => Some(Answer::queued(change)),
                _ => None,
            };
            events.send(Asked(request, by, sender).into()).await?;
            let answer = match queued {
                Some(queued) => queued,
                None => receiver.await.context("the process ends")?,
            };
            serde_json::to_vec(&answer)?
        }
    };
    text.push(b'\n');
    writer.write_all(&text).await.context("nobody waits for it")
}

fn path(instance: &Instance) -> PathBuf {
    instance.runtime().join("control")
}
