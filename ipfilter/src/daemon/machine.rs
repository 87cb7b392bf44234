//! What the daemon does about what happens, as a state machine: it is given events and the time, and
//! answers with effects. It performs none of them and asks no kernel, clock or file.
//!
//! One plan is built at a time, by a thread of its own; meanwhile everything else goes on. `P` is a
//! plan that was built and is not in force yet.

mod boundaries;
mod messages;
mod time;
mod trials;

use std::{collections::VecDeque, mem};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::oneshot;

use super::{Answer, Request};
use crate::{
    failure::Failure,
    overrides::Change,
    state::{Cause, Purpose, Requester},
};

use self::time::Recent;
pub(super) use self::{
    messages::{Built, Effect, Event, Job, Task},
    time::Span,
};

/// How soon a deployment that failed at a boundary of time is retried.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// How long changes of overrides are gathered after the last ones were begun: each deployment waits
/// for the kernel, and bans come by the hundred.
const GATHER: SignedDuration = SignedDuration::from_secs(1);

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
    /// How long the last plans took to build.
    builds: Recent,
    /// How long the loop did nothing else when the last plans were put in force.
    swaps: Recent,
    /// What waits until a boundary has passed.
    put_off: Vec<Event<P>>,
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
            builds: Recent::default(),
            swaps: Recent::default(),
            put_off: Vec::new(),
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
        let mut effects = self.react(event, now);
        if self.put_off.is_empty() || self.is_imminent(now) || effects.iter().any(Effect::is_swap) {
            return effects;
        }
        for event in mem::take(&mut self.put_off) {
            effects.extend(self.react(event, now));
        }
        effects
    }

    fn react(&mut self, event: Event<P>, now: Timestamp) -> Vec<Effect<P>> {
        let mut effects = match event {
            Event::Repair | Event::Upkeep if self.is_imminent(now) => {
                self.put_off.push(event);
                Vec::new()
            }
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
                self.builds.push(took);
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
        // What is put in force may bring the plan for the time after it along.
        let may_build_ahead = !effects.iter().any(Effect::is_swap);
        let ahead = |machine: &mut Self, first| {
            may_build_ahead
                .then(|| machine.build_ahead(now, first))
                .flatten()
        };
        self.running = ahead(self, true)
            .or_else(|| self.next_job(effects))
            .or_else(|| self.take_changes(now))
            .or_else(|| ahead(self, false));
        if let Some(job) = &self.running {
            effects.push(job.build(self.near(now)));
        }
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
