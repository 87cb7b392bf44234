//! What `status` prints.

mod age;
mod authorization;
mod counters;
mod problems;
#[cfg(test)]
mod tests;
mod text;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use super::{exposure::Exposure, fleet::FleetState, services::Services, trial::TrialStatus};
use crate::{
    instance::Instance,
    kernel::{Count, Found, Stray},
    overrides::{Override, Overrides},
    plan::Share,
    state::{ApiRecord, Deployed, Entry, FileState, Outcome, Record, Reload, Requester, Trial},
};
use authorization::Authorization;
use problems::Problem;
pub use text::Size;

/// Everything that can be said of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    instance: String,
    /// The network namespace that it is of, if that is not this one.
    namespace: Option<String>,
    state: State,
    /// What is wrong, the most important first.
    problems: Vec<Problem>,
    /// The process that keeps it current, if one does.
    pid: Option<u32>,
    /// SHA-256 of the plan that all interfaces have; none if they differ, or none is deployed.
    digest: Option<String>,
    since: Option<Timestamp>,
    interfaces: Vec<InterfaceStatus>,
    /// The names and patterns of interfaces that are still to come.
    waiting: Vec<String>,
    apis: Vec<ApiStatus>,
    /// The services that decide requests by the same policies; none where none is configured or connected.
    authorization: Option<Authorization>,
    /// What is decided above the policies.
    overrides: Vec<Override>,
    /// The files that what is in force was made from.
    files: Vec<FileStatus>,
    /// What is open or unused, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Exposure>,
    /// The other instances of this network namespace that have something pinned.
    others: Vec<String>,
    /// Instances of other names in other network namespaces, each with its namespace.
    other_namespaces: Vec<String>,
    /// What is rolled back, or comes back, at a deadline.
    trial: Option<TrialStatus>,
    /// How the host is in its fleet, if it belongs to one and a process runs.
    fleet: Option<FleetState>,
    /// Why what is in force is not what was asked for.
    degraded: Option<String>,
    /// When the policies give another plan by the clock.
    next_boundary: Option<Timestamp>,
    /// Whether that time is over, and the other plan not in force.
    overdue: bool,
    last_reload: Option<ReloadStatus>,
    /// The deployments, the latest first.
    history: Vec<DeployedStatus>,
    /// What happened to the instance, the latest first.
    events: Vec<EventStatus>,
    counters: Vec<CounterStatus>,
    /// Network namespaces in which instances of the same name are deployed.
    elsewhere: Vec<String>,
    /// Programs of ipfilter at interfaces here, whose pins are not in sight.
    strays: Vec<StrayStatus>,
}

/// Whether an instance filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It denies.
    Filtering,
    /// It judges and counts, and denies nobody.
    Monitoring,
    /// It is attached nowhere.
    Off,
}

impl State {
    fn words(self) -> &'static str {
        match self {
            Self::Filtering => "filtering",
            Self::Monitoring => "monitoring, which denies nobody",
            Self::Off => "filters nothing",
        }
    }
}

/// A file that what is in force was made from.
#[derive(Clone, Debug, Serialize)]
struct FileStatus {
    path: PathBuf,
    /// What it holds by now.
    state: &'static str,
}

impl FileStatus {
    fn is_same(&self) -> bool {
        self.state == FileState::Same.name()
    }

    fn describe(&self) -> String {
        let path = self.path.display();
        if self.state == FileState::Changed.name() {
            format!("{path} has changed")
        } else {
            format!("{path} can't be read")
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct StrayStatus {
    interface: String,
    program: u32,
}

#[derive(Clone, Debug, Serialize)]
struct DeployedStatus {
    digest: String,
    time: Timestamp,
    /// Who asked for it.
    cause: &'static str,
    /// What it changed, in a line.
    change: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct EventStatus {
    time: Timestamp,
    kind: &'static str,
    /// Who or what asked for it, as people read it.
    by: String,
    /// The user, where it was one.
    uid: Option<u32>,
    digest: Option<String>,
    /// What happened, in one line; empty where the kind says it all.
    what: String,
    #[serde(skip)]
    label: &'static str,
}

impl EventStatus {
    fn new(entry: Entry) -> Self {
        Self {
            time: entry.time,
            kind: entry.kind.name(),
            label: entry.kind.label(),
            by: entry.by.to_string(),
            uid: match entry.by {
                Requester::User(user) => Some(user.uid),
                _ => None,
            },
            digest: entry.digest,
            what: entry.what,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
struct InterfaceStatus {
    name: String,
    mode: &'static str,
    digest: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct ApiStatus {
    name: String,
    ports: String,
    policy: String,
    deny: String,
    monitor: bool,
    /// The share of sources that is denied, of those that may not call: from 0 to 1.
    enforce: f64,
    #[serde(skip)]
    share: Share,
    /// Who may pass, in words, overrides included; empty where that was not recorded.
    sources: String,
}

#[derive(Clone, Debug, Serialize)]
struct ReloadStatus {
    time: Timestamp,
    /// Who asked for it.
    cause: &'static str,
    outcome: &'static str,
    message: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct CounterStatus {
    /// The interface's name; none for interfaces without counters of their own, and for probes.
    interface: Option<String>,
    /// The API's name; none for packets that reached no API's port.
    api: Option<String>,
    verdict: &'static str,
    reason: &'static str,
    packets: u64,
    bytes: u64,
    /// What came in a second just now, where that was measured.
    packets_per_second: Option<f64>,
    bytes_per_second: Option<f64>,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// The counters.
    pub counts: Vec<Count>,
    /// What they were before, and how long ago; then rates can be told.
    pub before: Option<(Vec<Count>, Duration)>,
}

impl Counted {
    /// By how much `total` of a counter has risen in a second.
    fn rate(&self, count: &Count, total: impl Fn(&Count) -> u64) -> Option<f64> {
        let (counts, since) = self.before.as_ref()?;
        let key = |count: &Count| (count.interface.clone(), count.api, count.reason);
        let before = counts.iter().find(|before| key(before) == key(count));
        let risen = total(count).saturating_sub(before.map_or(0, &total));
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more")]
        let rate = risen as f64 / since.as_secs_f64();
        Some((rate * 10.0).round() / 10.0)
    }
}

/// What is known of an instance.
#[derive(Debug)]
pub struct Known<'a> {
    /// Which one.
    pub instance: &'a Instance,
    /// The process that runs it.
    pub pid: Option<u32>,
    /// What the kernel has.
    pub found: &'a [Found],
    /// What the daemon wrote down.
    pub record: Record,
    /// The files that what is in force was made from, and what they hold by now.
    pub files: Vec<(PathBuf, FileState)>,
    /// What is decided above the policies.
    pub overrides: Overrides,
    /// The authorization services, as the process that runs it knows them.
    pub services: Option<Services>,
    /// What was counted.
    pub counted: Counted,
    /// What happened, the oldest first.
    pub events: Vec<Entry>,
    /// What holds only until a deadline.
    pub trial: Option<Trial>,
    /// How the host is in its fleet.
    pub fleet: Option<FleetState>,
    /// What could not be read.
    pub unreadable: Vec<String>,
}

impl Status {
    /// Puts it together.
    #[must_use]
    pub fn new(known: Known<'_>) -> Self {
        let Known {
            instance,
            pid,
            found,
            record,
            files,
            overrides,
            services,
            counted,
            events,
            trial,
            fleet,
            unreadable,
        } = known;
        let history = record.history.iter().map(DeployedStatus::new).collect();
        // What is attached nowhere, and nobody means to attach, is history.
        let is_alive = !found.is_empty() || pid.is_some();
        let record = if is_alive { record } else { Record::default() };
        let now = Timestamp::now();
        let apis = record.current().into_iter();
        let apis = apis.flat_map(|deployed| &deployed.apis);
        let apis: Vec<_> = apis.map(ApiStatus::new).collect();
        let next_boundary = record.current().and_then(|now| now.next_boundary);
        let created =
            |found: &Found| Timestamp::from_second(found.config?.created.try_into().ok()?).ok();
        let counters = counted.counts.iter();
        let mut status = Self {
            instance: instance.name().into(),
            namespace: instance.other_namespace(),
            state: State::of(found, &apis),
            problems: Vec::new(),
            files: if is_alive {
                let files = files.into_iter();
                files
                    .map(|(path, state)| FileStatus {
                        path,
                        state: state.name(),
                    })
                    .collect()
            } else {
                Vec::new()
            },
            authorization: Authorization::new(
                record.current().and_then(|now| now.authorize.clone()),
                services,
            ),
            overrides: overrides.active(now).cloned().collect(),
            check: None,
            trial: trial.map(|trial| TrialStatus::new(&trial, pid.is_some())),
            fleet,
            others: instance.others(),
            other_namespaces: instance.elsewhere(),
            pid,
            next_boundary,
            overdue: next_boundary.is_some_and(|time| time <= now),
            digest: common_digest(found),
            since: found.iter().filter_map(created).max(),
            interfaces: found.iter().map(InterfaceStatus::new).collect(),
            counters: counters
                .map(|count| CounterStatus::new(count, &counted, &apis))
                .collect(),
            apis,
            elsewhere: Vec::new(),
            strays: Vec::new(),
            degraded: record.why_degraded().cloned(),
            waiting: record.waiting,
            history,
            events: events.into_iter().rev().map(EventStatus::new).collect(),
            last_reload: record.last_reload.map(ReloadStatus::new),
        };
        status.problems = status.find_problems(&unreadable);
        status
    }

    /// Whether there is anything to say of it: it is attached, a process runs it, or something happened.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_on() || self.pid.is_some() || !self.problems.is_empty()
    }

    /// What a list of instances says of it, as JSON.
    #[must_use]
    pub fn in_short(&self) -> serde_json::Value {
        serde_json::json!({
            "instance": self.instance,
            "namespace": self.namespace,
            "state": self.state,
            "pid": self.pid,
            "interfaces": self.interfaces,
            "digest": self.digest,
            "since": self.since,
            "problems": self.problems,
        })
    }

    /// Adds what is open or unused.
    pub fn check(&mut self, exposure: Exposure) {
        self.check = Some(exposure);
    }

    /// Whether it is attached anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.state != State::Off
    }

    fn state(&self) -> State {
        self.state
    }
}

impl State {
    fn of(found: &[Found], apis: &[ApiStatus]) -> Self {
        if found.is_empty() {
            Self::Off
        } else if !apis.is_empty() && apis.iter().all(|api| api.monitor) {
            Self::Monitoring
        } else {
            Self::Filtering
        }
    }
}

impl ApiStatus {
    fn new(api: &ApiRecord) -> Self {
        Self {
            name: api.name.clone(),
            ports: api.ports.clone(),
            policy: api.policy.display().to_string(),
            deny: api.deny.clone(),
            monitor: api.monitor,
            enforce: api.share().number(),
            share: api.share(),
            sources: api.sources.clone(),
        }
    }
}

impl ReloadStatus {
    fn new(reload: Reload) -> Self {
        Self {
            time: reload.time,
            cause: reload.cause.name(),
            outcome: match reload.outcome {
                Outcome::Deployed => "deployed",
                Outcome::Failed => "failed",
            },
            message: reload.message,
        }
    }
}

impl Status {
    /// Adds what is not this instance's and could be taken for it.
    #[must_use]
    pub fn beside(mut self, namespaces: Vec<String>, strays: Vec<Stray>) -> Self {
        self.elsewhere = namespaces;
        self.strays = strays
            .into_iter()
            .map(|Stray { interface, program }| StrayStatus { interface, program })
            .collect();
        let strays = self.stray_problems();
        self.problems.extend(strays);
        self
    }
}

fn digest(found: &Found) -> Option<String> {
    let bytes = found.config?.digest;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn common_digest(found: &[Found]) -> Option<String> {
    let first = digest(found.first()?)?;
    found
        .iter()
        .all(|found| digest(found).as_ref() == Some(&first))
        .then_some(first)
}

impl DeployedStatus {
    fn new(deployed: &Deployed) -> Self {
        Self {
            digest: deployed.digest.clone(),
            time: deployed.since,
            cause: deployed.cause.name(),
            change: deployed.change.clone(),
        }
    }
}

impl InterfaceStatus {
    fn new(found: &Found) -> Self {
        Self {
            name: found.interface.name.clone(),
            mode: found.hook.name(),
            digest: digest(found),
        }
    }
}

impl CounterStatus {
    fn new(count: &Count, counted: &Counted, apis: &[ApiStatus]) -> Self {
        let api = count.api.map(|index| {
            let named = apis.get(index as usize);
            named.map_or_else(|| format!("#{index}"), |api| api.name.clone())
        });
        Self {
            interface: count.interface.clone(),
            api,
            verdict: count.reason.outcome().name(),
            reason: count.reason.name(),
            packets: count.total.packets,
            bytes: count.total.bytes,
            packets_per_second: counted.rate(count, |count| count.total.packets),
            bytes_per_second: counted.rate(count, |count| count.total.bytes),
        }
    }
}
