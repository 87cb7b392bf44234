//! What is written down of an instance: what is in force and was before, names and outcomes.
//!
//! The filter works without it. `status` shows it; a start after a reboot finds the last good plan by
//! it, and `rollback` the one before.

use std::{fmt, path::PathBuf};

use anyhow::Context as _;
use ipfilter_bundle::Release;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{input_file::InputFile, store};
use crate::{
    addresses::words,
    config::Config,
    instance::Instance,
    kernel::Bound,
    plan::{Plan, Share},
};

/// How many deployments are remembered.
const REMEMBERED: usize = 50;

/// What is written down of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The deployments, the latest first: that is the one in force.
    pub history: Vec<Deployed>,
    /// How the last reload went, if there was one.
    pub last_reload: Option<Reload>,
    /// Why what is in force is not what the files ask for.
    pub degraded: Option<String>,
    /// Why overrides that were made are not in force; until they are changed the next time.
    #[serde(default)]
    pub overrides_lost: Option<String>,
    /// The names and patterns of interfaces that are still to come.
    pub waiting: Vec<String>,
    /// Which name or pattern matched which interface, as long as the interface exists.
    #[serde(default)]
    pub bound: Vec<Bound>,
    /// The inputs that a rollback turned away.
    pub(crate) turned_away: Option<String>,
}

/// A deployment as its daemon saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    /// SHA-256 of the plan, in hexadecimal.
    pub digest: String,
    /// When it was deployed.
    pub since: Timestamp,
    /// Who asked for it.
    pub cause: Cause,
    /// The protected APIs, by index.
    pub apis: Vec<ApiRecord>,
    /// The inputs it was made from; none if they could not be kept, or are no one's.
    pub(crate) inputs: Option<String>,
    /// When the policies come to another plan by the clock, if ever.
    #[serde(default)]
    pub next_boundary: Option<Timestamp>,
    /// The time for which the policies were evaluated.
    #[serde(default)]
    pub(crate) planned: Option<Timestamp>,
    /// What it changed, in a line.
    #[serde(default)]
    pub change: Option<String>,
    /// Whether it is at no interface, so that every packet passes.
    #[serde(default)]
    pub(crate) nowhere: bool,
    /// The files that it was made from; none where they are not known.
    #[serde(default)]
    pub files: Vec<InputFile>,
    /// Where an authorization service is to listen, if one is configured.
    #[serde(default)]
    pub authorize: Option<String>,
    /// The release whose bundle it was made from; none where files said so.
    #[serde(default)]
    pub release: Option<Release>,
}

/// A plan in force, as a record has it.
#[derive(Clone, Debug)]
pub(crate) struct PlanRecord {
    /// SHA-256 of the plan, in hexadecimal.
    pub(crate) digest: String,
    /// The time for which the policies were evaluated.
    pub(crate) planned: Timestamp,
    /// When the policies come to another plan by the clock, if ever.
    pub(crate) next_boundary: Option<Timestamp>,
    /// What it changes, in a line.
    pub(crate) change: String,
    /// Who may pass, in words, by API.
    pub(crate) sources: Vec<String>,
    /// The files that it was made from; none where they are not known.
    pub(crate) files: Vec<InputFile>,
}

impl PlanRecord {
    /// That of `plan`, which was made for the time `planned` from these files.
    pub(crate) fn new(
        plan: &Plan,
        (planned, next_boundary): (Timestamp, Option<Timestamp>),
        change: String,
        files: Vec<InputFile>,
    ) -> Self {
        let sources = plan.apis.iter().map(|api| words::sources(&api.sources));
        Self {
            digest: plan.digest().to_string(),
            planned,
            next_boundary,
            change,
            sources: sources.collect(),
            files,
        }
    }
}

/// Who asked for a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The start of a process.
    Start,
    /// SIGHUP.
    Signal,
    /// `ipfilter reload`.
    Command,
    /// A file that changed.
    Watch,
    /// A boundary of time.
    Clock,
    /// `ipfilter rollback`.
    Rollback,
    /// `ipfilter allow`, `block` or `overrides remove`.
    Override,
    /// A change that was not confirmed in time, or the end of `ipfilter detach --for`.
    Return,
    /// `ipfilter detach --for`.
    Detach,
    /// A bundle of the fleet.
    Release,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::Signal,
        Self::Command,
        Self::Watch,
        Self::Clock,
        Self::Rollback,
        Self::Override,
        Self::Return,
        Self::Detach,
        Self::Release,
    ];

    /// As users read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Signal => "signal",
            Self::Command => "command",
            Self::Watch => "watch",
            Self::Clock => "clock",
            Self::Rollback => "rollback",
            Self::Override => "override",
            Self::Return => "return",
            Self::Detach => "detach",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One API of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRecord {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: String,
    /// The file its policy came from.
    pub policy: PathBuf,
    /// What happens to denied sources.
    pub deny: String,
    /// Whether nobody is denied, and only counted.
    #[serde(default)]
    pub monitor: bool,
    /// The share of sources that is denied, of those that may not call.
    #[serde(default)]
    pub enforce: Share,
    /// Who may pass, in words; empty where that was not recorded.
    #[serde(default)]
    pub sources: String,
}

impl ApiRecord {
    /// The share of sources that is denied, of those that may not call; older records of monitored APIs have none.
    pub(crate) fn share(&self) -> Share {
        if self.monitor {
            Share::NONE
        } else {
            self.enforce
        }
    }
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When it was tried.
    pub time: Timestamp,
    /// Who asked for it.
    pub cause: Cause,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The new plan is in force.
    Deployed,
    /// The old plan stays.
    Failed,
}

impl Deployed {
    pub(super) fn now(
        spec: &Config,
        plan: PlanRecord,
        cause: Cause,
        inputs: Option<String>,
    ) -> Self {
        let mut sources = plan.sources.into_iter();
        let apis = spec.apis.iter().map(|api| ApiRecord {
            name: api.name.clone(),
            ports: api
                .port_set()
                .map_or_else(String::new, |ports| ports.to_string()),
            policy: api.policy.clone(),
            deny: api.deny.to_string(),
            monitor: api.share() == Share::NONE,
            enforce: api.share(),
            sources: sources.next().unwrap_or_default(),
        });
        Self {
            digest: plan.digest,
            since: Timestamp::now(),
            cause,
            apis: apis.collect(),
            inputs,
            next_boundary: plan.next_boundary,
            planned: Some(plan.planned),
            change: Some(plan.change),
            nowhere: spec.interfaces.is_empty(),
            files: plan.files,
            authorize: spec.authorize.as_ref().map(|it| it.listen.to_string()),
            release: spec.release.clone(),
        }
    }
}

impl Record {
    /// Why what is in force is not what was asked for.
    #[must_use]
    pub fn why_degraded(&self) -> Option<&String> {
        self.degraded.as_ref().or(self.overrides_lost.as_ref())
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Option<&Deployed> {
        self.history.first()
    }

    /// The deployment before the one in force: the latest that was made from other inputs, whose
    /// inputs are kept. What the clock does is not gone back behind, and a filter that was detached is
    /// no deployment.
    pub(crate) fn before(&self) -> Option<&Deployed> {
        let inputs = &self.current()?.inputs;
        let mut earlier = self.history.iter().skip(1);
        earlier.find(|deployed| {
            deployed.inputs.is_some() && deployed.inputs != *inputs && !deployed.nowhere
        })
    }

    /// Adds a deployment, unless it is no other than the one before.
    pub(crate) fn push(&mut self, deployed: Deployed) {
        let same = self
            .current()
            .is_some_and(|now| now.digest == deployed.digest && now.inputs == deployed.inputs);
        if same {
            if let Some(now) = self.history.first_mut() {
                now.next_boundary = deployed.next_boundary;
                now.planned = deployed.planned;
                now.files = deployed.files;
                now.apis = deployed.apis;
                now.authorize = deployed.authorize;
            }
            return;
        }
        self.history.insert(0, deployed);
        let before = self.before().cloned();
        while self.history.len() > REMEMBERED {
            let last = self.history.pop();
            // A clock that ticks often must not make us forget what to go back to.
            if last.is_some() && last == before {
                self.history.pop();
                self.history.extend(last);
                break;
            }
        }
    }

    /// The deployment that was in force at `time`.
    pub(crate) fn at(&self, time: Timestamp) -> Option<&Deployed> {
        self.history.iter().find(|deployed| deployed.since <= time)
    }

    /// The names of the inputs to keep: those that are needed, then others, the latest first.
    pub(crate) fn inputs(&self) -> Vec<String> {
        let needed = [self.current(), self.before()].into_iter().flatten();
        let mut names = Vec::new();
        for name in needed
            .chain(&self.history)
            .filter_map(|it| it.inputs.as_ref())
        {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The instance's record; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// When it is there and can't be read.
    pub fn load(instance: &Instance) -> anyhow::Result<Self> {
        let path = path(instance);
        let Some(text) = store::read(&path)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&text).with_context(|| format!("`{}` can't be read", path.display()))
    }

    pub(crate) fn save(&self, instance: &Instance) -> anyhow::Result<()> {
        store::write(&path(instance), &serde_json::to_vec_pretty(self)?)
    }
}

fn path(instance: &Instance) -> PathBuf {
    instance.state().join("deployment.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployed(digest: &str, inputs: Option<&str>, cause: Cause) -> Deployed {
        Deployed {
            digest: digest.into(),
            since: Timestamp::UNIX_EPOCH,
            cause,
            apis: Vec::new(),
            inputs: inputs.map(Into::into),
            next_boundary: None,
            planned: None,
            change: None,
            nowhere: false,
            files: Vec::new(),
            authorize: None,
            release: None,
        }
    }

    #[test]
    fn going_back_is_to_other_inputs_and_not_behind_the_clock() {
        let mut record = Record::default();
        assert_eq!(record.before(), None);
        for (digest, inputs, cause) in [
            ("1", Some("a"), Cause::Start),
            ("0", None, Cause::Start),
            ("2", Some("b"), Cause::Command),
            ("2", Some("b"), Cause::Signal),
            ("3", Some("b"), Cause::Clock),
        ] {
            record.push(deployed(digest, inputs, cause));
        }
        assert_eq!(record.history.len(), 4, "the same twice");
        assert_eq!(record.before().unwrap().digest, "1");
        assert_eq!(record.inputs(), ["b", "a"]);
    }

    #[test]
    fn the_history_is_short_and_keeps_what_to_go_back_to() {
        let mut record = Record::default();
        record.push(deployed("first", Some("a"), Cause::Start));
        for tick in 0..50 {
            record.push(deployed(&tick.to_string(), Some("b"), Cause::Clock));
        }
        assert_eq!(record.history.len(), REMEMBERED);
        assert_eq!(record.current().unwrap().digest, "49");
        assert_eq!(record.before().unwrap().digest, "first");
    }
}
