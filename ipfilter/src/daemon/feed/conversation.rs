//! Sends one service what it is to have, and reads what it answers.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use ipfilter_feed::{Prepared, Reply, longest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{Instant, sleep_until, timeout},
};

use super::{Feed, Order, State};

/// How long a service may take to read what it is sent.
const READING: Duration = Duration::from_secs(30);

/// How long nothing is read after a report: it must not keep this process busy.
const PAUSE: Duration = Duration::from_millis(200);

/// What a service has been sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    now: Option<String>,
    next: Option<String>,
    order: Option<Arc<Order>>,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub(super) enum Line {
    Policies(Arc<Prepared>),
    Order(Arc<Order>),
}

impl Line {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Policies(prepared) => &prepared.line,
            Self::Order(order) => &order.line,
        }
    }
}

impl Sent {
    /// What is to be sent so that a service has `state`, and counts as sent from now on.
    pub(super) fn missing(&mut self, state: &State) -> Vec<Line> {
        let mut lines = Vec::new();
        if let (Some(order), Some(now)) = (&state.order, &state.now)
            && !self
                .order
                .as_ref()
                .is_some_and(|sent| Arc::ptr_eq(sent, order))
        {
            lines.extend(self.policies(now));
            lines.push(Line::Order(Arc::clone(order)));
            if self.now.as_ref() != Some(&order.digest) {
                self.now = self.next.take();
            }
            self.order = Some(Arc::clone(order));
        }
        lines.extend(state.next.as_ref().and_then(|next| self.policies(next)));
        lines
    }

    /// The policies, unless a service has them: those it decides by, and one set besides.
    fn policies(&mut self, wanted: &Arc<Prepared>) -> Option<Line> {
        let digest = Some(&wanted.digest);
        if self.now.as_ref() == digest || self.next.as_ref() == digest {
            return None;
        }
        self.next = digest.cloned();
        Some(Line::Policies(Arc::clone(wanted)))
    }
}

/// Hands a service what it is to have, until it goes away.
pub(super) async fn follow(feed: &Feed, id: u64, mut stream: UnixStream) -> anyhow::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut states = feed.0.state.subscribe();
    let mut sent = Sent::default();
    let mut replies = Vec::new();
    let mut next_read = Instant::now();
    loop {
        let lines = sent.missing(&states.borrow_and_update());
        for line in lines {
            timeout(READING, writer.write_all(line.bytes()))
                .await
                .context("it does not read")??;
        }
        tokio::select! {
            changed = states.changed() => changed?,
            read = async { sleep_until(next_read).await; reader.read_buf(&mut replies).await } => {
                if read? == 0 {
                    return Ok(());
                }
                if take_replies(feed, id, &mut replies)? > 0 {
                    next_read = Instant::now() + PAUSE;
                }
            }
        }
    }
}

/// Takes the replies that are complete out of what was read, and counts the reports among them.
fn take_replies(feed: &Feed, id: u64, read: &mut Vec<u8>) -> anyhow::Result<usize> {
    let mut reports = 0;
    while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
        let line: Vec<u8> = read.drain(..=end).collect();
        ensure!(line.len() <= longest(&line), "its reply is too long");
        match String::from_utf8_lossy(&line).parse() {
            Ok(reply) => {
                reports += usize::from(matches!(reply, Reply::Counted(_)));
                feed.replied(id, reply);
            }
            Err(()) => bail!("its reply is not one that is known"),
        }
    }
    ensure!(read.len() <= longest(read), "its reply is too long");
    Ok(reports)
}
