//! What a group of hosts is to enforce, as publishers decide and sign it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Digest, KeyPair, PublicKey, Signature, hex};

/// The longest name of a group.
const LONGEST_GROUP: usize = 64;

/// The most signatures that are looked at.
const MOST_SIGNATURES: usize = 16;

/// What begins every message that is signed: a signature of something else never is one of a release.
const DOMAIN: &[u8] = b"ipfilter release 1\n";

/// The name of a group of hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(String);

impl Group {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Group {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_name = !name.is_empty()
            && name.len() <= LONGEST_GROUP
            && !name.starts_with('.')
            && name.chars().all(legal);
        is_name.then(|| Self(name.to_owned())).ok_or(
            "a group's name is 1 to 64 letters, digits, hyphens, underscores and dots, and does not begin with a dot",
        )
    }
}

hex::as_text!(Group);

/// What a release is of. Each kind has generations of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bundle: the digest is that of [`Bundle::encode`](crate::Bundle::encode).
    Bundle,
    /// The group's overrides: the digest is that of [`GroupOverrides::encode`](crate::message::GroupOverrides::encode).
    Overrides,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bundle => "bundle",
            Self::Overrides => "overrides",
        })
    }
}

/// What a group is to enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The group.
    pub group: Group,
    /// What it is of.
    pub kind: Kind,
    /// Its number. No host goes back to a lower one: to return to an earlier bundle, publish it again.
    pub generation: u64,
    /// The bundle, or the overrides.
    pub digest: Digest,
}

impl Release {
    /// What is signed: all of it, in one way only.
    fn message(&self) -> Vec<u8> {
        let group = self.group.as_str().as_bytes();
        let kind: u8 = match self.kind {
            Kind::Bundle => 1,
            Kind::Overrides => 2,
        };
        let length = u8::try_from(group.len()).unwrap_or(u8::MAX);
        let generation = self.generation.to_be_bytes();
        [
            DOMAIN,
            &[kind, length],
            group,
            &generation,
            self.digest.as_bytes(),
        ]
        .concat()
    }

    /// The same with a signature by each of these keys.
    #[must_use]
    pub fn sign<'k>(self, keys: impl IntoIterator<Item = &'k KeyPair>) -> SignedRelease {
        let message = self.message();
        let signatures = keys.into_iter().map(|key| key.sign(&message));
        SignedRelease {
            signatures: signatures.collect(),
            release: self,
        }
    }
}

impl fmt::Display for Release {
    /// `generation 7 (bundle 0123456789ab)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation, digest, ..
        } = self;
        write!(f, "generation {generation} ({} {digest:.12})", self.kind)
    }
}

/// A release, and the signatures that were made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRelease {
    /// What is signed.
    #[serde(flatten)]
    pub release: Release,
    /// Detached signatures over it; none where nobody signed.
    #[serde(default)]
    pub signatures: Vec<Signature>,
}

/// Why a release is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nobody signed it.
    #[error(
        "it is not signed, and this host takes only what is signed by one of its `trusted_keys`: publish it with `--sign-key`"
    )]
    Unsigned,
    /// Strangers signed it, or it was changed since.
    #[error(
        "no signature of it is by one of this host's `trusted_keys`: another key signed it, or it was changed since"
    )]
    Stranger,
}

impl SignedRelease {
    /// Checks that one of `trusted` signed it. Without trusted keys, nothing need be signed.
    ///
    /// # Errors
    ///
    /// When none did.
    pub fn verify(&self, trusted: &[PublicKey]) -> Result<(), Refused> {
        if trusted.is_empty() {
            return Ok(());
        }
        if self.signatures.is_empty() {
            return Err(Refused::Unsigned);
        }
        let message = self.release.message();
        let mut signatures = self.signatures.iter().take(MOST_SIGNATURES);
        let is_trusted = |signature| trusted.iter().any(|key| key.verify(&message, signature));
        match signatures.any(is_trusted) {
            true => Ok(()),
            false => Err(Refused::Stranger),
        }
    }
}
