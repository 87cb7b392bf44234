//! What `status` prints.

use std::{fmt, time::Duration};

use jiff::{SpanRound, Timestamp, Unit};
use serde::Serialize;

use super::{exposure::Exposure, trial::TrialStatus};
use crate::{
    instance::Instance,
    kernel::{Count, Found, Stray},
    overrides::{Override, Overrides, shown},
    state::{Deployed, Entry, Outcome, Record, Requester, Trial},
};

/// How many overrides a person is shown.
const SHOWN: usize = 3;

/// How many of the latest events a person is shown.
const LATELY: usize = 10;

/// Everything that can be said of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    instance: String,
    /// The process that keeps it current, if one does.
    pid: Option<u32>,
    /// SHA-256 of the plan that all interfaces have; none if they differ, or none is deployed.
    digest: Option<String>,
    since: Option<Timestamp>,
    interfaces: Vec<InterfaceStatus>,
    /// The names and patterns of interfaces that are still to come.
    waiting: Vec<String>,
    apis: Vec<ApiStatus>,
    /// What is decided above the policies.
    overrides: Vec<Override>,
    /// The other instances of this network namespace that have something pinned.
    others: Vec<String>,
    /// Instances of other names in other network namespaces, each with its namespace.
    other_namespaces: Vec<String>,
    /// What is taken back, or comes back, at a deadline.
    trial: Option<TrialStatus>,
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
    /// What is open or unused, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Exposure>,
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

impl Status {
    /// Puts together what the kernel has, what the daemon wrote down, and what was counted.
    #[must_use]
    pub fn new(
        instance: &Instance,
        pid: Option<u32>,
        found: &[Found],
        record: Record,
        overrides: &Overrides,
        counted: &Counted,
    ) -> Self {
        let history = record.history.iter().map(DeployedStatus::new).collect();
        // What is attached nowhere, and not meant to be, is history.
        let record = if found.is_empty() && pid.is_none() {
            Record::default()
        } else {
            record
        };
        let apis: Vec<ApiStatus> = record
            .current()
            .into_iter()
            .flat_map(|deployed| &deployed.apis)
            .map(|api| ApiStatus {
                name: api.name.clone(),
                ports: api.ports.clone(),
                policy: api.policy.display().to_string(),
                deny: api.deny.clone(),
            })
            .collect();
        let next_boundary = record.current().and_then(|now| now.next_boundary);
        Self {
            instance: instance.name().into(),
            overrides: overrides.active(Timestamp::now()).cloned().collect(),
            others: instance.others(),
            other_namespaces: instance.elsewhere(),
            pid,
            next_boundary,
            overdue: next_boundary.is_some_and(|time| time <= Timestamp::now()),
            digest: common_digest(found),
            since: found
                .iter()
                .filter_map(|found| {
                    Timestamp::from_second(found.config?.created.try_into().ok()?).ok()
                })
                .max(),
            interfaces: found.iter().map(InterfaceStatus::new).collect(),
            counters: counted
                .counts
                .iter()
                .map(|count| CounterStatus::new(count, counted, &apis))
                .collect(),
            apis,
            elsewhere: Vec::new(),
            strays: Vec::new(),
            check: None,
            trial: None,
            waiting: record.waiting,
            degraded: record.degraded,
            history,
            events: Vec::new(),
            last_reload: record.last_reload.map(|reload| ReloadStatus {
                time: reload.time,
                cause: reload.cause.name(),
                outcome: match reload.outcome {
                    Outcome::Deployed => "deployed",
                    Outcome::Failed => "failed",
                },
                message: reload.message,
            }),
        }
    }
}

impl Status {
    /// Adds what happened to the instance, the oldest first.
    #[must_use]
    pub fn with_events(mut self, entries: Vec<Entry>) -> Self {
        let latest = entries.into_iter().rev();
        self.events = latest.map(EventStatus::new).collect();
        self
    }

    /// Adds what is not this instance's and could be taken for it.
    #[must_use]
    pub fn beside(mut self, namespaces: Vec<String>, strays: Vec<Stray>) -> Self {
        self.elsewhere = namespaces;
        self.strays = strays
            .into_iter()
            .map(|Stray { interface, program }| StrayStatus { interface, program })
            .collect();
        self
    }

    /// Adds what is open or unused.
    #[must_use]
    pub fn checked(mut self, check: Option<Exposure>) -> Self {
        self.check = check;
        self
    }

    /// Adds what holds only until a deadline.
    #[must_use]
    pub fn on_trial(mut self, trial: Option<&Trial>) -> Self {
        let is_kept = self.pid.is_some();
        self.trial = trial.map(|trial| TrialStatus::new(trial, is_kept));
        self
    }

    fn write_beside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for namespace in &self.elsewhere {
            writeln!(
                f,
                "elsewhere   another instance of this name, in {namespace}"
            )?;
        }
        for StrayStatus { interface, program } in &self.strays {
            writeln!(
                f,
                "stray       at {interface} program {program} of ipfilter, whose pins are not in sight: \
                 it ends with the process or mount namespace that holds it"
            )?;
        }
        Ok(())
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

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "instance    {}", self.instance)?;
        for name in &self.waiting {
            writeln!(f, "waiting for {name}")?;
        }
        self.write_beside(f)?;
        if let Some(trial) = &self.trial {
            writeln!(f, "{trial}")?;
        }
        if self.interfaces.is_empty() {
            let rest = if self.strays.is_empty() {
                ": this instance lets every packet pass"
            } else {
                " by this instance"
            };
            writeln!(f, "deployed    nothing{rest}")?;
            return self.write_others(f);
        }
        if let Some(why) = &self.degraded {
            writeln!(
                f,
                "degraded    not what was asked for is in force, because:\n{why}"
            )?;
        }
        match &self.digest {
            Some(digest) => writeln!(f, "plan        {digest}")?,
            None => writeln!(f, "plan        differs between interfaces")?,
        }
        if let Some(since) = self.since {
            writeln!(f, "since       {since} ({} ago)", age(since))?;
        }
        match self.pid {
            Some(pid) => writeln!(f, "kept by     process {pid}")?,
            None => writeln!(
                f,
                "kept by     nobody: the filter stays attached, changes are not picked up"
            )?,
        }
        for interface in &self.interfaces {
            writeln!(f, "interface   {} ({})", interface.name, interface.mode)?;
        }
        for api in &self.apis {
            writeln!(
                f,
                "api         {}: ports {}, policy {}, denied: {}",
                api.name, api.ports, api.policy, api.deny
            )?;
        }
        if let Some(time) = self.next_boundary {
            writeln!(f, "{}", self.describe_boundary(time))?;
        }
        if let Some(reload) = &self.last_reload {
            let ReloadStatus {
                outcome,
                time,
                cause,
                ..
            } = reload;
            writeln!(f, "last reload {outcome} {time} ({cause})")?;
            if let Some(message) = &reload.message {
                writeln!(f, "{message}")?;
            }
        }
        self.write_overrides(f)?;
        self.write_others(f)?;
        self.write_events(f)?;
        self.write_counters(f)?;
        self.check
            .as_ref()
            .map_or(Ok(()), |check| write!(f, "{check}"))
    }
}

impl Status {
    /// What is to be said of the time at which another plan is due.
    fn describe_boundary(&self, time: Timestamp) -> String {
        match (self.overdue, self.pid) {
            (false, Some(_)) => format!("next plan   {time}"),
            (false, None) => format!(
                "next plan   {time}, which no process will deploy: start one with `ipfilter run`"
            ),
            (true, Some(pid)) => format!(
                "overdue     since {time} another plan is due, which process {pid} has not deployed: \
                 see its log"
            ),
            (true, None) => format!(
                "overdue     since {time} another plan is due, which no process deploys: start one \
                 with `ipfilter run`"
            ),
        }
    }

    fn write_overrides(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in self.overrides.iter().take(SHOWN) {
            writeln!(f, "override    {} {one}", shown(one.rule.source))?;
        }
        match self.overrides.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => writeln!(
                f,
                "overrides   {more} more: `ipfilter overrides` lists them"
            ),
        }
    }

    fn write_events(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in self.events.iter().take(LATELY) {
            let EventStatus {
                label, by, what, ..
            } = event;
            let time = event.time.strftime("%m-%d %H:%M:%S");
            let line = format!("{time}  {label:<16} {by:<10} {what}");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn write_others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.others.is_empty() {
            let names = self.others.join(", ");
            writeln!(
                f,
                "others      {names}: see `ipfilter --instance NAME status`"
            )?;
        }
        if !self.other_namespaces.is_empty() {
            writeln!(f, "there too   {}", self.other_namespaces.join(", "))?;
        }
        Ok(())
    }

    /// The counters, over all interfaces.
    fn totals(&self) -> Vec<CounterStatus> {
        let mut totals: Vec<CounterStatus> = Vec::new();
        for count in &self.counters {
            let alike = |total: &&mut CounterStatus| {
                (&total.api, total.verdict, total.reason)
                    == (&count.api, count.verdict, count.reason)
            };
            match totals.iter_mut().find(alike) {
                Some(total) => {
                    total.packets += count.packets;
                    total.bytes += count.bytes;
                    add(&mut total.packets_per_second, count.packets_per_second);
                    add(&mut total.bytes_per_second, count.bytes_per_second);
                }
                None => totals.push(count.clone()),
            }
        }
        totals
    }

    fn write_counters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let totals = self.totals();
        let rates = totals
            .iter()
            .any(|count| count.packets_per_second.is_some());
        write!(
            f,
            "\n{:<12} {:<6} {:<20} {:>14} {:>16}",
            "api", "", "reason", "packets", "bytes"
        )?;
        if rates {
            write!(f, " {:>11} {:>13}", "packets/s", "bytes/s")?;
        }
        writeln!(f)?;
        for count in totals.iter().filter(|count| count.packets > 0) {
            write!(
                f,
                "{:<12} {:<6} {:<20} {:>14} {:>16}",
                count.api.as_deref().unwrap_or("-"),
                count.verdict,
                count.reason,
                count.packets,
                count.bytes
            )?;
            if let (Some(packets), Some(bytes)) = (count.packets_per_second, count.bytes_per_second)
            {
                write!(f, " {packets:>11.0} {bytes:>13.0}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn add(sum: &mut Option<f64>, rate: Option<f64>) {
    if let Some(rate) = rate {
        *sum = Some(sum.unwrap_or(0.0) + rate);
    }
}

/// The time since `instant`, in its two largest units.
fn age(instant: Timestamp) -> String {
    let span = Timestamp::now()
        .since(instant)
        .and_then(|span| span.round(SpanRound::new().largest(Unit::Hour).smallest(Unit::Second)));
    span.map_or_else(|_| "some time".into(), |span| format!("{span:#}"))
}
