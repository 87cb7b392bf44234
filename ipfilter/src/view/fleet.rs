//! How a host is in its fleet, for its agent and its operator.

use ipfilter_bundle::message::InForce;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How a host is in its fleet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetState {
    /// The group that it follows.
    pub group: String,
    /// Where that is published.
    pub follow: String,
    /// The bundle in force; none if something else is.
    pub in_force: Option<InForce>,
    /// The generation that the group is to have, as far as the agent knows.
    pub desired: Option<u64>,
    /// The highest generation that this host has accepted.
    pub highest: u64,
    /// The group's overrides in force.
    pub overrides: Option<InForce>,
    /// How many keys it trusts; with none, releases need no signature.
    pub trusted_keys: usize,
    /// The generation that was refused or has to wait, and why.
    pub turned_down: Option<(u64, String)>,
    /// When an agent has asked the last time.
    pub agent_seen: Option<Timestamp>,
    /// What keeps the agent from following the group.
    pub agent_problem: Option<String>,
    /// What is wrong, in sentences, the most important first.
    pub problems: Vec<String>,
}

impl FleetState {
    /// What is in force and desired, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let in_force = self.in_force.map_or_else(
            || "no generation in force".to_owned(),
            |in_force| {
                format!(
                    "generation {} in force since {:.0}",
                    in_force.generation, in_force.since
                )
            },
        );
        let desired = match (self.desired, self.in_force) {
            (Some(desired), Some(in_force)) if desired == in_force.generation => String::new(),
            (Some(desired), _) => format!(", {desired} desired"),
            (None, _) => String::new(),
        };
        let overrides = self.overrides.map_or_else(String::new, |overrides| {
            format!(", overrides of generation {}", overrides.generation)
        });
        format!("group {}: {in_force}{desired}{overrides}", self.group)
    }

    /// The same, and what is wrong, a line each.
    #[must_use]
    pub fn lines(&self) -> String {
        let problems = self.problems.iter().map(|problem| {
            let first = problem.lines().next().unwrap_or_default();
            format!("fleet: {first}\n")
        });
        format!(
            "fleet: {}\n{}",
            self.summary(),
            problems.collect::<String>()
        )
    }
}
