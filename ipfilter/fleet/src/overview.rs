//! How a group is: what it is to enforce, and what each host says.

use std::collections::{BTreeMap, BTreeSet};

use ipfilter_bundle::{Digest, Release};
use serde::Serialize;

use crate::store::{Desired, Entry, Failure, Found, LAST, Report, State, Store};

/// How a group is.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    /// The group.
    pub(crate) group: String,
    /// What all hosts are to enforce.
    pub(crate) desired: Option<Wanted>,
    /// What some hosts try.
    pub(crate) canary: Option<Trial>,
    /// The generation of the group's overrides.
    pub(crate) overrides: Option<u64>,
    /// Each host, by name.
    pub(crate) hosts: Vec<HostView>,
    /// Whether every host has in force what it is to, and no release is being tried.
    pub(crate) converged: bool,
    /// What is wrong with the group itself.
    pub(crate) problems: Vec<String>,
}

/// A release that is to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Wanted {
    /// Its generation.
    pub(crate) generation: u64,
    /// Its bundle.
    pub(crate) digest: Digest,
}

impl Wanted {
    fn of(release: &Release) -> Self {
        Self {
            generation: release.generation,
            digest: release.digest,
        }
    }
}

/// A release that some hosts try.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    /// The release.
    #[serde(flatten)]
    pub(crate) wanted: Wanted,
    /// The hosts.
    pub(crate) hosts: Vec<String>,
}

/// How a host is.
#[derive(Debug, Serialize)]
pub(crate) struct HostView {
    /// Its name.
    pub(crate) host: String,
    /// What it is to enforce.
    pub(crate) desired: Option<Wanted>,
    /// What it has in force.
    pub(crate) in_force: Option<Wanted>,
    /// Since when.
    pub(crate) since: Option<jiff::Timestamp>,
    /// The version of its filter.
    pub(crate) version: Option<String>,
    /// How it is.
    pub(crate) health: Health,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
    /// When it reported last, by its clock.
    pub(crate) reported: jiff::Timestamp,
}

/// How a host is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Health {
    /// It has in force what it is to, and reports no problem.
    Ok,
    /// It has in force what it is to, and reports problems.
    Degraded,
    /// It is about to have it in force.
    Pending,
    /// It refused it.
    Refused,
    /// It will look at it later.
    Waiting,
    /// It could not get it.
    Failed,
    /// It does not report.
    Away,
    /// Its report can't be true, or another host has its name.
    Doubtful,
}

impl Health {
    /// The word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Away => "away",
            Self::Doubtful => "doubtful",
        }
    }
}

/// What was published, for judging reports.
struct Published {
    by_generation: BTreeMap<u64, Digest>,
    digests: BTreeSet<Digest>,
    highest: u64,
}

impl Published {
    fn of(desired: &Desired, history: &[Entry]) -> Self {
        let history = history.iter().map(|entry| &entry.release.release);
        let releases: Vec<_> = history.chain(desired.releases()).collect();
        let by_generation: BTreeMap<_, _> = releases
            .iter()
            .map(|it| (it.generation, it.digest))
            .collect();
        Self {
            digests: by_generation.values().copied().collect(),
            highest: by_generation
                .keys()
                .next_back()
                .copied()
                .unwrap_or_default(),
            by_generation,
        }
    }

    /// What can't be true of a report.
    fn doubts(&self, found: &Found) -> Vec<String> {
        let report = &found.report;
        let mut doubts = Vec::new();
        if report.host != found.name {
            doubts.push(format!("its report says that it is `{}`", report.host));
        }
        if let Some(in_force) = &report.in_force {
            let generation = in_force.generation;
            let known = self.by_generation.get(&generation);
            if known.is_some_and(|digest| *digest != in_force.digest) {
                doubts.push(format!(
                    "it says that generation {generation} is bundle {:.12}, which is not what was published",
                    in_force.digest
                ));
            } else if generation <= self.highest && !self.digests.contains(&in_force.digest) {
                doubts.push(format!(
                    "it says that bundle {:.12} is in force, which is not among what was published last",
                    in_force.digest
                ));
            }
        }
        if report.highest > self.highest {
            doubts.push(format!(
                "it has accepted generation {}, and the last one here is {}: was etcd restored from an older \
                 backup? publish again",
                report.highest, self.highest
            ));
        }
        doubts
    }
}

impl Overview {
    /// Reads it.
    pub(crate) async fn read(store: &Store) -> Result<Self, Failure> {
        let seen = store.desired().await?;
        let history = store.history().await?;
        let (overrides, _) = store.overrides().await?;
        let (found, unreadable) = store.reports().await?;
        let problems = unreadable.iter().map(|key| {
            format!("the report `{key}` can't be understood: does that host run a newer version?")
        });
        let mut overview = Self {
            group: store.group.to_string(),
            overrides: overrides.map(|it| it.release.generation),
            problems: problems.collect(),
            ..Self::of(&seen.desired, &history, &found)
        };
        overview.converged &= overview.problems.is_empty();
        Ok(overview)
    }

    /// That of these reports.
    pub(crate) fn of(desired: &Desired, history: &[Entry], found: &[Found]) -> Self {
        let published = Published::of(desired, history);
        let mut by_name: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for found in found {
            by_name.entry(&found.name).or_default().push(found);
        }
        let hosts: Vec<_> = by_name
            .into_iter()
            .filter_map(|(name, found)| HostView::of(name, desired, &published, &found))
            .collect();
        Self {
            group: String::new(),
            desired: desired.stable.as_ref().map(|it| Wanted::of(&it.release)),
            canary: desired.canary.as_ref().map(|canary| Trial {
                wanted: Wanted::of(&canary.release.release),
                hosts: canary.hosts.clone(),
            }),
            overrides: None,
            converged: desired.canary.is_none() && hosts.iter().all(HostView::is_converged),
            problems: Vec::new(),
            hosts,
        }
    }
}

impl HostView {
    fn of(name: &str, desired: &Desired, published: &Published, found: &[&Found]) -> Option<Self> {
        let live: Vec<_> = found.iter().filter(|found| found.id != LAST).collect();
        let newest = live.iter().max_by_key(|found| found.revision);
        let shown = newest.copied().or_else(|| found.first())?;
        let wanted = desired.of(name).map(|it| Wanted::of(&it.release));
        let report = &shown.report;
        let in_force = report.in_force.map(|it| Wanted {
            generation: it.generation,
            digest: it.digest,
        });
        let mut doubts = published.doubts(shown);
        if live.len() > 1 {
            doubts.push(format!(
                "{} hosts report by this name: give each a name of its own with `--name` (a host that was \
                 started anew is one of them for some seconds)",
                live.len()
            ));
        }
        let health = if live.is_empty() {
            Health::Away
        } else if doubts.is_empty() {
            health(report, wanted, in_force)
        } else {
            Health::Doubtful
        };
        let mut problems = doubts;
        problems.extend(report.problems.iter().cloned());
        for outcome in [Some(&report.outcome), report.overrides_outcome.as_ref()] {
            let outcome = outcome.filter(|outcome| !outcome.why.is_empty());
            problems.extend(outcome.map(|outcome| outcome.why.clone()));
        }
        Some(Self {
            host: name.to_owned(),
            desired: wanted,
            since: report.in_force.map(|it| it.since),
            in_force,
            version: report.version.clone(),
            health,
            problems,
            reported: report.at,
        })
    }

    /// Whether it has in force what it is to.
    pub(crate) fn is_converged(&self) -> bool {
        matches!(self.health, Health::Ok | Health::Degraded) && self.desired == self.in_force
    }
}

fn health(report: &Report, wanted: Option<Wanted>, in_force: Option<Wanted>) -> Health {
    if wanted.is_none() || wanted == in_force {
        let is_well = report.problems.is_empty() && report.version.is_some();
        return if is_well && report.overrides_outcome.is_none() {
            Health::Ok
        } else {
            Health::Degraded
        };
    }
    let outcome = &report.outcome;
    let is_current = outcome.generation == wanted.map(|it| it.generation);
    match outcome.state {
        State::Refused if is_current => Health::Refused,
        State::Waiting if is_current => Health::Waiting,
        State::Failed if is_current => Health::Failed,
        _ => Health::Pending,
    }
}
