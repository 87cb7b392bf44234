//! What an agent asks the filter's process of its host, and what that answers.
//!
//! One request at a time on a connection, each a frame with a [`Request`] as its header, which one [`Answer`] follows.
//! The agent may be in somebody else's hands: the filter's process checks everything itself.

use ipfilter_overrides::{MOST, Rule};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Group, SignedRelease};

/// What an agent asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Put this bundle in force, which is the body. Answered once it is, or is not to be.
    Offer(SignedRelease),
    /// Put these overrides of the group in force instead of the ones before; [`GroupOverrides`] are the body.
    Overrides(SignedRelease),
    /// How is this host?
    State,
    /// The same, and how the agent is: shown in this host's status and metrics.
    Report(AgentReport),
}

/// How an agent is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentReport {
    /// Its version.
    pub version: String,
    /// The generation of the bundle that the group is to have, as far as the agent knows.
    pub desired: Option<u64>,
    /// What keeps it from following the group, such as an etcd that does not answer; none if all is well.
    pub problem: Option<String>,
}

/// What the filter's process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// To an offer, and to overrides.
    Outcome(Outcome),
    /// To the question how the host is, and to a report.
    State(Box<HostState>),
    /// The request was not understood; why.
    Error(String),
}

/// What became of a release that was offered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is in force, and the interfaces were asked whether they enforce it.
    InForce,
    /// It was in force before.
    Unchanged,
    /// It is refused, for this reason, with the diagnostics; nothing changed. Offering it again helps only once
    /// something on the host has changed.
    Refused(String),
    /// It is neither in force nor refused, for this reason, such as a change on this host that waits for
    /// its confirmation. Offer it again later.
    Waiting(String),
}

/// How a host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostState {
    /// The version of ipfilter.
    pub version: String,
    /// The instance's group, as configured.
    pub group: Option<Group>,
    /// The bundle in force; none if something else is.
    pub bundle: Option<InForce>,
    /// The group's overrides in force.
    pub overrides: Option<InForce>,
    /// The highest generation of a bundle that was ever accepted here. Lower ones are refused.
    pub highest: u64,
    /// The digest of the plan that the interfaces enforce, in hexadecimal.
    pub plan: String,
    /// What is wrong; nothing if the host is healthy.
    pub problems: Vec<String>,
    /// When the tables in the kernel were last compared with the plan, and whether they were equal.
    pub verified: Option<Verified>,
    /// The packets counted so far.
    pub packets: Packets,
}

/// A release that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Its generation.
    pub generation: u64,
    /// Its digest.
    pub digest: Digest,
    /// Since when.
    pub since: Timestamp,
}

/// The outcome of a comparison of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When.
    pub at: Timestamp,
    /// Whether they were equal.
    pub equal: bool,
}

/// Packets to the APIs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packets {
    /// Those that passed.
    pub allowed: u64,
    /// Those that were denied.
    pub denied: u64,
    /// Those that passed and would be denied if that were enforced.
    pub would_deny: u64,
}

/// The overrides of a group: all of them, each time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupOverrides {
    /// The overrides.
    pub overrides: Vec<Rule>,
}

impl GroupOverrides {
    /// Their bytes.
    ///
    /// # Errors
    ///
    /// When they can't be written as JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// What these bytes say.
    ///
    /// # Errors
    ///
    /// When they are no overrides, or there are too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        match read.overrides.len() > MOST {
            true => Err(format!("there are more than {MOST}")),
            false => Ok(read),
        }
    }
}
