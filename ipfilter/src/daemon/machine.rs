//! What the daemon does about what happens, as a state machine: it is given events and the time, and
//! answers with effects. It performs none of them and asks no kernel, clock or file.
//!
//! One plan is built at a time, by a thread of its own; meanwhile everything else goes on. `P` is a
//! plan that was built and is not in force yet.

use std::{collections::VecDeque, mem};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use super::{Answer, Request, Terms};
use crate::{
    failure::Failure,
    kernel::Denial,
    overrides::Change,
    state::{Cause, Purpose, Requester},
    view::snapshot::Snapshot,
};

/// How soon a deployment that failed at a boundary of time is retried.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// How long changes of overrides are gathered after the last ones were begun: each deployment waits
/// for the kernel, and bans come by the hundred.
const GATHER: SignedDuration = SignedDuration::from_secs(1);

/// How long before a boundary its plan is built, at least, and as a multiple of how long the last
/// build took.
const LEAD: SignedDuration = SignedDuration::from_secs(5);
const LEAD_BUILDS: i32 = 5;

/// How many builds before a boundary a change of overrides is built for the time after it as well: a
/// plan built ahead on its own would come too late.
const NEAR_BUILDS: i32 = 4;

/// How long before a boundary nothing else is put in force: the boundary would have to wait for it.
const IMMINENT: SignedDuration = SignedDuration::from_millis(50);

/// The time in which a plan is right: from one boundary to the next. Without an end where there is
/// no boundary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

impl Span {
    fn contains(self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    fn is_always(self) -> bool {
        self == Self::default()
    }
}

/// A plan to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
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
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) replies: Vec<oneshot::Sender<Answer>>,
    /// Who or what asked for it: of [`Task::Override`] by reply, of others each once.
    pub(super) by: Vec<Requester>,
    /// Of [`Task::Override`], by reply.
    pub(super) changes: Vec<Change>,
    /// What those came to, once that is known.
    pub(super) answers: Vec<Answer>,
    /// What it changed, in a line, once it is in force.
    pub(super) change: String,
    /// How it is to be done.
    pub(super) terms: Terms,
    /// What its plan is tried for, once that is known.
    on_trial: Option<Purpose>,
    /// A boundary passed while it was built: once more, and not for ever.
    again: bool,
}

impl Job {
    /// One that nobody waits for.
    fn new(task: Task, by: Requester) -> Self {
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

    fn build<P>(&self, near: Timestamp) -> Effect<P> {
        Effect::Build(self.task, self.changes.clone(), self.terms.clone(), near)
    }
}

/// What building came to.
#[derive(Debug)]
pub(super) enum Built<P> {
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
pub(super) enum Event<P> {
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
pub(super) enum Effect<P> {
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

/// What was built and waits to be put in force.
#[derive(Debug)]
struct Ready<P> {
    job: Job,
    plan: (Span, P),
    /// The plan for the time after that.
    ahead: Option<(Span, P)>,
}

/// What the daemon is at.
#[derive(Debug)]
pub(super) struct Machine<P> {
    /// When the plan in force is right.
    span: Span,
    /// The plan for the time after that, once it is built.
    ahead: Option<(Span, P)>,
    /// What takes its place once the plan that is being put in force is.
    next_ahead: Option<(Span, P)>,
    /// The boundary for which building ahead was tried.
    tried: Option<Timestamp>,
    /// How long the last plan took to build.
    took: SignedDuration,
    ready: Option<Ready<P>>,
    queue: VecDeque<Job>,
    /// Changes of overrides that wait to be made together, and who asks for each.
    changes: Vec<(Change, Requester, oneshot::Sender<Answer>)>,
    /// When the last ones were begun.
    changed: Option<Timestamp>,
    running: Option<Job>,
    /// When to retry to catch up.
    retry: Option<Timestamp>,
    armed: Option<Timestamp>,
    /// What the plan in force is tried for, if it is.
    trial: Option<Purpose>,
    /// Whether files may have changed during the trial.
    unread: bool,
    /// Whether to end once the trial is over.
    ending: bool,
}

impl<P> Machine<P> {
    /// With a plan in force that is right in `span`, and on trial or not.
    pub(super) fn new(span: Span, trial: Option<Purpose>) -> Self {
        Self {
            span,
            ahead: None,
            next_ahead: None,
            tried: None,
            took: SignedDuration::ZERO,
            ready: None,
            queue: VecDeque::new(),
            changes: Vec::new(),
            changed: None,
            running: None,
            retry: None,
            armed: None,
            trial,
            unread: false,
            ending: false,
        }
    }

    /// What is to be done about `event`, which happens at `now`, in this order.
    pub(super) fn handle(&mut self, event: Event<P>, now: Timestamp) -> Vec<Effect<P>> {
        let mut effects = match event {
            Event::Stop if self.trial.is_none() || self.ending => return vec![Effect::End],
            Event::Stop => {
                // Nobody would be there at the deadline.
                self.ending = true;
                self.go_back(Job::new(Task::Return(Cause::Return), Requester::Signal))
            }
            Event::Look(reply) => return vec![Effect::Report(reply)],
            Event::Denial(denial) => return vec![Effect::LogDenial(denial)],
            Event::Second => return vec![Effect::Reopen, Effect::LogUnreported],
            Event::Trace => return vec![Effect::FlushTrace],
            Event::Alive => return vec![Effect::Alive],
            Event::Links => vec![Effect::Follow, Effect::Refresh],
            Event::Repair => vec![Effect::Repair],
            Event::Upkeep => vec![
                Effect::Renew,
                Effect::Reopen,
                Effect::Repair,
                Effect::Follow,
                Effect::Refresh,
            ],
            Event::Reload => {
                let task = Task::Reload(Cause::Signal);
                self.enqueue(Job::new(task, Requester::Signal))
            }
            Event::Files => self.enqueue(Job::new(Task::ReloadIfChanged, Requester::FileWatch)),
            Event::Asked(request, by, reply) => {
                let (task, terms) = match request {
                    Request::Reload(terms) => (Task::Reload(Cause::Command), terms),
                    Request::Rollback(terms) if self.trial.is_some() => {
                        (Task::Return(Cause::Rollback), terms)
                    }
                    Request::Rollback(terms) => (Task::Rollback, terms),
                    Request::Confirm(terms) => (Task::Confirm, terms),
                    Request::Detach(terms) => (Task::Detach, terms),
                    Request::Override(change) | Request::Queue(change) => {
                        return self.gather((change, by, reply), now);
                    }
                };
                self.enqueue(Job {
                    terms,
                    replies: vec![reply],
                    ..Job::new(task, by)
                })
            }
            Event::Offered(terms, by, reply) => self.enqueue(Job {
                terms,
                replies: vec![reply],
                ..Job::new(Task::Release, by)
            }),
            Event::Deadline => {
                self.go_back(Job::new(Task::Return(Cause::Return), Requester::Clock))
            }
            Event::Clock => {
                self.armed = None;
                Vec::new()
            }
            Event::ClockSet => {
                self.armed = None;
                vec![Effect::NoteClock]
            }
            Event::Built(result) => self.built(result, now),
            Event::Swapped(job, result) => self.swapped(job, result, now),
        };
        self.proceed(now, &mut effects);
        effects
    }

    /// Begins what is due, and sees to waking up for what is due next.
    fn proceed(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        self.swap_ready(now, effects);
        self.catch_up(now, effects);
        self.build_next(now, effects);
        self.arm(now, effects);
    }

    /// Requests that wait anyway are one: whoever asks during a reload is answered by the next.
    fn enqueue(&mut self, job: Job) -> Vec<Effect<P>> {
        let is_reload = |task| matches!(task, Task::Reload(_) | Task::ReloadIfChanged);
        let lasts = job.terms.lasts;
        match self.queue.back_mut() {
            Some(last)
                if is_reload(last.task) && is_reload(job.task) && last.terms.lasts == lasts =>
            {
                if last.task == Task::ReloadIfChanged {
                    last.task = job.task;
                    last.by.clear();
                }
                if job.task != Task::ReloadIfChanged || last.task == job.task {
                    let new = job.by.into_iter().filter(|by| !last.by.contains(by));
                    let new: Vec<_> = new.collect();
                    last.by.extend(new);
                }
                last.replies.extend(job.replies);
                last.terms.cut |= job.terms.cut;
                last.terms.sessions.extend(job.terms.sessions);
            }
            _ => self.queue.push_back(job),
        }
        Vec::new()
    }

    /// Ends a trial before anything else that waits. Once is enough.
    fn go_back(&mut self, job: Job) -> Vec<Effect<P>> {
        let ready = self.ready.as_ref().map(|ready| &ready.job);
        let mut jobs = self.queue.iter().chain(&self.running).chain(ready);
        let is_asked = jobs.any(|job| matches!(job.task, Task::Return(_)));
        if self.trial.is_some() && !is_asked {
            self.queue.push_front(job);
        }
        Vec::new()
    }

    /// Why a job is not even begun, if it is not.
    fn refusal(&self, task: Task) -> Option<&'static str> {
        match (task, self.trial) {
            (Task::Reload(_) | Task::Release | Task::Detach, Some(Purpose::Change)) => Some(
                "a change waits for its confirmation: `ipfilter confirm` keeps it, `ipfilter rollback` \
                 rolls it back; then try again",
            ),
            (Task::Reload(_) | Task::Release | Task::Detach, Some(Purpose::Pause)) => Some(
                "the filter is detached for a while: attach it again with `ipfilter rollback`, then \
                 try again",
            ),
            (Task::Confirm, Some(Purpose::Pause)) => Some(
                "there is nothing to confirm: the filter is detached for a while. `ipfilter rollback` \
                 attaches it at once, `ipfilter detach` detaches it for good",
            ),
            (Task::Confirm, None) => Some(
                "there is nothing to confirm: no change waits for it, or its time was over and it was \
                 rolled back. `ipfilter status` shows what is in force",
            ),
            _ => None,
        }
    }

    /// The next job that may be begun.
    fn next_job(&mut self, effects: &mut Vec<Effect<P>>) -> Option<Job> {
        loop {
            let job = self.queue.pop_front()?;
            if let Some(why) = self.refusal(job.task) {
                effects.push(Effect::Refuse(job, Failure::Usage(why.into())));
            } else if job.task == Task::ReloadIfChanged && self.trial.is_some() {
                self.unread = true;
            } else if !matches!(job.task, Task::Return(_)) || self.trial.is_some() {
                return Some(job);
            } else if !job.replies.is_empty() {
                // It was over since it was asked for.
                let why = "the trial was over before; `ipfilter status` shows what is in force";
                effects.push(Effect::Refuse(job, Failure::Usage(why.into())));
            }
        }
    }

    /// Ends the trial, and what waited for that.
    fn settle_trial(&mut self, is_confirmed: bool, effects: &mut Vec<Effect<P>>) {
        self.trial = None;
        if self.ending {
            effects.push(Effect::End);
        } else if mem::take(&mut self.unread) && is_confirmed {
            self.queue
                .push_back(Job::new(Task::ReloadIfChanged, Requester::FileWatch));
        }
    }

    /// Has a change of overrides wait for its turn.
    fn gather(
        &mut self,
        change: (Change, Requester, oneshot::Sender<Answer>),
        now: Timestamp,
    ) -> Vec<Effect<P>> {
        self.changes.push(change);
        let mut effects = Vec::new();
        self.proceed(now, &mut effects);
        effects
    }

    /// When the changes of overrides that wait may be made, if any do.
    fn changes_at(&self, now: Timestamp) -> Option<Timestamp> {
        // A clock that was set back keeps nobody waiting.
        let last = self.changed.filter(|last| *last <= now);
        let due = last.and_then(|last| last.checked_add(GATHER).ok());
        (!self.changes.is_empty()).then(|| due.unwrap_or(now))
    }

    /// The changes of overrides that are due, as one job.
    fn take_changes(&mut self, now: Timestamp) -> Option<Job> {
        self.changes_at(now).filter(|due| *due <= now)?;
        self.changed = Some(now);
        let mut job = Job::new(Task::Override, Requester::Clock);
        job.by.clear();
        for (change, by, reply) in mem::take(&mut self.changes) {
            job.changes.push(change);
            job.by.push(by);
            job.replies.push(reply);
        }
        Some(job)
    }

    fn built(&mut self, result: Result<Built<P>, Failure>, now: Timestamp) -> Vec<Effect<P>> {
        let Some(mut job) = self.running.take() else {
            return Vec::new();
        };
        match result {
            Ok(Built::Unchanged) => Vec::new(),
            Ok(Built::Confirmed) => {
                let mut effects = vec![Effect::Settle(job, Ok(())), Effect::Refresh];
                self.settle_trial(true, &mut effects);
                effects
            }
            Ok(Built::Plan {
                plan,
                span,
                ahead,
                took,
                answers,
                on_trial,
            }) => {
                job.answers = answers;
                job.on_trial = on_trial;
                self.took = took;
                match job.task {
                    Task::BuildAhead(time) if self.span.until == Some(time) => {
                        self.ahead = Some((span, plan));
                    }
                    Task::BuildAhead(_) => {}
                    _ => {
                        let plan = (span, plan);
                        self.ready = Some(Ready { job, plan, ahead });
                    }
                }
                Vec::new()
            }
            Err(failure) => self.failed(job, failure, now),
        }
    }

    /// Has what was built put in force, unless a boundary is imminent. If one has passed, the plan for the time
    /// after it is; without one it is built again.
    fn swap_ready(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        let Some(mut ready) = self.ready.take() else {
            return;
        };
        if let Some(ahead) = ready.ahead.take_if(|_| !ready.plan.0.contains(now)) {
            ready.plan = ahead;
        }
        let (span, plan) = ready.plan;
        if !span.contains(now) && !ready.job.again {
            ready.job.again = true;
            effects.push(ready.job.build(self.near(now)));
            self.running = Some(ready.job);
            return;
        }
        let is_imminent = |until: Timestamp| until > now && until.duration_since(now) < IMMINENT;
        if ready.ahead.is_some() && span.until.is_some_and(is_imminent) {
            ready.plan = (span, plan);
            self.ready = Some(ready);
            return;
        }
        self.next_ahead = ready.ahead;
        effects.push(Effect::Swap(ready.job, plan, span));
    }

    /// Until when a boundary is near.
    fn near(&self, now: Timestamp) -> Timestamp {
        let near = IMMINENT.saturating_add(self.took.saturating_mul(NEAR_BUILDS));
        now.checked_add(near).unwrap_or(Timestamp::MAX)
    }

    fn swapped(
        &mut self,
        job: Job,
        result: Result<Span, Failure>,
        now: Timestamp,
    ) -> Vec<Effect<P>> {
        match result {
            Ok(span) => {
                self.span = span;
                self.ahead = self.next_ahead.take();
                self.tried = None;
                self.retry = None;
                self.trial = job.on_trial.or(self.trial);
                let is_return = matches!(job.task, Task::Return(_));
                let mut effects = vec![Effect::Settle(job, Ok(())), Effect::Refresh];
                if is_return {
                    self.settle_trial(false, &mut effects);
                }
                effects
            }
            Err(failure) => self.failed(job, failure, now),
        }
    }

    fn failed(&mut self, job: Job, failure: Failure, now: Timestamp) -> Vec<Effect<P>> {
        self.next_ahead = None;
        if job.task == Task::CatchUp {
            self.retry = now.checked_add(RETRY).ok();
        }
        let ends = self.ending && matches!(job.task, Task::Return(_));
        let mut effects = vec![Effect::Settle(job, Err(failure)), Effect::Refresh];
        effects.extend(ends.then_some(Effect::End));
        effects
    }

    /// Has the plan for this time take the place of one whose time is over, or has not come.
    fn catch_up(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        if self.span.contains(now) || self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        // Until that is done, and its outcome known, nothing else is.
        if effects
            .iter()
            .any(|effect| matches!(effect, Effect::Swap(..)))
        {
            return;
        }
        if let Some((span, plan)) = self.ahead.take_if(|(span, _)| span.contains(now)) {
            effects.push(Effect::Swap(
                Job::new(Task::CatchUp, Requester::Clock),
                plan,
                span,
            ));
            return;
        }
        let mut jobs = self.queue.iter().chain(&self.running);
        if !jobs.any(|job| job.task == Task::CatchUp) {
            self.queue
                .push_front(Job::new(Task::CatchUp, Requester::Clock));
        }
    }

    fn build_next(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        if self.running.is_some() || self.ready.is_some() {
            return;
        }
        let ends_or_begins = |effect: &Effect<P>| match effect {
            Effect::Swap(job, ..) => job.on_trial.is_some() || matches!(job.task, Task::Return(_)),
            _ => false,
        };
        if effects.iter().any(ends_or_begins) {
            // What may be done next depends on how that goes.
            return;
        }
        self.running = self.next_job(effects);
        if let Some(job) = &self.running {
            effects.push(job.build(self.near(now)));
            return;
        }
        if self.queue.is_empty() {
            let changes = self.take_changes(now);
            self.queue.extend(changes);
        }
        if self.queue.is_empty()
            && let Some(time) = self.span.until
            && self
                .build_ahead_at()
                .is_some_and(|due| due <= now && now < time)
        {
            self.tried = Some(time);
            let job = Job::new(Task::BuildAhead(time), Requester::Clock);
            self.queue.push_back(job);
        }
        self.running = self.queue.pop_front();
        if let Some(job) = &self.running {
            effects.push(job.build(self.near(now)));
        }
    }

    /// When to build the plan for the time after the next boundary, if that is still to be done.
    fn build_ahead_at(&self) -> Option<Timestamp> {
        let until = self.span.until?;
        let open = self.ahead.is_none() && self.tried != Some(until);
        let lead = LEAD.max(self.took.saturating_mul(LEAD_BUILDS));
        open.then(|| until.checked_sub(lead).unwrap_or(Timestamp::MIN))
    }

    fn arm(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        let ready = self.ready.as_ref().and_then(|ready| ready.plan.0.until);
        if self.span.is_always() && self.changes.is_empty() && ready.is_none() {
            return;
        }
        let times = [
            self.build_ahead_at(),
            self.span.until,
            self.retry,
            self.changes_at(now),
            ready,
        ];
        let next = times.into_iter().flatten().filter(|time| *time > now).min();
        // Past the last boundary too it must go off when the clock is set back.
        let next = next.unwrap_or(Timestamp::MAX);
        if self.armed.replace(next) != Some(next) {
            effects.push(Effect::Arm(next));
        }
    }
}

#[cfg(test)]
mod tests;
