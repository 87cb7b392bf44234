//! What this host has accepted from the fleet that it belongs to.
//!
//! The generations outlive everything else: a store that is restored from a backup, or is in a stranger's hands, can't
//! bring back what a group has left behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use ipfilter_bundle::{Bundle, Digest, Group, Kind, Release, SignedRelease};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::store;
use crate::{config::Fleet, instance::Instance};

/// What the file is called.
const NAME: &str = "fleet.json";

/// How bundles' files are called; the rest is the beginning of their digest.
const PREFIX: &str = "bundle-";

/// What this host has accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The highest generations.
    highest: BTreeMap<Group, Highest>,
    /// The bundle that a start and a reload read.
    pub bundle: Option<Since>,
    /// The group's overrides.
    pub overrides: Option<Since>,
    /// The last bundle that was refused, if none was accepted since.
    pub refused: Option<Refusal>,
}

/// The highest generations of a group, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Highest {
    bundle: u64,
    overrides: u64,
}

/// A release, and since when it has been accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since {
    /// The release, as it was signed.
    pub release: SignedRelease,
    /// Since when.
    pub since: Timestamp,
}

/// A release that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which one.
    pub release: Release,
    /// Why, with the diagnostics.
    pub why: String,
    /// When.
    pub time: Timestamp,
}

/// What a release that may be put in force is to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Something new.
    New,
    /// What it has accepted before.
    Known,
}

impl Accepted {
    /// What `instance` has accepted.
    ///
    /// # Errors
    ///
    /// When that can't be read: then it is not known which generations are behind this host.
    pub fn load(instance: &Instance) -> anyhow::Result<Self> {
        let path = instance.state().join(NAME);
        let Some(text) = store::read(&path)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&text).with_context(|| format!("`{}` can't be read", path.display()))
    }

    fn save(&self, instance: &Instance) -> anyhow::Result<()> {
        store::write(
            &instance.state().join(NAME),
            &serde_json::to_vec_pretty(self)?,
        )
    }

    /// Whether `release` may be put in force on a host with these settings.
    ///
    /// # Errors
    ///
    /// When it may not; why.
    pub(crate) fn admit(&self, release: &SignedRelease, fleet: &Fleet) -> Result<Admitted, String> {
        let Release {
            group,
            kind,
            generation,
            digest,
        } = &release.release;
        let own = fleet.follow.group();
        if group != own {
            return Err(format!(
                "it is for the group `{group}`, and this host follows `{own}`"
            ));
        }
        release
            .verify(&fleet.trusted_keys)
            .map_err(|refused| refused.to_string())?;
        let highest = self.highest(group, *kind);
        if *generation < highest || *generation == 0 {
            return Err(format!(
                "generation {generation} is older than {highest}, which this host had already: publish it again, \
                 which gives it a new generation"
            ));
        }
        let known = self
            .of(*kind)
            .filter(|known| known.release.release.group == *group);
        match known {
            Some(known) if known.release.release == release.release => Ok(Admitted::Known),
            _ if *generation == highest => Err(format!(
                "this host had another {kind} under generation {generation} already, and {digest:.12} is not it"
            )),
            _ => Ok(Admitted::New),
        }
    }

    /// The highest generation that was accepted.
    #[must_use]
    pub fn highest(&self, group: &Group, kind: Kind) -> u64 {
        let highest = self.highest.get(group).copied().unwrap_or_default();
        match kind {
            Kind::Bundle => highest.bundle,
            Kind::Overrides => highest.overrides,
        }
    }

    fn of(&self, kind: Kind) -> Option<&Since> {
        match kind {
            Kind::Bundle => self.bundle.as_ref(),
            Kind::Overrides => self.overrides.as_ref(),
        }
    }

    /// Writes down that `instance` has accepted `release`. Returns what it had accepted before.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(crate) fn accept(instance: &Instance, release: SignedRelease) -> anyhow::Result<Self> {
        let mut accepted = Self::load(instance)?;
        let before = accepted.clone();
        let Release {
            group,
            kind,
            generation,
            ..
        } = release.release.clone();
        let highest = accepted.highest.entry(group).or_default();
        let since = Some(Since {
            release,
            since: Timestamp::now(),
        });
        match kind {
            Kind::Bundle => {
                highest.bundle = generation;
                accepted.bundle = since;
                accepted.refused = None;
            }
            Kind::Overrides => {
                highest.overrides = generation;
                accepted.overrides = since;
            }
        }
        accepted.save(instance)?;
        Ok(before)
    }

    /// Writes down that what was accepted since is not in force.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(crate) fn restore(&self, instance: &Instance) -> anyhow::Result<()> {
        self.save(instance)
    }

    /// Removes the bundles that are kept, but for the accepted one.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(crate) fn forget_others(instance: &Instance) -> anyhow::Result<()> {
        match Self::load(instance)?.bundle {
            Some(bundle) => forget_but(instance, bundle.release.release.digest),
            None => Ok(()),
        }
    }

    /// Writes down that `release` is refused.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub(crate) fn refuse(instance: &Instance, release: Release, why: &str) -> anyhow::Result<()> {
        let mut accepted = Self::load(instance)?;
        accepted.refused = Some(Refusal {
            release,
            why: why.to_owned(),
            time: Timestamp::now(),
        });
        accepted.save(instance)
    }

    /// The bundle that a start and a reload read, with its release.
    ///
    /// # Errors
    ///
    /// When its file is missing or damaged.
    pub(crate) fn bundle(
        &self,
        instance: &Instance,
    ) -> anyhow::Result<Option<(&SignedRelease, Bundle)>> {
        let Some(accepted) = &self.bundle else {
            return Ok(None);
        };
        let digest = accepted.release.release.digest;
        let path = path(instance, digest);
        let shown = path.display();
        let bytes = store::read(&path)?.with_context(|| format!("`{shown}` is not there"))?;
        ensure!(
            Digest::of(&bytes) == digest,
            "`{shown}` is not the bundle that was accepted"
        );
        let bundle = Bundle::decode(&bytes).with_context(|| format!("`{shown}` can't be read"))?;
        Ok(Some((&accepted.release, bundle)))
    }
}

/// Keeps a bundle for the next start, before it is put in force.
pub(crate) fn keep_bundle(
    instance: &Instance,
    bundle: &[u8],
    digest: Digest,
) -> anyhow::Result<()> {
    store::write(&path(instance, digest), bundle)
}

/// Removes the bundles that are kept, but for the one of this digest.
fn forget_but(instance: &Instance, digest: Digest) -> anyhow::Result<()> {
    let (folder, kept) = (instance.state(), path(instance, digest));
    let entries =
        fs::read_dir(&folder).with_context(|| format!("can't list `{}`", folder.display()))?;
    let ours = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with(PREFIX))
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if ours(&path) && path != kept {
            store::remove(&path)?;
        }
    }
    Ok(())
}

/// Removes the bundle that was kept for a release that is refused, unless it is the accepted one.
pub(crate) fn forget_bundle(instance: &Instance, digest: Digest) -> anyhow::Result<()> {
    let accepted = Accepted::load(instance)?;
    let bundle = accepted.bundle.map(|bundle| bundle.release.release.digest);
    match bundle == Some(digest) {
        true => Ok(()),
        false => store::remove(&path(instance, digest)),
    }
}

fn path(instance: &Instance, digest: Digest) -> PathBuf {
    instance.state().join(format!("{PREFIX}{digest:.16}"))
}

#[cfg(test)]
mod tests {
    use ipfilter_bundle::KeyPair;

    use super::*;
    use crate::config::User;

    fn fleet(keys: &[&KeyPair]) -> Fleet {
        Fleet {
            follow: "etcd://a/web".parse().unwrap(),
            trusted_keys: keys.iter().map(|key| key.public()).collect(),
            interfaces: BTreeMap::new(),
            vars: BTreeMap::new(),
            user: User::default(),
        }
    }

    fn release(group: &str, generation: u64, content: &[u8]) -> Release {
        Release {
            group: group.parse().unwrap(),
            kind: Kind::Bundle,
            generation,
            digest: Digest::of(content),
        }
    }

    #[test]
    fn a_host_goes_forward_only() {
        let mut accepted = Accepted::default();
        let fleet = fleet(&[]);
        let admit = |accepted: &Accepted, generation, content: &[u8]| {
            accepted.admit(&release("web", generation, content).sign([]), &fleet)
        };
        assert_eq!(admit(&accepted, 7, b"a"), Ok(Admitted::New));
        assert!(admit(&accepted, 0, b"a").is_err());
        let signed = release("web", 7, b"a").sign([]);
        let highest = Highest {
            bundle: 7,
            overrides: 0,
        };
        accepted.highest.insert("web".parse().unwrap(), highest);
        accepted.bundle = Some(Since {
            release: signed,
            since: Timestamp::UNIX_EPOCH,
        });
        assert_eq!(admit(&accepted, 7, b"a"), Ok(Admitted::Known));
        assert_eq!(admit(&accepted, 8, b"a"), Ok(Admitted::New));
        let said = admit(&accepted, 7, b"b").unwrap_err();
        assert!(said.contains("another bundle under generation 7"), "{said}");
        let said = admit(&accepted, 6, b"a").unwrap_err();
        assert!(said.contains("generation 6 is older than 7"), "{said}");
    }

    #[test]
    fn only_the_hosts_group_and_keys_count() {
        let [own, stranger] = [(); 2].map(|()| KeyPair::generate().unwrap());
        let accepted = Accepted::default();
        let fleet = fleet(&[&own]);
        let admit = |release: SignedRelease| accepted.admit(&release, &fleet);
        assert_eq!(
            admit(release("web", 1, b"").sign([&own])),
            Ok(Admitted::New)
        );
        for (release, said) in [
            (release("web", 1, b"").sign([]), "not signed"),
            (release("web", 1, b"").sign([&stranger]), "another key"),
            (release("api", 1, b"").sign([&own]), "for the group `api`"),
        ] {
            let refused = admit(release).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
    }
}
