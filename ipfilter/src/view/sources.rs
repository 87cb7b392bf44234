//! Who may call, in words and in numbers.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    addresses::{AddressSet, words},
    policy::{Decisions, Policy},
};

/// A set of sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// As a person would say it.
    pub text: String,
    /// The number of IPv4 addresses.
    pub ipv4_addresses: u64,
    /// The fewest IPv4 blocks that they make up.
    pub ipv4_networks: usize,
    /// The fewest IPv6 blocks that the IPv6 addresses make up.
    pub ipv6_networks: usize,
}

impl From<&AddressSet> for Sources {
    fn from(set: &AddressSet) -> Self {
        Self {
            text: words::sources(set),
            ipv4_addresses: u64::try_from(set.v4.count()).unwrap_or(u64::MAX),
            ipv4_networks: set.networks_v4().count(),
            ipv6_networks: set.networks_v6().count(),
        }
    }
}

/// Who may call from one time on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// From when, as RFC 3339 has it.
    pub at: String,
    /// Who may call from then on.
    pub may_call: Sources,
}

/// What a policy says of all sources, now and later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meaning {
    /// The sources that the interface lets through.
    pub may_call: Sources,
    /// Those of them whose every request is allowed; for the others the API must decide.
    pub always_allowed: Sources,
    /// What is still to change, the next first.
    pub changes: Vec<Change>,
}

/// The changes that text shows; JSON has all of them.
const SHOWN: usize = 3;

impl Meaning {
    /// What `policy` means at `now` and after.
    #[must_use]
    pub fn of(policy: &Policy, now: Timestamp) -> Self {
        let Decisions { may_pass, allowed } = policy.at(now);
        let changes = policy.changes(now).map(|(at, decisions)| Change {
            at: at.to_string(),
            may_call: Sources::from(&decisions.may_pass),
        });
        Self {
            may_call: Sources::from(&may_pass),
            always_allowed: Sources::from(&allowed),
            changes: changes.collect(),
        }
    }

    /// The meaning in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("may call: {}", self.may_call.text);
        if self.always_allowed != self.may_call {
            line += &format!("; always allowed: {}", self.always_allowed.text);
        }
        for change in self.changes.iter().take(SHOWN) {
            line += &format!("; from {}: {}", change.at, change.may_call.text);
        }
        match self.changes.len().saturating_sub(SHOWN) {
            0 => line,
            1 => line + "; and 1 more change",
            more => line + &format!("; and {more} more changes"),
        }
    }
}
