//! What a process begins with.

use anyhow::anyhow;
use jiff::Timestamp;
use log::{error, info};

use super::{
    Daemon,
    deploy::{deploy, matching, tell},
    prepare::{self, Policies},
    snapshot::Tally,
};
use crate::config::{Config, ConfigSource, OnError};
use crate::failure::Failure;
use crate::state::{Cause, History, Inputs};
use crate::{
    kernel::{Deployment, Filter},
    lock::Lock,
};

/// Where what is deployed first comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The files.
    Files,
    /// What was in force last.
    LastGood,
    /// The files, as far as they are whole; what is broken shuts everyone out.
    Shut,
}

impl Origin {
    fn after(on_error: Option<OnError>) -> &'static [Self] {
        match on_error {
            None => &[Self::Files],
            Some(OnError::Fail) => &[Self::Files, Self::LastGood],
            Some(OnError::DenyAll) => &[Self::Files, Self::LastGood, Self::Shut],
        }
    }
}

impl Daemon {
    /// Deploys for the first time. If the files won't do and a person is there to read why, that is
    /// all. Unattended (where `on_error` says what to do, given what is asked for if that can be read)
    /// the last good plan is taken up, or else what it says; and interfaces that are not there are waited for.
    ///
    /// # Errors
    ///
    /// When nothing could be deployed; then nothing has changed.
    pub fn start(
        mut lock: Lock,
        source: ConfigSource,
        on_error: impl FnOnce(Option<&Config>) -> Option<OnError>,
    ) -> Result<Self, Failure> {
        let instance = lock.instance().clone();
        let (spec, mut unread) = split(source.read().map_err(Failure::from));
        let on_error = on_error(spec.as_ref());
        let (inputs, unreadable) = split(spec.clone().ok_or_else(nothing).and_then(Inputs::read));
        unread = unread.or(unreadable);
        let mut start = Start {
            filter: Filter::of(&instance),
            history: History::open(instance),
            unattended: on_error.is_some(),
        };
        start.history.record.last_reload = None;
        let mut why: Option<Failure> = None;
        for origin in Origin::after(on_error) {
            let taken = match origin {
                Origin::Files => match (&inputs, unread.take()) {
                    (Some(inputs), None) => start.files(inputs),
                    (_, failure) => Err(failure.unwrap_or_else(nothing)),
                },
                Origin::LastGood => start.last_good(&source, why.as_ref()),
                Origin::Shut => start.shut(spec.as_ref(), why.as_ref()),
            };
            match taken {
                Ok((policies, deployment)) => {
                    // The directory may have been made only now.
                    lock.claim_pins()?;
                    start.history.save();
                    let as_asked = start.history.record.degraded.is_none();
                    return Ok(Self {
                        seen: inputs.and_then(|inputs| inputs.name().ok()),
                        lock,
                        source,
                        history: start.history,
                        filter: start.filter,
                        policies,
                        deployment,
                        unmended: String::new(),
                        overdue: None,
                        tally: Tally::begin(as_asked),
                    });
                }
                Err(failure) if why.is_none() => {
                    if start.unattended {
                        error!("the plan of the files can't be deployed: {failure}");
                    }
                    why = Some(failure);
                }
                Err(failure) => error!("{failure}"),
            }
        }
        Err(why.unwrap_or_else(nothing))
    }
}

fn split<T>(result: Result<T, Failure>) -> (Option<T>, Option<Failure>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(failure) => (None, Some(failure)),
    }
}

fn nothing() -> Failure {
    Failure::Other(anyhow!("there is nothing to deploy"))
}

/// A start that is under way.
struct Start {
    filter: Filter,
    history: History,
    unattended: bool,
}

type Taken = Result<(Policies, Deployment), Failure>;

impl Start {
    /// Takes up what the files say, unless an operator has turned just that away before.
    fn files(&mut self, inputs: &Inputs) -> Taken {
        let turned_away = self.history.record.turned_away.as_ref();
        if self.unattended && turned_away.is_some_and(|name| inputs.is_called(name)) {
            return Err(Failure::Other(anyhow!(
                "it was rolled back; `ipfilter reload` deploys it all the same"
            )));
        }
        let (policies, deployment, plan) = self.deploy(inputs)?;
        tell(&policies);
        self.history.deployed(inputs, &plan, Cause::Start);
        Ok((policies, deployment))
    }

    /// Takes up what was in force last, if the same was asked for.
    fn last_good(&mut self, source: &ConfigSource, why: Option<&Failure>) -> Taken {
        let inputs = self.history.last_good()?;
        if !source.is_for(&inputs.spec) {
            return Err(Failure::Other(anyhow!(
                "the earlier deployment can't be fallen back on: something else was asked for"
            )));
        }
        let (policies, deployment, plan) = self.deploy(&inputs)?;
        error!("degraded: the last good plan is in force, not that of the files");
        self.history.ticked(&inputs.spec, &plan);
        self.history.record.degraded = why.map(Failure::plain);
        Ok((policies, deployment))
    }

    /// Shuts everyone out where a policy is broken.
    fn shut(&mut self, spec: Option<&Config>, why: Option<&Failure>) -> Taken {
        let spec = spec.ok_or_else(|| {
            Failure::Other(anyhow!(
                "nothing tells which ports to shut: the configuration must be repaired"
            ))
        })?;
        let inputs = prepare::shut_the_broken(spec);
        let (policies, deployment, plan) = self.deploy(&inputs)?;
        error!("degraded: APIs with a broken policy are shut to everyone until it is repaired");
        let why = why.map(Failure::plain).unwrap_or_default();
        self.history.degraded(spec, &plan, why);
        Ok((policies, deployment))
    }

    fn deploy(
        &mut self,
        inputs: &Inputs,
    ) -> Result<(Policies, Deployment, crate::plan::Plan), Failure> {
        let policies = Policies::of(inputs)?;
        let plan = policies.plan(Timestamp::now())?;
        let matched = matching(inputs, |_| self.unattended)?;
        let deployment = deploy(&self.filter, inputs, &plan, &matched)?;
        self.history.record.waiting = matched.missing;
        Ok((policies, deployment, plan))
    }
}

/// Goes back to the deployment before, where no daemon runs the instance. Returns what is in force now.
///
/// # Errors
///
/// When there is none before, or it can't be deployed.
pub fn rollback(lock: &Lock) -> Result<String, Failure> {
    let instance = lock.instance().clone();
    let filter = Filter::of(&instance);
    let mut history = History::open(instance);
    let inputs = history.before()?;
    let policies = Policies::of(&inputs)?;
    let plan = policies.plan(Timestamp::now())?;
    let matched = matching(&inputs, |_| false)?;
    deploy(&filter, &inputs, &plan, &matched)?;
    history.deployed(&inputs, &plan, Cause::Rollback);
    history.save();
    info!("rolled back: plan {}", plan.digest());
    Ok(format!("plan {} is in force again", plan.digest()))
}
