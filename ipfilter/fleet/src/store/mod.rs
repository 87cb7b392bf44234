//! What is kept of a group in etcd, below `/ipfilter/GROUP/`:
//!
//! | key | value |
//! |---|---|
//! | `desired` | [`Desired`]: the release that hosts are to enforce |
//! | `overrides` | the release of the group's overrides |
//! | `contents/DIGEST`, `contents/DIGEST/N` | a bundle or overrides: how long they are, and their chunks |
//! | `history/GENERATION` | [`Entry`] |
//! | `hosts/NAME/ID` | [`Report`], under a lease |
//! | `hosts/NAME/last` | the same without one, as it was when something happened last |
//!
//! `contents` and `history` are never changed, only written and collected.

mod contents;
mod desired;
mod history;
mod report;

use ipfilter_bundle::{Digest, Group};
use serde::{Serialize, de::DeserializeOwned};

pub(crate) use contents::{Packed, pack};
pub(crate) use desired::{Canary, Desired, Seen};
pub(crate) use history::{Ended, Entry, How};
pub(crate) use report::{Found, HostOutcome, LAST, Rates, Report, State};

use crate::etcd::{self, Client};

/// Why something can't be read from the store or written to it.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// etcd did not do as it was asked.
    #[error("{0}")]
    Etcd(#[from] etcd::Failure),
    /// Content is not there.
    #[error("{what} {digest:.12} is incomplete in etcd: {why}: publish it again")]
    Missing {
        /// What it is of.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is missing.
        why: String,
    },
    /// Content is not what its digest says.
    #[error("{what} {digest:.12} is damaged in etcd: {why}: publish it again")]
    Damaged {
        /// What it is of.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong.
        why: String,
    },
    /// A value is none that this version knows.
    #[error(
        "`{key}` in etcd can't be understood, {why}: was it written by a newer version of ipfilter?"
    )]
    Unreadable {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
}

impl Failure {
    /// The failure of etcd, if it is one.
    pub(crate) fn etcd(&self) -> Option<&etcd::Failure> {
        match self {
            Self::Etcd(failure) => Some(failure),
            _ => None,
        }
    }
}

/// What is kept of a group.
#[derive(Debug)]
pub(crate) struct Store {
    /// The cluster.
    pub(crate) client: Client,
    /// The group.
    pub(crate) group: Group,
    root: String,
}

impl Store {
    /// That of a group.
    pub(crate) fn new(client: Client, group: Group) -> Self {
        Self {
            client,
            root: format!("/ipfilter/{group}/"),
            group,
        }
    }

    /// The key called so.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.root)
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, i64, i64), Failure> {
        let (found, revision) = self.client.get(key).await?;
        let Some(kv) = found else {
            return Ok((None, 0, revision));
        };
        Ok((Some(parse(key, &kv.value)?), kv.mod_revision, revision))
    }
}

/// Understands a value.
pub(crate) fn parse<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(value).map_err(|error| Failure::Unreadable {
        key: key.to_owned(),
        why: error.to_string(),
    })
}

/// A value as it is written.
fn json(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure::Unreadable {
        key: "a value".into(),
        why: error.to_string(),
    })
}
