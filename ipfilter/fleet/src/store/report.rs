//! What hosts say of themselves.

use ipfilter_bundle::{
    Digest,
    message::{HostState, InForce, Outcome, Packets},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Failure, Store, json, parse};

/// What a host says of itself. It lives as long as the host's agent reaches etcd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The host's name.
    pub(crate) host: String,
    /// What distinguishes this host from another one of the same name.
    pub(crate) id: String,
    /// When it was written, by the host's clock.
    pub(crate) at: Timestamp,
    /// The version of its agent.
    pub(crate) agent: String,
    /// The version of its filter; none while that can't be asked.
    pub(crate) version: Option<String>,
    /// What it has in force.
    pub(crate) in_force: Option<InForce>,
    /// The overrides that it has in force.
    pub(crate) overrides: Option<InForce>,
    /// The highest generation that it has accepted.
    pub(crate) highest: u64,
    /// The digest of the plan at its interfaces.
    pub(crate) plan: String,
    /// What became of the release that it is to enforce.
    pub(crate) outcome: HostOutcome,
    /// What became of the group's overrides, if they are not in force.
    pub(crate) overrides_outcome: Option<HostOutcome>,
    /// What is wrong with it; nothing if it is healthy.
    pub(crate) problems: Vec<String>,
    /// The packets it has counted.
    pub(crate) packets: Packets,
    /// How many of them there were lately.
    pub(crate) rates: Rates,
}

/// Packets per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    /// Those that passed.
    pub(crate) allowed: f64,
    /// Those that were denied.
    pub(crate) denied: f64,
}

/// What became of a release at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostOutcome {
    /// Its generation; none if there is no release.
    pub(crate) generation: Option<u64>,
    /// Its digest.
    pub(crate) digest: Option<Digest>,
    /// What became of it.
    pub(crate) state: State,
    /// Why, if it is not in force: the host's own words.
    pub(crate) why: String,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// There is none.
    #[default]
    Nothing,
    /// It is being fetched or offered.
    Pending,
    /// It is in force.
    InForce,
    /// The host refused it.
    Refused,
    /// The host will look at it later.
    Waiting,
    /// It could not be fetched, or not be offered.
    Failed,
}

impl HostOutcome {
    /// What the filter's process says of it.
    pub(crate) fn answered(generation: u64, digest: Digest, outcome: Outcome) -> Self {
        let (state, why) = match outcome {
            Outcome::InForce | Outcome::Unchanged => (State::InForce, String::new()),
            Outcome::Refused(why) => (State::Refused, why),
            Outcome::Waiting(why) => (State::Waiting, why),
        };
        Self::new(generation, digest, state, why)
    }

    /// With all its parts.
    pub(crate) fn new(
        generation: u64,
        digest: Digest,
        state: State,
        why: impl Into<String>,
    ) -> Self {
        Self {
            generation: Some(generation),
            digest: Some(digest),
            state,
            why: why.into(),
        }
    }
}

impl Report {
    /// Takes over what the filter's process says of the host.
    pub(crate) fn take(&mut self, state: HostState) {
        self.version = Some(state.version);
        self.in_force = state.bundle;
        self.overrides = state.overrides;
        self.highest = state.highest;
        self.plan = state.plan;
        self.problems = state.problems;
        if let Some(verified) = state.verified.filter(|verified| !verified.equal) {
            let problem = format!(
                "at {} the tables in the kernel were not those of the plan",
                verified.at
            );
            self.problems.push(problem);
        }
        self.packets = state.packets;
    }
}

/// What stands for the id in the key of the report that outlives its host's agent.
pub(crate) const LAST: &str = "last";

/// A report, and whose key it was under.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    /// The name in the key, which etcd's permissions bind to the host.
    pub(crate) name: String,
    /// The id in the key; [`LAST`] if it is what is remembered of the host.
    pub(crate) id: String,
    /// The report.
    pub(crate) report: Report,
    /// When it was written, as etcd counts.
    pub(crate) revision: i64,
}

impl Store {
    /// The key of a host's report.
    pub(crate) fn report_key(&self, host: &str, id: &str) -> String {
        self.key(&format!("hosts/{host}/{id}"))
    }

    /// Writes a report.
    pub(crate) async fn report(&self, report: &Report, lease: i64) -> Result<(), Failure> {
        let key = self.report_key(&report.host, &report.id);
        Ok(self.client.put(&key, json(report)?, lease).await?)
    }

    /// Writes what is to be remembered of a host that is away.
    pub(crate) async fn remember(&self, report: &Report) -> Result<(), Failure> {
        let key = self.report_key(&report.host, LAST);
        Ok(self.client.put(&key, json(report)?, 0).await?)
    }

    /// Removes what is remembered of a host.
    pub(crate) async fn forget(&self, host: &str) -> Result<(), Failure> {
        let txn = crate::etcd::Txn::default().delete(self.report_key(host, LAST));
        self.client.txn(txn).await?;
        Ok(())
    }

    /// All reports by name, and those that can't be understood, each with its key.
    pub(crate) async fn reports(&self) -> Result<(Vec<Found>, Vec<String>), Failure> {
        let prefix = self.key("hosts/");
        let mut found = Vec::new();
        let mut unreadable = Vec::new();
        for kv in self.client.get_prefix(&prefix).await? {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            let name = key
                .strip_prefix(&prefix)
                .and_then(|rest| rest.split_once('/'));
            match (name, parse::<Report>(&key, &kv.value)) {
                (Some((name, id)), Ok(report)) => found.push(Found {
                    name: name.to_owned(),
                    id: id.to_owned(),
                    report,
                    revision: kv.mod_revision,
                }),
                _ => unreadable.push(key),
            }
        }
        Ok((found, unreadable))
    }
}
