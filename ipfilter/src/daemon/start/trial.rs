//! A start that finds a trial which nobody has settled, and one that begins a trial.

use anyhow::{Context as _, anyhow};
use log::{error, warn};

use super::{Start, Taken, nothing};
use crate::{
    config::ConfigSource,
    daemon::settle::settle_trial,
    failure::Failure,
    state::{Cause, Inputs, Purpose, Trial, shown_time},
};

impl Start {
    /// The trial that nobody has settled, if it is about what is asked for now.
    pub(super) fn unsettled(&self, source: &ConfigSource) -> Option<Trial> {
        let instance = &self.history.instance;
        let found = Trial::load(instance).and_then(|trial| {
            let Some(trial) = trial else {
                return Ok(None);
            };
            let asked = match (trial.purpose, &trial.back) {
                (Purpose::Pause, Some(back)) => Inputs::load(instance, back)?,
                _ => Inputs::load(instance, &trial.tried)?,
            };
            Ok(Some((trial, asked)))
        });
        match found {
            Ok(None) => None,
            Ok(Some((trial, asked))) if source.is_for(&asked.spec) => Some(trial),
            Ok(Some(_)) => {
                warn!(
                    "an earlier change was not settled: dropped, since something else is asked for"
                );
                settle_trial(instance);
                None
            }
            Err(error) => {
                error!(
                    "an earlier change was not settled, and what to go back to is lost: {error:#}"
                );
                settle_trial(instance);
                None
            }
        }
    }

    /// Takes up a trial that was not settled: goes on with one whose time is not over, else goes back.
    pub(super) fn resume(&mut self, trial: Option<&Trial>) -> Taken {
        let trial = trial.ok_or_else(nothing)?;
        let instance = self.history.instance.clone();
        if trial.purpose == Purpose::Change && trial.left().is_some() {
            let inputs = Inputs::load(&instance, &trial.tried)?;
            let started = self.deploy(&inputs)?;
            self.keep(&inputs, &started, Cause::Start);
            warn!("plan {} is still on trial: {trial}", started.record.digest);
            self.trial = Some(trial.clone());
            return Ok(started);
        }
        let inputs = Inputs::before(&instance, trial)?;
        let started = self.deploy(&inputs)?;
        self.keep(&inputs, &started, Cause::Return);
        if trial.purpose == Purpose::Change {
            let why = format!(
                "the last change was not confirmed within {} and is rolled back: `ipfilter reload` \
                 deploys what the files say",
                shown_time(trial.lasts())
            );
            error!("{why}");
            self.history.record.turned_away = Some(trial.tried.clone());
            self.history.record.degraded = Some(why);
        }
        Ok(started)
    }

    /// Writes down, before the plan of these inputs is put in force, that it is rolled back unless it is
    /// confirmed in time, if that is asked for and it is a change.
    pub(super) fn begin_trial(&mut self, inputs: &Inputs) -> Result<(), Failure> {
        let Some(lasts) = self.confirm.take() else {
            return Ok(());
        };
        const WHY: &str = "nothing is changed: it could not be rolled back";
        let instance = &self.history.instance;
        let tried = inputs.keep(instance).context(WHY)?;
        let is_attached = !self.filter.inspect()?.is_empty();
        // A service means to filter, whatever became of the filter since.
        let has_before = is_attached || self.unattended;
        let current = self.history.record.current().filter(|_| has_before);
        let back = current.and_then(|deployed| deployed.inputs.clone());
        if is_attached && back.is_none() {
            return Err(Failure::Other(anyhow!(
                "{WHY}, because what is in force was made of no policies that are kept; deploy without \
                 `--confirm`"
            )));
        }
        if back.as_ref() == Some(&tried) {
            return Ok(());
        }
        let trial = Trial::new(Purpose::Change, tried, back, lasts)?;
        trial.save(instance).context(WHY)?;
        self.trial = Some(trial);
        Ok(())
    }

    /// Forgets a trial whose plan is not in force.
    pub(super) fn give_up_trial(&mut self) {
        if self.trial.take().is_some() {
            settle_trial(&self.history.instance);
        }
    }
}
