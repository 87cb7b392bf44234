//! Keeping an instance's record and its inputs true.
//!
//! The filter works without either, so failing to write them is no reason to stop: it is told, and
//! tried again with the next change.

use anyhow::Context as _;
use log::warn;

use super::{
    inputs::Inputs,
    record::{Cause, Deployed, Outcome, Record, Reload},
};
use crate::{config::Config, failure::Failure, instance::Instance, plan::Plan};

/// An instance's record, and where it is kept.
#[derive(Debug)]
pub struct History {
    pub(crate) instance: Instance,
    pub(crate) record: Record,
}

impl History {
    /// The record of `instance`; an empty one where there is none, or a damaged one.
    pub(crate) fn open(instance: Instance) -> Self {
        let record = Record::load(&instance).unwrap_or_else(|error| {
            warn!("what is known of earlier deployments is lost: {error:#}");
            Record::default()
        });
        Self { instance, record }
    }

    /// The inputs of the deployment in force when the record was last written.
    pub(crate) fn last_good(&self) -> Result<Inputs, Failure> {
        let current = self.record.current();
        let name = current.and_then(|deployed| deployed.inputs.as_ref());
        let name = name.context("there is no earlier deployment to fall back on")?;
        Ok(Inputs::load(&self.instance, name)?)
    }

    /// The inputs of the deployment before the one in force.
    pub(crate) fn before(&self) -> Result<Inputs, Failure> {
        let before = self.record.before();
        let name = before.and_then(|deployed| deployed.inputs.as_ref());
        let name = name.context("there is no deployment before this one to go back to")?;
        Ok(Inputs::load(&self.instance, name)?)
    }

    /// Writes down that `plan`, made from `inputs`, is in force.
    pub(crate) fn deployed(&mut self, inputs: &Inputs, plan: &Plan, cause: Cause) {
        let name = inputs.keep(&self.instance);
        let name = name.inspect_err(|error| {
            warn!(
                "should the policy be broken at the next start, this plan can't be fallen back on: \
                 {error:#}"
            );
        });
        let turned_away = match cause {
            Cause::Rollback => self.record.current().and_then(|now| now.inputs.clone()),
            _ => None,
        };
        let now = Deployed::now(&inputs.spec, plan, cause, name.ok());
        self.record.push(now);
        self.record.turned_away = turned_away;
        self.record.degraded = None;
        if let Err(error) = Inputs::forget_but(&self.instance, &self.record.inputs()) {
            warn!("what is no longer needed can't be removed: {error:#}");
        }
    }

    /// Writes down that `plan` is in force, which is not what was asked for.
    pub(crate) fn degraded(&mut self, spec: &Config, plan: &Plan, why: String) {
        let now = Deployed::now(spec, plan, Cause::Start, None);
        self.record.push(now);
        self.record.degraded = Some(why);
    }

    /// Writes down that the clock has made another plan of the same inputs.
    pub(crate) fn ticked(&mut self, spec: &Config, plan: &Plan) {
        let inputs = self.record.current().and_then(|now| now.inputs.clone());
        self.record
            .push(Deployed::now(spec, plan, Cause::Clock, inputs));
    }

    /// Writes down how a reload went.
    pub(crate) fn reloaded(&mut self, cause: Cause, result: Result<(), &Failure>) {
        self.record.last_reload = Some(Reload {
            time: jiff::Timestamp::now(),
            cause,
            outcome: match result {
                Ok(()) => Outcome::Deployed,
                Err(_) => Outcome::Failed,
            },
            message: result.err().map(Failure::plain),
        });
    }

    /// Writes it all to the disk.
    pub(crate) fn save(&self) {
        if let Err(error) = self.record.save(&self.instance) {
            warn!("`status` will be out of date: {error:#}");
        }
    }
}
