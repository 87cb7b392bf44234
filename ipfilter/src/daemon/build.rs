//! Building a plan, on a thread of its own: from files or kept inputs to tables in the kernel.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use log::warn;

use super::{
    Terms,
    feed::Feed,
    fleet::{Desk, no_offer},
    guard::guard,
    machine::{Built, Span, Task},
    overrule::override_with,
};
use crate::{
    config::ConfigSource,
    failure::Failure,
    instance::Instance,
    kernel::{Filter, Prepared},
    overrides::{Change, Overrides},
    plan::Plan,
    prepare::Policies,
    progress::Progress,
    state::{Inputs, PlanRecord, Purpose, Trial, save_overrides},
    view::failure::{plain, problems},
};

/// A plan that was built, and what is to be written down of it.
#[derive(Debug)]
pub(super) struct Product {
    pub(super) policies: Arc<Policies>,
    pub(super) plan: Arc<Plan>,
    /// The plan's record.
    pub(super) record: PlanRecord,
    /// The plan that `record` compares it with.
    pub(super) compared: Arc<Plan>,
    /// The name under which its inputs are kept; none where they are those in force.
    pub(super) inputs: Option<String>,
    /// The name of the inputs that were read from the files, if they were.
    pub(super) read: Option<String>,
    /// The overrides that it was built upon.
    pub(super) base: Arc<Overrides>,
    /// In the kernel; none if it is no other than the plan in force.
    pub(super) prepared: Option<Prepared>,
    /// What was written down before it is put in force, if it is rolled back at a deadline.
    pub(super) trial: Option<Trial>,
}

/// What building needs to know of what is in force.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) task: Task,
    /// When it was asked for: waiting for the builder is part of how long it takes.
    pub(super) asked: Instant,
    /// The changes of overrides that are asked for.
    pub(super) changes: Vec<Change>,
    /// How it is to be done.
    pub(super) terms: Terms,
    /// Until when the next boundary is near.
    pub(super) near: Timestamp,
    pub(super) source: ConfigSource,
    pub(super) instance: Instance,
    pub(super) filter: Filter,
    pub(super) feed: Feed,
    pub(super) desk: Desk,
    pub(super) policies: Arc<Policies>,
    pub(super) plan: Arc<Plan>,
    pub(super) digest: String,
    /// The name of the inputs that the files held when they were last read.
    pub(super) last_read: Option<String>,
    /// Why the last reload failed.
    pub(super) last_failure: Option<String>,
    /// The name of the inputs in force.
    pub(super) current: Option<String>,
    /// The name of the inputs of the deployment before.
    pub(super) before: Option<String>,
    /// What the plan in force is tried for.
    pub(super) trial: Option<Trial>,
}

impl Product {
    /// That of a plan which takes the place of one from the same inputs: nothing was read, and nothing is tried, anew.
    pub(super) fn by_the_clock(self) -> Self {
        Self {
            read: None,
            trial: None,
            ..self
        }
    }
}

impl Order {
    /// Fills it.
    pub(super) fn fill(self) -> Result<Built<Product>, Failure> {
        let result = catch_unwind(AssertUnwindSafe(|| self.build()));
        match result.unwrap_or_else(|_| Err(internal_error())) {
            // What was reported before is not reported again.
            Err(failure)
                if self.task == Task::ReloadIfChanged
                    && self.last_failure == Some(plain(&failure)) =>
            {
                Ok(Built::Unchanged)
            }
            result => result,
        }
    }

    fn build(&self) -> Result<Built<Product>, Failure> {
        if self.task == Task::Confirm {
            return self.confirm();
        }
        let inputs = match self.task {
            Task::CatchUp | Task::BuildAhead(_) | Task::Override => None,
            Task::Reload(_) | Task::ReloadIfChanged => {
                let inputs = Inputs::of(&self.source, &self.instance)?;
                let name = inputs.name()?;
                if self.task == Task::ReloadIfChanged && self.last_read.as_ref() == Some(&name) {
                    return Ok(Built::Unchanged);
                }
                Some((inputs, Some(name)))
            }
            Task::Release => {
                let offer = self.desk.offer().ok_or_else(no_offer)?;
                let inputs = offer.inputs(&self.source, &self.instance)?;
                let name = inputs.name()?;
                Some((inputs, Some(name)))
            }
            Task::Rollback => Some((self.inputs_before()?, None)),
            Task::Detach if self.policies.spec().interfaces.is_empty() => {
                return Err(Failure::Other(anyhow!(
                    "the filter is detached already: `ipfilter reload` attaches it"
                )));
            }
            Task::Detach => Some((self.inputs_in_force()?.nowhere(), None)),
            Task::Return(_) => Some((self.inputs_to_return_to()?, None)),
            Task::Confirm => None,
        };
        let overrides = self.policies.overrides();
        let (policies, answers) = match &inputs {
            Some((inputs, _)) => (Arc::new(understand(inputs, overrides)?), Vec::new()),
            None if self.task == Task::Override => {
                let (overrides, answers) = override_with(&self.policies, &self.changes);
                let policies = self.policies.with_overrides(Arc::new(overrides));
                (Arc::new(policies), answers)
            }
            None => (Arc::clone(&self.policies), Vec::new()),
        };
        let now = match self.task {
            Task::BuildAhead(time) => time,
            _ => Timestamp::now(),
        };
        let plan = policies.plan(now)?;
        if let Some((inputs, _)) = &inputs {
            guard(
                &self.terms.sessions,
                &plan,
                &policies,
                &inputs.policies,
                now,
            )?;
        }
        self.feed.prepare(&policies);
        // What the clock makes of it may be the same.
        let in_force = if inputs.is_none() { &*self.digest } else { "" };
        let prepared = self.prepare(&plan, &policies, in_force)?;
        self.feed.wait_ready(&policies);
        let span = policies.span(now);
        if self.task == Task::Override {
            // Before they take effect.
            save_overrides(&self.instance, policies.overrides())
                .context("the overrides are not changed")?;
        }
        let trial = match &inputs {
            Some((inputs, _)) => self.trial_of(inputs)?,
            None => None,
        };
        let files = inputs.as_ref().map(|(inputs, _)| inputs.files.clone());
        let files = files.unwrap_or_default();
        let (kept, read) = match inputs {
            Some((inputs, read)) => (keep(&inputs, &self.instance), read),
            None => (None, None),
        };
        if let Some(trial) = &trial {
            // Before it takes effect: whatever happens from now on, it is rolled back in time.
            trial
                .save(&self.instance)
                .context("nothing is changed: it could not be rolled back")?;
        }
        if self.task == Task::Release {
            // Before it takes effect: a start from now on reads it.
            let offer = self.desk.offer().ok_or_else(no_offer)?;
            offer
                .accept(&self.instance)
                .context("nothing is changed: the bundle can't be kept for the next start")?;
        }
        let on_trial = trial.as_ref().map(|trial| trial.purpose);
        let change = describe_change((&self.policies, &self.plan), (&policies, &plan));
        let product = Product {
            policies,
            record: PlanRecord::new(&plan, (now, span.until), change, files),
            plan: Arc::new(plan),
            compared: Arc::clone(&self.plan),
            inputs: kept,
            read,
            base: Arc::clone(overrides),
            prepared,
            trial,
        };
        let took = SignedDuration::try_from(self.asked.elapsed()).unwrap_or(SignedDuration::MAX);
        let ahead = self.ahead_of(&product, span);
        Ok(Built::Plan {
            plan: product,
            span,
            ahead,
            took,
            answers,
            on_trial,
        })
    }

    /// What is to take the place of a plan at the next boundary, if that is near. One that can't be built is built at the
    /// boundary, and reported then.
    fn ahead_of(&self, product: &Product, span: Span) -> Option<(Span, Product)> {
        let is_near = |until: &Timestamp| self.task != Task::Detach && *until <= self.near;
        let time = span.until.filter(is_near)?;
        let policies = &product.policies;
        let plan = policies.plan(time).ok()?;
        // Even if it is no other than the one before, which may never be in force.
        let prepared = self.prepare(&plan, policies, "").ok()?;
        let span = policies.span(time);
        let change = describe_change((policies, &product.plan), (policies, &plan));
        let ahead = Product {
            policies: Arc::clone(policies),
            record: PlanRecord::new(
                &plan,
                (time, span.until),
                change,
                product.record.files.clone(),
            ),
            plan: Arc::new(plan),
            compared: Arc::clone(&product.plan),
            inputs: product.inputs.clone(),
            read: product.read.clone(),
            base: Arc::clone(&product.base),
            prepared,
            trial: product.trial.clone(),
        };
        Some((span, ahead))
    }

    /// Has the kernel take the plan, unless it is that of this digest.
    fn prepare(
        &self,
        plan: &Plan,
        policies: &Policies,
        in_force: &str,
    ) -> Result<Option<Prepared>, Failure> {
        if plan.digest().to_string() == in_force {
            return Ok(None);
        }
        let _shown = Progress::of("loading tables");
        let prepared = self
            .filter
            .prepare(plan, policies.spec().mode, SystemTime::now())?;
        Ok(Some(prepared))
    }

    /// Keeps the change on trial: nothing rolls it back any more.
    fn confirm(&self) -> Result<Built<Product>, Failure> {
        let now = Timestamp::now();
        let inputs = self.inputs_in_force()?;
        let plan = self.policies.plan(now)?;
        let texts = &inputs.policies;
        guard(&self.terms.sessions, &plan, &self.policies, texts, now)?;
        Trial::remove(&self.instance).context("the change is not confirmed")?;
        Ok(Built::Confirmed)
    }

    /// What the plan of these inputs is tried for and how long, if it is to be.
    fn trial_of(&self, inputs: &Inputs) -> Result<Option<Trial>, Failure> {
        let asked = self.terms.lasts;
        let (purpose, lasts) = match self.task {
            Task::Reload(_) | Task::ReloadIfChanged | Task::Release => {
                let lasts = asked.or(self.source.service(&inputs.spec).confirm);
                (Purpose::Change, lasts)
            }
            Task::Detach => (Purpose::Pause, asked),
            _ => (Purpose::Change, None),
        };
        let Some(lasts) = lasts else {
            return Ok(None);
        };
        let back = self.current.clone().context(
            "nothing is changed: there would be nothing to go back to, because what is in force was made \
             of no policies that are kept. Reload without `--confirm`",
        )?;
        let tried = inputs
            .keep(&self.instance)
            .context("nothing is changed: it could not be rolled back")?;
        if tried == back {
            return Ok(None);
        }
        Ok(Some(Trial::new(purpose, tried, Some(back), lasts)?))
    }

    fn inputs_in_force(&self) -> Result<Inputs, Failure> {
        let current = self.current.as_ref();
        let current = current.context(
            "what is in force was made of no policies that are kept: a broken one was shut, or the \
             state directory could not be written",
        )?;
        Ok(Inputs::load(&self.instance, current)?)
    }

    /// What the trial goes back to. One that is ended before its time is over by then, whatever
    /// happens until the plan is in force.
    fn inputs_to_return_to(&self) -> Result<Inputs, Failure> {
        let trial = self.trial.as_ref().context("nothing is on trial")?;
        if trial.left().is_some() {
            trial.clone().given_up().save(&self.instance)?;
        }
        Ok(Inputs::before(&self.instance, trial)?)
    }

    fn inputs_before(&self) -> Result<Inputs, Failure> {
        let before = self.before.as_ref();
        let before = before.context("there is no deployment before this one to go back to")?;
        Ok(Inputs::load(&self.instance, before)?)
    }
}

/// What changes from policies and their plan to others, in a line.
pub(super) fn describe_change(from: (&Policies, &Plan), to: (&Policies, &Plan)) -> String {
    let is_nowhere = |policies: &Policies| policies.spec().interfaces.is_empty();
    if is_nowhere(to.0) {
        "nothing is filtered".to_owned()
    } else if is_nowhere(from.0) {
        to.1.first_diff().to_string()
    } else {
        from.1.diff(to.1).to_string()
    }
}

/// Keeps inputs for the next start, and returns the name under which they are.
pub(super) fn keep(inputs: &Inputs, instance: &Instance) -> Option<String> {
    let kept = inputs.keep(instance);
    let kept = kept.inspect_err(|error| {
        warn!("this plan can't be kept for a start with a broken policy: {error:#}");
    });
    kept.ok()
}

fn internal_error() -> Failure {
    Failure::Other(anyhow!("an internal error, logged above; please report it"))
}

/// The policies of inputs, whose warnings are logged.
fn understand(inputs: &Inputs, overrides: &Arc<Overrides>) -> Result<Policies, Failure> {
    let policies = Policies::of(inputs, Arc::clone(overrides))?;
    report(&policies);
    Ok(policies)
}

impl Span {
    /// That of a plan made for `now`.
    fn around(boundaries: impl Iterator<Item = Timestamp> + Clone, now: Timestamp) -> Self {
        Self {
            from: boundaries.clone().filter(|time| *time <= now).max(),
            until: boundaries.filter(|time| *time > now).min(),
        }
    }
}

impl Policies {
    /// The time around `now` in which [`Self::plan`] gives the same.
    pub(super) fn span(&self, now: Timestamp) -> Span {
        Span::around(self.boundaries(), now)
    }
}

/// Logs what is to be said of policies.
pub(super) fn report(policies: &Policies) {
    for warning in &policies.warnings {
        warn!("{warning}");
    }
    for findings in &policies.findings {
        warn!("{}", problems(findings));
    }
}
