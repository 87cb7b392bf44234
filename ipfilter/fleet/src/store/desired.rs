//! What a group is to enforce.

use ipfilter_bundle::{Release, SignedRelease};
use serde::{Deserialize, Serialize};

use super::{Entry, Failure, Store, json};
use crate::etcd::Txn;

/// What a group is to enforce: every host the same, but for those that try a release first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Desired {
    /// What all hosts are to enforce; nothing before the first release.
    pub(crate) stable: Option<SignedRelease>,
    /// What some hosts try.
    pub(crate) canary: Option<Canary>,
}

/// A release that some hosts try before the others get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Canary {
    /// The release.
    pub(crate) release: SignedRelease,
    /// The hosts.
    pub(crate) hosts: Vec<String>,
}

impl Desired {
    /// What the host called `host` is to enforce.
    pub(crate) fn of(&self, host: &str) -> Option<&SignedRelease> {
        let canary = self.canary.as_ref();
        let canary = canary.filter(|canary| canary.hosts.iter().any(|it| it == host));
        canary
            .map(|canary| &canary.release)
            .or(self.stable.as_ref())
    }

    /// The releases in it.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &Release> {
        let canary = self.canary.as_ref().map(|canary| &canary.release);
        let all = [self.stable.as_ref(), canary];
        all.into_iter().flatten().map(|signed| &signed.release)
    }
}

/// The desired state as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The state.
    pub(crate) desired: Desired,
    /// The revision of its last change; 0 if there is none.
    pub(crate) revision: i64,
}

impl Store {
    /// Reads the desired state.
    pub(crate) async fn desired(&self) -> Result<Seen, Failure> {
        let (desired, revision, _) = self.read(&self.key("desired")).await?;
        Ok(Seen {
            desired: desired.unwrap_or_default(),
            revision,
        })
    }

    /// Writes the desired state and entries of the history together, if nobody has changed it since it was `seen`
    /// and the content that it names is whole. The state as it is now, and whether it is the one wanted.
    pub(crate) async fn flip(
        &self,
        seen: &Seen,
        desired: &Desired,
        entries: &[Entry],
    ) -> Result<(Seen, bool), Failure> {
        let mut txn = Txn::default().unchanged(self.key("desired"), seen.revision);
        for release in desired.releases() {
            txn = txn.exists(self.content_key(&release.digest));
        }
        txn = txn.put(self.key("desired"), json(desired)?);
        for entry in entries {
            txn = txn.put(self.history_key(entry.generation()), json(entry)?);
        }
        self.client.txn(txn).await?;
        // An answer may have been lost, and the transaction asked for twice: what is there decides.
        let now = self.desired().await?;
        let is_ours = now.desired == *desired && now.revision != seen.revision;
        Ok((now, is_ours))
    }

    /// Reads the release of the group's overrides, and the revision of its last change.
    pub(crate) async fn overrides(&self) -> Result<(Option<SignedRelease>, i64), Failure> {
        let (release, revision, _) = self.read(&self.key("overrides")).await?;
        Ok((release, revision))
    }

    /// Writes the release of the group's overrides, if nobody has changed it since `revision`.
    pub(crate) async fn flip_overrides(
        &self,
        release: &SignedRelease,
        revision: i64,
    ) -> Result<bool, Failure> {
        let key = self.key("overrides");
        let txn = Txn::default()
            .unchanged(key.clone(), revision)
            .exists(self.content_key(&release.release.digest))
            .put(key, json(release)?);
        self.client.txn(txn).await?;
        let (now, _) = self.overrides().await?;
        Ok(now.as_ref() == Some(release))
    }
}
