//! What was published.

use ipfilter_bundle::SignedRelease;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, Store, parse};

/// How many releases are kept, with their bundles.
pub(crate) const KEPT: usize = 20;

/// A release that was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The release.
    pub(crate) release: SignedRelease,
    /// When.
    pub(crate) at: Timestamp,
    /// By whom, as they called themselves.
    pub(crate) by: String,
    /// How.
    pub(crate) how: How,
    /// What became of it.
    pub(crate) ended: Option<Ended>,
}

/// How a release came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum How {
    /// It was published, for these hosts first; for all if there are none.
    Published(Vec<String>),
    /// It brought back the bundle of this generation.
    Back(u64),
}

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ended {
    /// All hosts got it.
    Promoted,
    /// It was stopped; why.
    Stopped(String),
}

impl Entry {
    /// The release's generation.
    pub(crate) fn generation(&self) -> u64 {
        self.release.release.generation
    }
}

impl Store {
    /// The key of a generation.
    pub(crate) fn history_key(&self, generation: u64) -> String {
        self.key(&format!("history/{generation:020}"))
    }

    /// All entries, ascending.
    pub(crate) async fn history(&self) -> Result<Vec<Entry>, Failure> {
        let found = self.client.get_prefix(&self.key("history/")).await?;
        let entries = found
            .iter()
            .map(|kv| parse(&String::from_utf8_lossy(&kv.key), &kv.value));
        entries.collect()
    }

    /// Removes the oldest entries. Those that are left.
    pub(crate) async fn shorten(&self, mut entries: Vec<Entry>) -> Result<Vec<Entry>, Failure> {
        let rest = entries.split_off(entries.len().saturating_sub(KEPT));
        for entry in &entries {
            let key = self.history_key(entry.generation());
            self.client
                .txn(crate::etcd::Txn::default().delete(key))
                .await?;
        }
        Ok(rest)
    }
}
