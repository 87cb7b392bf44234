//! HAProxy's stream processing offload protocol (HAProxy, `SPOE.txt`).
//!
//! HAProxy sends a message whose arguments are named after what they are: `src`, `method`, `path` (or
//! `url`), `ssl`, `host`, `api`, and headers by their names in lower case. The answer is the variable `allowed`, of
//! the transaction, and for a denial `body`. Without an answer the variable is not there, so a configuration
//! that denies unless it is true fails closed.

use std::{io, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use spop::{
    SpopCodec, SpopFrame, StatusCode, TypedData,
    actions::VarScope,
    frame::{FramePayload, FrameType, Message},
    frames::{Ack, AgentDisconnect, AgentHello, FrameCapabilities, HaproxyHello},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::codec::Framed;

use crate::{
    answer::Denial,
    gate::Gate,
    question::{Headers, Line, Peer},
    refusal::Refusal,
};

/// The most bytes of a frame.
const LONGEST: u32 = 64 << 10;

/// How long the next frame is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// The messages that are understood.
const MESSAGE: &str = "ipfilter";

/// Answers HAProxy until it ends the connection.
pub(crate) async fn serve<S>(gate: Arc<Gate>, peer: Peer, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if let Err(error) = converse(&gate, peer, stream).await {
        gate.refuse(peer, Refusal::Malformed);
        log::debug!("a connection of HAProxy broke off: {error}");
    }
}

async fn converse<S>(gate: &Gate, peer: Peer, stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut frames = Framed::new(stream, SpopCodec::new(LONGEST));
    while let Ok(Some(frame)) = timeout(PATIENCE, frames.next()).await {
        let frame = frame?;
        match frame.frame_type() {
            FrameType::HaproxyHello => {
                let (hello, is_check) = match greet(frame.as_ref()) {
                    Ok(greeted) => greeted,
                    Err(status) => return end(&mut frames, status).await,
                };
                frames.codec_mut().set_max_frame_size(hello.max_frame_size);
                frames.send(Box::new(hello)).await?;
                if is_check {
                    return Ok(());
                }
            }
            FrameType::Notify => {
                let answer = notified(gate, peer, frame.as_ref());
                frames.send(Box::new(answer)).await?;
            }
            FrameType::HaproxyDisconnect => return end(&mut frames, StatusCode::None).await,
            _ => return end(&mut frames, StatusCode::Invalid).await,
        }
    }
    Ok(())
}

/// The answer to a greeting, and whether all that was wanted is to know that we are there.
fn greet(frame: &dyn SpopFrame) -> Result<(AgentHello, bool), StatusCode> {
    let hello = HaproxyHello::try_from(frame.payload()).map_err(|_| StatusCode::Invalid)?;
    let version = hello.negotiate_version().ok_or(StatusCode::BadVersion)?;
    let answer = AgentHello {
        version,
        max_frame_size: hello.negotiate_max_frame_size(LONGEST)?,
        capabilities: vec![FrameCapabilities::Pipelining],
    };
    Ok((answer, hello.healthcheck.unwrap_or(false)))
}

async fn end<S>(frames: &mut Framed<S, SpopCodec>, status: StatusCode) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = AgentDisconnect {
        status_code: status.to_u32(),
        message: status.message().to_owned(),
    };
    frames.send(Box::new(farewell)).await?;
    frames.close().await
}

fn notified(gate: &Gate, peer: Peer, frame: &dyn SpopFrame) -> Ack {
    let metadata = frame.metadata();
    let mut ack = Ack::new(metadata.stream_id, metadata.frame_id);
    let payload = frame.payload();
    let FramePayload::ListOfMessages(messages) = &payload else {
        return ack;
    };
    for message in messages.iter().filter(|message| message.name == MESSAGE) {
        let answer = asked(gate, peer, message);
        ack = ack.set_var(VarScope::Transaction, "allowed", answer.is_ok());
        if let Err(denial) = answer {
            ack = ack.set_var(VarScope::Transaction, "body", denial.body);
        }
    }
    ack
}

fn asked(gate: &Gate, peer: Peer, message: &Message) -> Result<(), Denial> {
    let text = |name: &str| match message.get(name) {
        Some(TypedData::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let last = match message.get("src") {
        Some(TypedData::IPv4(address)) => Some((*address).into()),
        Some(TypedData::IPv6(address)) => Some((*address).into()),
        _ => None,
    };
    let (Some(method), Some(target)) = (text("method"), text("path").or_else(|| text("url")))
    else {
        gate.refuse(peer, Refusal::Malformed);
        return Err(Denial::unjudged());
    };
    let line = Line {
        method,
        target,
        last,
        secure: match message.get("ssl") {
            Some(TypedData::Bool(ssl)) => Some(*ssl),
            _ => None,
        },
        api: text("api"),
        is_clients: true,
    };
    gate.ask(peer, &Arguments(message), line)
}

/// The arguments of a message as headers; one that HAProxy has no value for is not there.
struct Arguments<'a>(&'a Message);

impl Headers for Arguments<'_> {
    fn all(&self, name: &str) -> Option<Vec<&str>> {
        let mut values = Vec::new();
        for (_, value) in self.0.args.iter().filter(|(argument, _)| argument == name) {
            match value {
                TypedData::Null => {}
                TypedData::String(text) => values.push(text.as_str()),
                _ => return None,
            }
        }
        Some(values)
    }
}
