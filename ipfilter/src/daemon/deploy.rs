//! What is put in force, and when: from the files, from what was before, and by the clock.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use log::{error, info, warn};

use super::{Daemon, clock::Clock, notify, prepare::Policies, upkeep::announce};
use crate::failure::Failure;
use crate::state::{Cause, Inputs};
use crate::{
    kernel::{Deployment, Filter, Interface, Matched},
    plan::Plan,
    progress::Progress,
};

/// How soon a deployment that failed at a boundary of time is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

impl Daemon {
    /// Sets the clock to when the plan will be another, or to soon if it should be one already. Past
    /// the last boundary too it must go off when it is set back.
    pub(super) fn arm_timer(&self, clock: &Clock) -> anyhow::Result<()> {
        if !self.policies.depend_on_time() {
            return Ok(());
        }
        let now = Timestamp::now();
        let is_due = self
            .policies
            .plan(now)
            .is_ok_and(|plan| !self.is_in_force(&plan));
        clock.set(if is_due {
            now + RETRY
        } else {
            self.policies.next_boundary(now).unwrap_or(Timestamp::MAX)
        })
    }

    pub(super) fn is_in_force(&self, plan: &Plan) -> bool {
        let current = self.history.record.current();
        current.is_some_and(|deployed| deployed.is_of(plan))
    }

    /// The files that say what to deploy.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let spec = self.policies.spec();
        let config = self.source.path().map(Into::into);
        let apis = spec.apis.iter();
        let named = apis.flat_map(|api| [Some(&api.policy), api.respond_body.as_ref()]);
        let named = named.flatten().cloned();
        config.into_iter().chain(named).collect()
    }

    /// Deploys anew, if the files say something else than when they were last read.
    pub(super) fn reload_if_changed(&mut self) {
        let inputs = self
            .source
            .read()
            .map_err(Failure::from)
            .and_then(Inputs::read);
        let unchanged = match &inputs {
            Ok(inputs) => inputs
                .name()
                .is_ok_and(|name| self.seen.as_ref() == Some(&name)),
            Err(failure) => {
                let last = self.history.record.last_reload.as_ref();
                last.is_some_and(|last| last.message.as_ref() == Some(&failure.plain()))
            }
        };
        if !unchanged {
            drop(self.reload_from(inputs, Cause::Watch));
        }
    }

    /// Deploys anew. On failure the old plan stays, and the record says why.
    pub(super) fn reload(&mut self, cause: Cause) -> Result<String, Failure> {
        let inputs = self
            .source
            .read()
            .map_err(Failure::from)
            .and_then(Inputs::read);
        self.reload_from(inputs, cause)
    }

    pub(super) fn reload_from(
        &mut self,
        inputs: Result<Inputs, Failure>,
        cause: Cause,
    ) -> Result<String, Failure> {
        notify::reloading();
        let seen = inputs.as_ref().ok().and_then(|inputs| inputs.name().ok());
        self.seen = seen;
        let result = inputs.and_then(|inputs| self.replace(&inputs, cause));
        self.history.reloaded(cause, result.as_ref().copied());
        self.history.save();
        self.tally.reloaded(result.is_ok());
        match &result {
            Ok(()) => info!(cause:%, digest = self.digest(); "reloaded: plan {}", self.digest()),
            Err(failure) => error!(cause:%; "reload failed, the old plan stays: {failure}"),
        }
        notify::ready(&self.status());
        result.map(|()| format!("plan {} is in force", self.digest()))
    }

    /// Goes back to the deployment before.
    pub(super) fn roll_back(&mut self) -> Result<String, Failure> {
        notify::reloading();
        let inputs = self.history.before();
        let result = inputs.and_then(|inputs| self.replace(&inputs, Cause::Rollback));
        self.history.save();
        match &result {
            Ok(()) => info!(digest = self.digest(); "rolled back: plan {}", self.digest()),
            Err(failure) => error!("rollback failed, the plan stays: {failure}"),
        }
        notify::ready(&self.status());
        result.map(|()| format!("plan {} is in force again", self.digest()))
    }

    /// Puts what `inputs` say in the place of what is in force.
    pub(super) fn replace(&mut self, inputs: &Inputs, cause: Cause) -> Result<(), Failure> {
        let policies = Policies::of(inputs)?;
        tell(&policies);
        let plan = policies.plan(Timestamp::now())?;
        let known = &self.policies.spec().interfaces;
        // An interface that was there, or was waited for, may be away. A name that is new must be
        // right: were it waited for, a slip of the pen would take the filter off the old one.
        let matched = matching(inputs, |name| {
            cause == Cause::Rollback || known.contains(name)
        })?;
        self.deployment = deploy(&self.filter, inputs, &plan, &matched)?;
        self.policies = policies;
        self.overdue = None;
        self.tally.deployed(cause);
        self.history.deployed(inputs, &plan, cause);
        self.history.record.waiting = matched.missing;
        Ok(())
    }

    /// Deploys what the policies come to now, if that is something else.
    pub(super) fn catch_up(&mut self) {
        let result = self.try_to_catch_up();
        self.overdue = result.as_ref().err().map(ToString::to_string);
        match result {
            Ok(Some(plan)) => {
                self.tally.deployed(Cause::Clock);
                self.history.ticked(self.policies.spec(), &plan);
                self.history.save();
                info!(digest = self.digest(); "the time has come for plan {}", self.digest());
                notify::status(&self.status());
            }
            Ok(None) => {}
            Err(failure) => error!("the plan for this time can't be deployed yet: {failure}"),
        }
    }

    pub(super) fn try_to_catch_up(&mut self) -> Result<Option<Plan>, Failure> {
        let plan = self.policies.plan(Timestamp::now())?;
        if self.is_in_force(&plan) {
            return Ok(None);
        }
        let spec = self.policies.spec();
        let matched = Interface::matching(&spec.interfaces)?;
        self.deployment = self.filter.deploy(&plan, &matched.interfaces, spec.mode)?;
        self.history.record.waiting = matched.missing;
        Ok(Some(plan))
    }
}

/// The interfaces that `inputs` name; one that is not there is an error unless it may be waited for.
pub(super) fn matching(
    inputs: &Inputs,
    may_wait: impl Fn(&String) -> bool,
) -> Result<Matched, Failure> {
    let matched = Interface::matching(&inputs.spec.interfaces)?;
    let mut required = matched.clone();
    required.missing.retain(|name| !may_wait(name));
    required.complete()?;
    Ok(matched)
}

pub(super) fn deploy(
    filter: &Filter,
    inputs: &Inputs,
    plan: &Plan,
    matched: &Matched,
) -> Result<Deployment, Failure> {
    let progress = Progress::of("loading tables");
    let deployed = filter.deploy(plan, &matched.interfaces, inputs.spec.mode);
    drop(progress);
    let deployment = deployed?;
    deployment.attached().iter().for_each(announce);
    for name in &matched.missing {
        warn!("`{name}` is not there: it is filtered as soon as it comes");
    }
    Ok(deployment)
}

pub(super) fn tell(policies: &Policies) {
    for warning in &policies.warnings {
        warn!("{warning}");
    }
}
