//! What is wrong with an instance, in sentences that say what to do.

use serde::Serialize;

use super::{Status, authorization::Authorization};

/// The label of what is said of authorization services.
pub(super) const AUTHORIZATION: &str = "authorize";

/// Something that is wrong.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    pub(super) kind: ProblemKind,
    pub(super) what: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProblemKind {
    /// What is in force is not what was asked for.
    Degraded,
    /// Interfaces have different plans.
    Differs,
    /// A plan is due that is not in force.
    Overdue,
    /// An interface is not there.
    Waiting,
    /// The last reload failed.
    Reload,
    /// An authorization service does not decide by what is in force.
    Authorization,
    /// What keeps the host from what its fleet is to have.
    Fleet,
    /// A part of what is known can't be read.
    Unreadable,
    /// A program of ipfilter without pins.
    Stray,
}

impl ProblemKind {
    /// As people read it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Degraded => "degraded",
            Self::Differs => "differs",
            Self::Overdue => "overdue",
            Self::Waiting => "waiting",
            Self::Reload => "last reload",
            Self::Authorization => AUTHORIZATION,
            Self::Fleet => "fleet",
            Self::Unreadable => "damaged",
            Self::Stray => "stray",
        }
    }
}

impl Status {
    /// What is wrong, the most important first.
    pub(super) fn find_problems(&self, unreadable: &[String]) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |kind, what| problems.push(Problem { kind, what });
        if let Some(why) = &self.degraded {
            let what = format!("not what was asked for is in force, because:\n{why}");
            add(ProblemKind::Degraded, what);
        }
        if self.is_on() && self.digest.is_none() {
            let what = "the plan differs between interfaces: `ipfilter reload` puts one in force";
            add(ProblemKind::Differs, what.into());
        }
        if let Some(time) = self.next_boundary.filter(|_| self.overdue) {
            let whose = match self.pid {
                Some(pid) => format!("which process {pid} has not deployed: see its log"),
                None => "which no process deploys: start one with `ipfilter run`".into(),
            };
            add(
                ProblemKind::Overdue,
                format!("since {time} another plan is due, {whose}"),
            );
        }
        for name in &self.waiting {
            let what = match self.pid {
                Some(_) => {
                    format!("for {name}, which does not exist: it will be filtered when it appears")
                }
                None => format!(
                    "for {name}, which is not there, and no process runs that would filter it"
                ),
            };
            add(ProblemKind::Waiting, what);
        }
        let failed = self.last_reload.iter();
        for reload in failed.filter(|reload| reload.outcome == "failed") {
            let why = reload.message.as_deref().unwrap_or_default();
            let what = format!(
                "failed {:.0} ({}), and the plan before stays:\n{why}",
                reload.time, reload.cause
            );
            add(ProblemKind::Reload, what);
        }
        let authorization = self.authorization.as_ref();
        if let Some(what) = authorization.and_then(Authorization::problem) {
            add(ProblemKind::Authorization, what);
        }
        let fleet = self.fleet.iter().flat_map(|fleet| &fleet.problems);
        for what in fleet {
            add(ProblemKind::Fleet, what.clone());
        }
        for what in unreadable {
            add(ProblemKind::Unreadable, what.clone());
        }
        problems
    }

    pub(super) fn stray_problems(&self) -> Vec<Problem> {
        let strays = self.strays.iter().map(|stray| Problem {
            kind: ProblemKind::Stray,
            what: format!(
                "at {} program {} of ipfilter, whose pins are not in sight: it ends with the process \
                 or mount namespace that holds it",
                stray.interface, stray.program
            ),
        });
        strays.collect()
    }
}
