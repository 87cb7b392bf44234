//! One connection of an agent: requests and answers, each within bounds of size and time.

use std::{io, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use ipfilter_bundle::{
    Bundle, Kind, LARGEST, SignedRelease,
    frame::{self, Lengths, PREFIX},
    message::{AgentReport, Answer as Said, GroupOverrides, Outcome, Request as Asked},
};
use log::{info, warn};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    daemon::{
        Answer, Ending, Request, Terms,
        events::Event,
        fleet::{Desk, Offer, accept_overrides, host_state},
    },
    document::problem::visible,
    instance::Instance,
    overrides::Change,
    session,
    state::Requester,
};

/// How long a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(60);

/// How long a header may take once it has begun, and an answer may take to be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a bundle may take: another program of this host sends it.
const SENDING: Duration = Duration::from_secs(20);

/// How long who offers something waits for their turn.
const TURN: Duration = Duration::from_secs(60);

/// The most characters of what an agent says of itself.
const LONGEST_TEXT: usize = 400;

/// Answers requests until the agent has no more. Who sends what is none is told so, and cut off.
pub(super) async fn converse(
    mut stream: UnixStream,
    instance: &Instance,
    desk: &Desk,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<()> {
    let by = {
        let peer = stream.peer_cred()?;
        Requester::of_process(peer.uid(), peer.pid())
    };
    loop {
        let mut prefix = [0; PREFIX];
        match timeout(IDLE, stream.read_exact(&mut prefix)).await? {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        };
        let asked = match request(&mut stream, prefix).await {
            Ok(asked) => asked,
            Err(error) => {
                let said = Said::Error(format!(
                    "it is no request that this ipfilter understands: {error:#}"
                ));
                write(&mut stream, &said).await?;
                return Err(error);
            }
        };
        let said = match asked {
            (Asked::State, _) => look(desk, events, None).await?,
            (Asked::Report(report), _) => look(desk, events, Some(report)).await?,
            (Asked::Offer(release), length) => {
                offered(
                    &mut stream,
                    (release, Kind::Bundle),
                    length,
                    (instance, desk, events),
                    &by,
                )
                .await?
            }
            (Asked::Overrides(release), length) => {
                offered(
                    &mut stream,
                    (release, Kind::Overrides),
                    length,
                    (instance, desk, events),
                    &by,
                )
                .await?
            }
        };
        write(&mut stream, &said).await?;
    }
}

/// A request, and how long its body is.
async fn request(stream: &mut UnixStream, prefix: [u8; PREFIX]) -> anyhow::Result<(Asked, usize)> {
    let lengths = Lengths::read(prefix, LARGEST)?;
    let header = timeout(PATIENCE, read(stream, lengths.header)).await;
    let request = frame::header(&header.context("its header did not arrive in time")??)?;
    let most = frame::longest_body(&request);
    if lengths.body > most {
        bail!(
            "a body of {} bytes was announced, and {most} is the most",
            lengths.body
        );
    }
    Ok((request, lengths.body))
}

/// Memory grows with what arrives.
async fn read(stream: &mut UnixStream, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn write(stream: &mut UnixStream, said: &Said) -> anyhow::Result<()> {
    let bytes = frame::begin(said, 0)?;
    timeout(PATIENCE, stream.write_all(&bytes)).await??;
    Ok(())
}

/// How the host is, after taking note of how the agent is.
async fn look(
    desk: &Desk,
    events: &mpsc::Sender<Event>,
    report: Option<AgentReport>,
) -> anyhow::Result<Said> {
    desk.asked(report.map(bounded));
    let (sender, receiver) = oneshot::channel();
    events.send(Event::Look(sender)).await?;
    let snapshot = receiver.await.context("the process ends")?;
    Ok(Said::State(Box::new(host_state(&snapshot))))
}

/// A report without what would write on an operator's terminal, and not longer than anybody reads.
fn bounded(report: AgentReport) -> AgentReport {
    let text = |text: String| text.chars().take(LONGEST_TEXT).map(visible).collect();
    AgentReport {
        version: text(report.version),
        problem: report.problem.map(text),
        desired: report.desired,
    }
}

/// What becomes of a release whose content follows. One at a time is read and decided on.
async fn offered(
    stream: &mut UnixStream,
    (release, kind): (SignedRelease, Kind),
    length: usize,
    (instance, desk, events): (&Instance, &Desk, &mpsc::Sender<Event>),
    by: &Requester,
) -> anyhow::Result<Said> {
    let Ok(_turn) = timeout(TURN, desk.turn()).await else {
        let why = "another release is being put in force".to_owned();
        write(stream, &Said::Outcome(Outcome::Waiting(why))).await?;
        bail!("its release has to wait");
    };
    let content = timeout(SENDING, read(stream, length)).await;
    let content = content.context("the content of a release did not arrive in time")??;
    let outcome = decide((&release, kind), content, (instance, desk, events), by).await?;
    match &outcome {
        Outcome::InForce => info!(
            "{} of group `{}` is in force",
            release.release, release.release.group
        ),
        Outcome::Unchanged => {}
        Outcome::Refused(why) | Outcome::Waiting(why) => {
            // Agents offer it again and again.
            if desk.turn_down(&release.release, why) {
                warn!(
                    "{} of group `{}` is not in force: {why}",
                    release.release, release.release.group
                );
            }
        }
    }
    Ok(Said::Outcome(outcome))
}

async fn decide(
    (release, kind): (&SignedRelease, Kind),
    content: Vec<u8>,
    (instance, desk, events): (&Instance, &Desk, &mpsc::Sender<Event>),
    by: &Requester,
) -> anyhow::Result<Outcome> {
    let (checked, at, its_desk) = (release.clone(), instance.clone(), desk.clone());
    // A large one takes a moment.
    let admitted = spawn_blocking(move || {
        its_desk.admit(&at, &checked, kind, &content)?;
        let malformed = |why: String| Outcome::Refused(format!("it can't be read: {why}"));
        match kind {
            Kind::Bundle => {
                let bundle =
                    Bundle::decode(&content).map_err(|error| malformed(error.to_string()))?;
                Ok(Content::Bundle(Offer::new(checked, bundle, content).into()))
            }
            Kind::Overrides => {
                let overrides = GroupOverrides::decode(&content).map_err(malformed)?;
                Ok(Content::Overrides(overrides))
            }
        }
    });
    let (sender, receiver) = oneshot::channel();
    match admitted.await? {
        Err(outcome) => return Ok(outcome),
        Ok(Content::Bundle(offer)) => {
            desk.set_offer(Some(Arc::from(offer)));
            let terms = Terms {
                sessions: session::guarded(),
                ..Terms::default()
            };
            events
                .send(Event::Offered(terms, by.clone(), sender))
                .await?;
        }
        Ok(Content::Overrides(group)) => {
            let change = Request::Override(Change::Group(group.overrides));
            events
                .send(Event::Asked(change, by.clone(), sender))
                .await?;
        }
    }
    let answer = receiver.await;
    desk.set_offer(None);
    let outcome = outcome(answer.context("the process ends")?);
    if kind == Kind::Overrides && outcome == Outcome::InForce {
        let (at, release) = (instance.clone(), release.clone());
        spawn_blocking(move || accept_overrides(&at, release)).await?;
        desk.reread(instance);
    }
    Ok(outcome)
}

/// What a release is of.
enum Content {
    Bundle(Box<Offer>),
    Overrides(GroupOverrides),
}

fn outcome(answer: Answer) -> Outcome {
    match answer.result {
        Ending::Done => Outcome::InForce,
        Ending::Waiting | Ending::Queued => Outcome::Waiting(answer.message),
        Ending::Misconfigured
        | Ending::Invalid
        | Ending::Partial
        | Ending::Guarded
        | Ending::Failed => Outcome::Refused(answer.message),
    }
}
