//! What can go wrong with etcd, in a sentence each.

use std::error::Error;

use tonic::{Code, Status};

/// Why etcd did not do as it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It can't be reached, or has no leader.
    #[error("etcd can't be reached at {at}: {reason}")]
    Unreachable {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// It does not let this user do this.
    #[error(
        "etcd refuses it: {0}: check the user, its password or certificate, and the permissions of its role"
    )]
    Unauthorised(String),
    /// Its database is full.
    #[error(
        "etcd's database is full: compact and defragment it, or raise `--quota-backend-bytes`, then `etcdctl alarm disarm`"
    )]
    Full,
    /// What a watch was to begin with is gone. Reading everything anew helps.
    #[error("etcd has compacted past revision {0}")]
    Compacted(i64),
    /// A lease has run out.
    #[error("the lease has expired")]
    Expired,
    /// Anything else.
    #[error("etcd: {0}")]
    Other(String),
}

impl Failure {
    pub(super) fn unreachable(at: &str, reason: impl Into<String>) -> Self {
        Self::Unreachable {
            at: at.to_owned(),
            reason: reason.into(),
        }
    }

    /// That of an answer of the member at `at`.
    pub(super) fn of(at: &str, status: &Status) -> Self {
        let message = status.message().trim_start_matches("etcdserver: ");
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::Unauthorised(message.to_owned())
            }
            Code::InvalidArgument if is_about_users(message) => {
                Self::Unauthorised(message.to_owned())
            }
            Code::ResourceExhausted if message.contains("space exceeded") => Self::Full,
            Code::NotFound if message.contains("lease not found") => Self::Expired,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
                Self::unreachable(at, causes(status, message))
            }
            _ => Self::Other(message.to_owned()),
        }
    }

    /// Whether another member, or the same one later, may do it.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// What etcd calls an invalid argument when authentication is on.
fn is_about_users(message: &str) -> bool {
    [
        "user name is empty",
        "authentication failed",
        "authentication is not enabled",
        "auth token",
    ]
    .iter()
    .any(|known| message.contains(known))
}

/// The last cause says most: "connection refused" rather than "transport error".
fn causes(status: &Status, message: &str) -> String {
    let mut last = message.to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

/// The last cause of an error of the connection.
pub(super) fn cause(error: &tonic::transport::Error) -> String {
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}
