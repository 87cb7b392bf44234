//! Boundaries of time, such as the ends of overrides: at each the plan for the time after it must be ready, and nothing
//! else be in the way of putting it in force.

use jiff::{SignedDuration, Timestamp};

use super::{Effect, GATHER, Job, Machine, Task};
use crate::state::Requester;

/// How long before a boundary its plan is built, at least, and as a multiple of how long a build takes.
const LEAD: SignedDuration = SignedDuration::from_secs(5);
const LEAD_BUILDS: i32 = 5;

/// How many builds before a boundary nothing else is built before its plan, and whatever is built is built for the time
/// after it as well: a plan built ahead on its own would come too late.
const NEAR_BUILDS: i32 = 4;

/// How long before a boundary nothing else is put in force, since the boundary would have to wait for it: at least, at
/// most, and as a multiple of how long that takes.
const IMMINENT: SignedDuration = SignedDuration::from_millis(50);
const IMMINENT_AT_MOST: SignedDuration = SignedDuration::from_secs(1);
const IMMINENT_SWAPS: i32 = 2;

impl<P> Machine<P> {
    /// Takes note of how long putting a plan in force, and what followed from that, kept the loop from anything else.
    pub(in crate::daemon) fn occupied(&mut self, took: SignedDuration) {
        self.swaps.push(took);
    }

    /// How long before a boundary nothing else is put in force.
    fn margin(&self) -> SignedDuration {
        let swaps = self.swaps.longest().saturating_mul(IMMINENT_SWAPS);
        swaps.clamp(IMMINENT, IMMINENT_AT_MOST)
    }

    /// How long before a boundary its plan must be the next that is built.
    fn lead(&self) -> SignedDuration {
        let builds = self.builds.longest().saturating_mul(NEAR_BUILDS);
        self.margin().saturating_add(builds)
    }

    /// Whether the plan for the time after a boundary is about to be put in force.
    pub(super) fn is_imminent(&self, now: Timestamp) -> bool {
        let ready = self.ready.as_ref().and_then(|ready| ready.plan.0.until);
        let untils = [self.span.until.filter(|_| self.ahead.is_some()), ready];
        let mut untils = untils.into_iter().flatten();
        untils.any(|until| self.is_just_before(until, now))
    }

    fn is_just_before(&self, until: Timestamp, now: Timestamp) -> bool {
        until > now && until.duration_since(now) < self.margin()
    }

    /// Has what was built put in force, unless a boundary is imminent whose plan is ready. If one has passed, the plan for
    /// the time after it is; without one it is built again.
    pub(super) fn swap_ready(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
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
        // Without either plan the boundary has to wait for a build in any case.
        let is_prepared =
            ready.ahead.is_some() || self.ahead.is_some() && self.span.until == span.until;
        let is_just_before = |until| self.is_just_before(until, now);
        if is_prepared && span.until.is_some_and(is_just_before) {
            ready.plan = (span, plan);
            self.ready = Some(ready);
            return;
        }
        self.next_ahead = ready.ahead;
        effects.push(Effect::Swap(ready.job, plan, span));
    }

    /// Until when a boundary is near: the next change may be begun after it, or be built too late.
    pub(super) fn near(&self, now: Timestamp) -> Timestamp {
        let near = self.lead().saturating_add(GATHER);
        now.checked_add(near).unwrap_or(Timestamp::MAX)
    }

    /// Has the plan for this time take the place of one whose time is over, or has not come.
    pub(super) fn catch_up(&mut self, now: Timestamp, effects: &mut Vec<Effect<P>>) {
        if self.span.contains(now) || self.retry.is_some_and(|retry| now < retry) {
            return;
        }
        // Until that is done, and its outcome known, nothing else is.
        if effects.iter().any(Effect::is_swap) {
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

    /// Building the plan for the time after the next boundary, if that is due; `first`: if nothing else may come before
    /// it.
    pub(super) fn build_ahead(&mut self, now: Timestamp, first: bool) -> Option<Job> {
        let time = self.span.until.filter(|time| now < *time)?;
        self.build_ahead_at().filter(|due| *due <= now)?;
        if first && time.duration_since(now) > self.lead() {
            return None;
        }
        self.tried = Some(time);
        Some(Job::new(Task::BuildAhead(time), Requester::Clock))
    }

    /// When to build the plan for the time after the next boundary, if that is still to be done.
    pub(super) fn build_ahead_at(&self) -> Option<Timestamp> {
        let until = self.span.until?;
        let open = self.ahead.is_none() && self.tried != Some(until);
        let lead = LEAD.max(self.builds.longest().saturating_mul(LEAD_BUILDS));
        open.then(|| until.checked_sub(lead).unwrap_or(Timestamp::MIN))
    }
}
