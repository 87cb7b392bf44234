//! Watching keys for changes.

use std::collections::VecDeque;

use tokio_stream::StreamExt as _;
use tonic::Streaming;

use super::{
    Failure, behind,
    connection::Connection,
    messages::{Asked, Event, WatchCreateRequest, WatchRequest, WatchResponse},
};

/// A watch, which ends with the connection.
#[derive(Debug)]
pub(crate) struct Watch {
    connection: Connection,
    answers: Streaming<WatchResponse>,
    waiting: VecDeque<Changed>,
    from: i64,
}

/// A change.
#[derive(Clone, Debug)]
pub(crate) enum Changed {
    /// The key has this value now.
    Put {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// The revision of the change.
        revision: i64,
    },
    /// The key is gone.
    Deleted {
        /// The key.
        key: String,
    },
}

impl Changed {
    fn of(event: Event) -> Option<Self> {
        let kv = event.kv?;
        let key = String::from_utf8(kv.key).ok()?;
        Some(match event.kind {
            0 => Self::Put {
                key,
                value: kv.value,
                revision: kv.mod_revision,
            },
            _ => Self::Deleted { key },
        })
    }

    /// The key that changed.
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Deleted { key } => key,
        }
    }
}

impl Watch {
    /// Watches these keys, or all that begin so if they end in `/`, from a revision on.
    pub(super) async fn open(
        connection: &Connection,
        keys: &[String],
        from: i64,
    ) -> Result<Self, Failure> {
        let requests: Vec<_> = keys
            .iter()
            .map(|key| WatchRequest {
                request: Some(Asked::Create(WatchCreateRequest {
                    key: key.clone().into_bytes(),
                    range_end: if key.ends_with('/') {
                        behind(key)
                    } else {
                        Vec::new()
                    },
                    start_revision: from,
                })),
            })
            .collect();
        // The stream of requests must stay open, or etcd ends the watch.
        let requests = tokio_stream::iter(requests).chain(tokio_stream::pending());
        Ok(Self {
            answers: connection.stream("Watch/Watch", requests).await?,
            connection: connection.clone(),
            waiting: VecDeque::new(),
            from,
        })
    }

    /// Waits for the next change, and takes all that has come with it.
    pub(crate) async fn next_all(&mut self) -> Result<Vec<Changed>, Failure> {
        let first = self.next().await?;
        Ok(std::iter::once(first)
            .chain(self.waiting.drain(..))
            .collect())
    }

    /// Waits for the next change.
    pub(crate) async fn next(&mut self) -> Result<Changed, Failure> {
        loop {
            if let Some(changed) = self.waiting.pop_front() {
                return Ok(changed);
            }
            let answer = self.answers.message().await;
            let answer = answer.map_err(|status| self.connection.failure(&status))?;
            let Some(answer) = answer else {
                return Err(Failure::unreachable(
                    &self.connection.member,
                    "it has ended the watch",
                ));
            };
            if answer.compact_revision > 0 {
                return Err(Failure::Compacted(self.from));
            }
            if answer.canceled {
                return Err(canceled(&self.connection.member, &answer.cancel_reason));
            }
            self.waiting
                .extend(answer.events.into_iter().filter_map(Changed::of));
        }
    }
}

/// Why etcd ended a watch, which it says in words alone.
fn canceled(member: &str, reason: &str) -> Failure {
    let reason = reason.trim_start_matches("rpc error: ");
    if reason.contains("permission denied") || reason.contains("auth token") {
        Failure::Unauthorised(reason.to_owned())
    } else {
        Failure::unreachable(member, format!("it has ended the watch: {reason}"))
    }
}
