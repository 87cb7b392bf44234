//! Keeping an instance's record and its inputs true.
//!
//! The filter works without either, so failing to write them is no reason to stop: it is logged, and tried
//! again with the next change.

use anyhow::Context as _;
use jiff::Timestamp;
use log::warn;

use super::{
    inputs::Inputs,
    record::{Cause, Deployed, Outcome, PlanRecord, Record, Reload},
};
use crate::{config::Config, failure::Failure, instance::Instance};

/// An instance's record, and where it is kept.
#[derive(Clone, Debug)]
pub struct History {
    pub(crate) instance: Instance,
    pub(crate) record: Record,
}

impl History {
    /// The record of `instance`; an empty one where there is none, or a damaged one.
    pub(crate) fn open(instance: Instance) -> Self {
        let record = Record::load(&instance).unwrap_or_else(|error| {
            warn!("the record of earlier deployments is lost: {error:#}");
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

    /// Records that this plan is in force, made from the inputs of that name; the
    /// clock makes another plan of the same inputs.
    pub(crate) fn deployed(
        &mut self,
        spec: &Config,
        mut plan: PlanRecord,
        cause: Cause,
        inputs: Option<String>,
    ) {
        let current = self.record.current().and_then(|now| now.inputs.clone());
        let inputs = match cause {
            Cause::Clock | Cause::Override => current.clone(),
            _ => inputs,
        };
        if plan.files.is_empty() {
            // Inputs that were kept came from the files of the deployment that they were kept for.
            let mut earlier = self.record.history.iter();
            let source = earlier.find(|one| inputs.is_some() && one.inputs == inputs);
            plan.files = source.map(|one| one.files.clone()).unwrap_or_default();
        }
        self.record.push(Deployed::now(spec, plan, cause, inputs));
        if !matches!(cause, Cause::Clock | Cause::Override) {
            let is_back = matches!(cause, Cause::Rollback | Cause::Return);
            self.record.turned_away = current.filter(|_| is_back);
            self.record.degraded = None;
        }
    }

    /// Records that a plan is in force which is not what was asked for.
    pub(crate) fn degraded(&mut self, spec: &Config, plan: PlanRecord, why: String) {
        self.deployed(spec, plan, Cause::Start, None);
        self.record.degraded = Some(why);
    }

    /// Forgets the deployments made from the inputs of that name: they were rolled back, and nothing is
    /// in force.
    pub(crate) fn forget(&mut self, inputs: &str) {
        let history = &mut self.record.history;
        history.retain(|deployed| deployed.inputs.as_deref() != Some(inputs));
    }

    /// Writes down how a reload went.
    pub(crate) fn reloaded(&mut self, cause: Cause, result: Result<(), String>) {
        self.record.last_reload = Some(Reload {
            time: Timestamp::now(),
            cause,
            outcome: match &result {
                Ok(()) => Outcome::Deployed,
                Err(_) => Outcome::Failed,
            },
            message: result.err(),
        });
    }

    /// Writes it all to the disk.
    pub(crate) fn save(&self) {
        if let Err(error) = self.record.save(&self.instance) {
            warn!("`status` will be out of date: {error:#}");
        }
    }
}
