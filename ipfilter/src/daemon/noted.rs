//! What is noted of the instance's life: what happened, and who asked for it.

use jiff::Timestamp;
use log::warn;

use super::{
    Answer, Daemon, Ending,
    machine::{Job, Task},
};
use crate::{
    failure::Failure,
    overrides::{Change, Override, shown},
    state::{Cause, Entry, Kind, Purpose, Requester, note},
    view::failure::in_a_line,
};

impl Daemon {
    /// Notes something that has happened, after what is written already.
    pub(super) fn note(&self, kind: Kind, by: Requester, what: &str) {
        let entry = Entry::now(kind, by, self.known_digest(), what);
        let instance = self.history.instance.clone();
        self.keeper.run(move || note(&instance, &[entry]));
    }

    /// Says that the clock was set, and what that does to what ends by it.
    pub(super) fn note_clock(&mut self) {
        let Some(moved) = self.wall.moved() else {
            return;
        };
        let now = Timestamp::now();
        let overrides = self.policies.overrides().active(now);
        let ending = overrides.filter(|one| one.rule.until.is_some()).count();
        let (direction, effect) = if moved.is_negative() {
            ("back", "later")
        } else {
            ("forward", "earlier")
        };
        let ends = match ending {
            0 => String::new(),
            1 => format!("1 override ends {effect}, and "),
            many => format!("{many} overrides end {effect}, and "),
        };
        let what = format!(
            "{direction} by {:#}: {ends}policies' dates come {effect}",
            moved.abs()
        );
        warn!("the clock was set {what}");
        self.note(Kind::ClockSet, Requester::Clock, &what);
    }

    /// The plan in force, if there is a record of it.
    pub(super) fn known_digest(&self) -> Option<String> {
        let current = self.history.record.current();
        current.map(|deployed| deployed.digest.clone())
    }

    /// What is to be noted of a job that went so.
    pub(super) fn noted(&self, job: &Job, result: &Result<(), Failure>) -> Vec<Entry> {
        let by = || job.by.first().cloned().unwrap_or(Requester::Clock);
        let entry = |kind, what: &str| Entry::now(kind, by(), self.known_digest(), what);
        if let Err(failure) = result {
            let again = self.overdue.as_deref() == Some(&failure.to_string());
            return match (task_name(job.task), job.task) {
                (None, _) => Vec::new(),
                (_, Task::CatchUp) if again => Vec::new(),
                (Some(name), _) => {
                    let what = format!("{name}: {}", in_a_line(failure));
                    vec![entry(Kind::Failure, &what)]
                }
            };
        }
        match job.task {
            Task::Reload(_) | Task::ReloadIfChanged => vec![entry(Kind::Reload, &job.change)],
            Task::Release => {
                let release = self.policies.spec().release.as_ref();
                let what = release.map_or_else(String::new, ToString::to_string);
                vec![entry(Kind::Release, &format!("{what}: {}", job.change))]
            }
            Task::Rollback | Task::Return(Cause::Rollback) => {
                vec![entry(Kind::Rollback, &job.change)]
            }
            Task::Return(_) if self.ended == Some(Purpose::Change) => {
                vec![entry(Kind::ConfirmMissed, &job.change)]
            }
            Task::Confirm => vec![entry(Kind::Confirm, "")],
            // That the filter was detached or attached is noted by interface.
            Task::Return(_) | Task::Detach => Vec::new(),
            Task::Override => changed(
                &job.changes,
                &job.answers,
                &job.by,
                self.known_digest().as_deref(),
            ),
            Task::CatchUp if self.is_policys_boundary() => vec![entry(Kind::Boundary, &job.change)],
            Task::CatchUp | Task::BuildAhead(_) => Vec::new(),
        }
    }

    /// Whether the time of the plan in force begins by a policy's date, and not by the end of an override.
    fn is_policys_boundary(&self) -> bool {
        let from = self.span.from;
        from.is_some_and(|from| self.policies.has_boundary_at(from))
    }
}

/// What failed; none where nothing was asked for or due.
fn task_name(task: Task) -> Option<&'static str> {
    match task {
        Task::Reload(Cause::Signal) => Some("reload by SIGHUP"),
        Task::Reload(_) => Some("reload"),
        Task::ReloadIfChanged => Some("reload of changed files"),
        Task::Release => Some("release"),
        Task::Rollback => Some("rollback"),
        Task::Return(_) => Some("return to what was in force before"),
        Task::Confirm => Some("confirmation"),
        Task::Detach => Some("detaching for a while"),
        Task::Override => Some("overrides"),
        Task::CatchUp => Some("plan for this time"),
        Task::BuildAhead(_) => None,
    }
}

/// What is to be noted of changes of overrides: one entry for each who asked, and each kind of change.
pub(super) fn changed(
    changes: &[Change],
    answers: &[Answer],
    by: &[Requester],
    digest: Option<&str>,
) -> Vec<Entry> {
    let mut groups: Vec<(Kind, &Requester, Vec<&Override>)> = Vec::new();
    for ((change, answer), by) in changes.iter().zip(answers).zip(by) {
        if answer.result != Ending::Done || answer.overrides.is_empty() {
            continue;
        }
        let kind = match change {
            Change::Add(_) | Change::Group(_) => Kind::OverrideAdded,
            Change::Remove(_) | Change::Lift { .. } | Change::LiftReason(_) => {
                Kind::OverrideRemoved
            }
        };
        let group = groups
            .iter_mut()
            .find(|(own, asked, _)| (*own, *asked) == (kind, by));
        match group {
            Some((_, _, overrides)) => overrides.extend(&answer.overrides),
            None => groups.push((kind, by, answer.overrides.iter().collect())),
        }
    }
    let entries = groups.into_iter().map(|(kind, by, overrides)| {
        Entry::now(
            kind,
            by.clone(),
            digest.map(str::to_owned),
            &listed(&overrides),
        )
    });
    entries.collect()
}

/// Overrides in one line: the first, and how many more.
pub(super) fn listed(overrides: &[&Override]) -> String {
    let Some(first) = overrides.first() else {
        return String::new();
    };
    let first = format!("{} {first}", shown(first.rule.source));
    match overrides.len() - 1 {
        0 => first,
        more => format!("{first}; and {more} more"),
    }
}
