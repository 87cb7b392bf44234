//! What the deployment in force was made from, for those who ask about it from outside.

use std::{net::IpAddr, path::Path, sync::Arc};

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;

use crate::config::Config;
use crate::failure::Failure;
use crate::overrides::{Override, Overrides};
use crate::state::{Cause, Deployed, Inputs, Record, load_overrides};
use crate::{instance::Instance, plan::Plan, policy::Explanation, prepare::Policies};

/// The policies of the deployment in force, as they were read then.
#[derive(Debug)]
pub struct InForce {
    inputs: Inputs,
    policies: Policies,
    /// When it was deployed.
    pub since: Timestamp,
    /// Who asked for it.
    pub cause: Cause,
    /// The time for which the policies were evaluated.
    pub planned: Timestamp,
    /// SHA-256 of the plan, in hexadecimal.
    digest: String,
}

impl InForce {
    /// Those that `instance` keeps.
    ///
    /// # Errors
    ///
    /// When none are kept, or they are damaged.
    pub fn of(instance: &Instance) -> Result<Self, Failure> {
        let overrides = load_overrides(instance)?;
        Self::recorded(instance, &Record::load(instance)?, Arc::new(overrides))
    }

    /// Those of the deployment that was in force at `time`, with what is known of the overrides of then.
    ///
    /// # Errors
    ///
    /// When that is not known any more, or its policies are not kept.
    pub fn at(instance: &Instance, time: Timestamp) -> Result<Self, Failure> {
        let record = Record::load(instance)?;
        let deployed = record
            .at(time)
            .with_context(|| match record.history.last() {
                Some(first) => format!(
                    "what was deployed at {time} is not known: the history begins at {}",
                    first.since
                ),
                None => "nothing is written down of what was deployed".to_owned(),
            })?;
        let overrides = Arc::new(load_overrides(instance)?);
        Self::of_deployed(instance, deployed, overrides)
    }

    /// Those that `record` names, under these overrides.
    pub(super) fn recorded(
        instance: &Instance,
        record: &Record,
        overrides: Arc<Overrides>,
    ) -> Result<Self, Failure> {
        let current = record.current();
        let current = current.context("nothing is written down of what is deployed")?;
        Self::of_deployed(instance, current, overrides)
    }

    fn of_deployed(
        instance: &Instance,
        current: &Deployed,
        overrides: Arc<Overrides>,
    ) -> Result<Self, Failure> {
        let name = current.inputs.as_ref().context(
            "what is deployed was made of no policies that are kept: a broken one was shut, or the \
             state directory could not be written",
        )?;
        let inputs = Inputs::load(instance, name)?;
        Ok(Self {
            policies: Policies::of(&inputs, overrides)?,
            inputs,
            since: current.since,
            cause: current.cause,
            digest: current.digest.clone(),
            planned: current.planned.unwrap_or(current.since),
        })
    }

    /// SHA-256 of the plan that was deployed, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &Config {
        &self.inputs.spec
    }

    /// The policies, understood, without what overrides them.
    pub(crate) fn into_policies(self) -> Policies {
        self.policies.with_overrides(Arc::default())
    }

    /// What these policies come to at `now`.
    ///
    /// # Errors
    ///
    /// When the APIs don't fit together.
    pub fn plan(&self, now: Timestamp) -> Result<Plan, Failure> {
        self.policies.plan(now)
    }

    /// The plan as it was deployed: compiled again, for the same time.
    ///
    /// # Errors
    ///
    /// When another plan comes of it than was recorded.
    pub fn deployed(&self) -> Result<Plan, Failure> {
        let plan = self.policies.plan(self.planned)?;
        let digest = plan.digest().to_string();
        if digest != self.digest {
            return Err(Failure::Other(anyhow!(
                "the policies that are kept come to plan {digest:.12}, and {:.12} was deployed: \
                 another version of ipfilter deployed it, or the overrides changed meanwhile",
                self.digest
            )));
        }
        Ok(plan)
    }

    /// What the policy of the API with this index says to a source.
    #[must_use]
    pub fn explain(&self, api: usize, source: IpAddr, now: Timestamp) -> Option<Explanation<'_>> {
        self.policies.explain(api, source, now)
    }

    /// The override that decides about a source at the API with this index, if one does.
    #[must_use]
    pub fn overruled(&self, api: usize, source: IpAddr, now: Timestamp) -> Option<&Override> {
        self.policies.overruled(api, source, now)
    }

    /// What is decided above the policies.
    #[must_use]
    pub fn overrides(&self) -> &Overrides {
        self.policies.overrides()
    }

    /// The file that the policy of the API with this index was read from, and whether it says
    /// something else by now, or can't be read any more.
    #[must_use]
    pub fn file(&self, api: usize) -> Option<(&Path, bool)> {
        if self.inputs.spec.release.is_some() {
            // It was read from a bundle.
            return None;
        }
        let spec = self.inputs.spec.apis.get(api)?;
        let deployed = self.inputs.policies.get(api)?;
        let there = Inputs::policy(spec);
        let changed = there.map_or(true, |there| there.text() != deployed.text());
        Some((&spec.policy, changed))
    }
}
