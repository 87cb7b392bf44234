//! What the machine is given and answers with: events, effects, and the jobs that are done in between.

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use super::{
    super::{Answer, Request, Terms},
    time::Span,
};
use crate::{
    failure::Failure,
    kernel::Denial,
    overrides::Change,
    state::{Cause, Purpose, Requester},
    view::snapshot::Snapshot,
};

/// A plan to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::daemon) enum Task {
    /// From the files.
    Reload(Cause),
    /// From the files, if they say something else than when they were last read.
    ReloadIfChanged,
    /// From a bundle of the fleet that is offered.
    Release,
    /// From the inputs of the deployment before.
    Rollback,
    /// From the inputs in force, at no interface, for a while.
    Detach,
    /// From the inputs that a trial goes back to.
    Return(Cause),
    /// None: the trial's plan is to stay.
    Confirm,
    /// From the policies in force, under other overrides.
    Override,
    /// From the policies in force, for the present time.
    CatchUp,
    /// From the policies in force, for the time from the next boundary on.
    BuildAhead(Timestamp),
}

/// A task, and who waits for its outcome.
#[derive(Debug)]
pub(in crate::daemon) struct Job {
    pub(in crate::daemon) task: Task,
    pub(in crate::daemon) replies: Vec<oneshot::Sender<Answer>>,
    /// Who or what asked for it: of [`Task::Override`] by reply, of others each once.
    pub(in crate::daemon) by: Vec<Requester>,
    /// Of [`Task::Override`], by reply.
    pub(in crate::daemon) changes: Vec<Change>,
    /// What those came to, once that is known.
    pub(in crate::daemon) answers: Vec<Answer>,
    /// What it changed, in a line, once it is in force.
    pub(in crate::daemon) change: String,
    /// How it is to be done.
    pub(in crate::daemon) terms: Terms,
    /// What its plan is tried for, once that is known.
    pub(super) on_trial: Option<Purpose>,
    /// A boundary passed while it was built: once more, and not for ever.
    pub(super) again: bool,
}

impl Job {
    /// One that nobody waits for.
    pub(super) fn new(task: Task, by: Requester) -> Self {
        Self {
            task,
            replies: Vec::new(),
            by: vec![by],
            changes: Vec::new(),
            answers: Vec::new(),
            change: String::new(),
            terms: Terms::default(),
            on_trial: None,
            again: false,
        }
    }

    pub(super) fn build<P>(&self, near: Timestamp) -> Effect<P> {
        Effect::Build(self.task, self.changes.clone(), self.terms.clone(), near)
    }
}

/// What building came to.
#[derive(Debug)]
pub(in crate::daemon) enum Built<P> {
    /// There is nothing to deploy.
    Unchanged,
    /// The plan in force is on trial no longer.
    Confirmed,
    /// A plan, ready to be put in force.
    Plan {
        plan: P,
        span: Span,
        /// The plan for the time after that, if it was to be built too.
        ahead: Option<(Span, P)>,
        /// How long one plan took.
        took: SignedDuration,
        /// To each change of overrides.
        answers: Vec<Answer>,
        /// What it is tried for, if it is rolled back at a deadline.
        on_trial: Option<Purpose>,
    },
}

/// What happens.
#[derive(Debug)]
pub(in crate::daemon) enum Event<P> {
    /// SIGHUP.
    Reload,
    /// Somebody asks, and waits for the answer.
    Asked(Request, Requester, oneshot::Sender<Answer>),
    /// A bundle is offered, and somebody waits for the answer.
    Offered(Terms, Requester, oneshot::Sender<Answer>),
    /// Somebody wants to know the present state.
    Look(oneshot::Sender<Snapshot>),
    /// The files may have changed.
    Files,
    /// A time that was armed for has come.
    Clock,
    /// The clock was set.
    ClockSet,
    /// The time of a trial is over.
    Deadline,
    /// Interfaces appeared, disappeared, or were renamed.
    Links,
    /// Somebody may have undone what we did.
    Repair,
    /// What is due from time to time.
    Upkeep,
    /// A packet that did not get through is to be logged.
    Denial(Denial),
    /// A second has passed, while something waits for that.
    Second,
    /// Pass on what the programs have logged.
    Trace,
    /// Tell the service manager that we are alive.
    Alive,
    /// The plan that was to be built is.
    Built(Result<Built<P>, Failure>),
    /// What was to be put in force is, or the old plan is still.
    Swapped(Job, Result<Span, Failure>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// What is to be done.
#[derive(Debug)]
pub(in crate::daemon) enum Effect<P> {
    /// Have a plan built, with these changes of overrides, which ends with [`Event::Built`]; with changes, and
    /// if it is right until this time at most, that for the time after it as well.
    Build(Task, Vec<Change>, Terms, Timestamp),
    /// Put a plan in force, which ends with [`Event::Swapped`].
    Swap(Job, P, Span),
    /// Record, log and answer how it went.
    Settle(Job, Result<(), Failure>),
    /// Answer that it was not even begun, and why.
    Refuse(Job, Failure),
    /// Wake up at this time.
    Arm(Timestamp),
    /// Say by how much the clock was set, and what that does.
    NoteClock,
    /// Attach to interfaces that appeared, forget those that are gone.
    Follow,
    /// Repair what others undid.
    Repair,
    /// Renew the keys of `respond`.
    Renew,
    /// Open again what could not be kept open.
    Reopen,
    /// Have what is served, watched and followed match what is in force.
    Refresh,
    /// Answer with the present state.
    Report(oneshot::Sender<Snapshot>),
    /// Log a packet.
    LogDenial(Denial),
    /// Log how many were not logged one by one.
    LogUnreported,
    /// Pass on what the programs have logged.
    FlushTrace,
    /// Tell the service manager that we are alive.
    Alive,
    /// End.
    End,
}

impl<P> Effect<P> {
    /// Whether it puts a plan in force.
    pub(in crate::daemon) fn is_swap(&self) -> bool {
        matches!(self, Self::Swap(..))
    }
}
