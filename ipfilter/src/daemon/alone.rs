//! What commands do where no daemon runs the instance: deploy, go back, override.

use std::{slice, sync::Arc};

use anyhow::{Context as _, anyhow};
use jiff::SignedDuration;
use log::{error, info};

use super::{
    Answer, Ending, cut,
    noted::changed,
    overrule::override_with,
    start::{Frozen, Start, cut_if_asked, nothing},
    unattended,
};
use crate::{
    config::ConfigSource,
    failure::Failure,
    lock::Lock,
    overrides::Change,
    prepare::Policies,
    session::Session,
    state::{Cause, Inputs, Kind, PlanRecord, Requester, Trial, note, save_overrides},
};

/// Deploys what `source` asks for, and leaves nobody to keep it current. A plan that the clock
/// changes is refused, unless `freeze_time` says to keep that of this moment.
///
/// # Errors
///
/// When that fails; then nothing has changed, unless the message says that the plan is in force.
pub fn deploy(
    mut lock: Lock,
    source: &ConfigSource,
    guarded: Vec<Session>,
    freeze_time: bool,
    confirm: Option<SignedDuration>,
) -> Result<(), Failure> {
    let instance = lock.instance().clone();
    unattended::refuse_unsettled(&instance)?;
    let inputs = Inputs::of(source, &instance)?;
    let frozen = if freeze_time {
        Frozen::Yes
    } else {
        Frozen::Refused
    };
    let mut start = Start::of(instance, frozen);
    start.guarded = guarded;
    start.confirm = confirm.or(inputs.spec.service.confirm);
    start.history.record.last_reload = None;
    let supervisor = match start.confirm {
        // Before anything is changed: without it nobody would go back.
        Some(_) => Some(unattended::Supervisor::start(&start.history.instance)?),
        None => None,
    };
    let started = start.files(&inputs)?;
    if let Some(supervisor) = supervisor {
        supervisor.keep();
    }
    // The directory may have been made only now.
    lock.claim_pins()?;
    start.history.save();
    start.note(Kind::Deploy, &started);
    cut_if_asked(&started.policies).map_err(|failure| in_force_but(&failure))
}

fn in_force_but(failure: &Failure) -> Failure {
    Failure::Other(anyhow!("the plan is in force, but {failure}"))
}

/// Goes back to the deployment before, where no daemon runs the instance. Returns what is in force
/// now.
///
/// # Errors
///
/// When there is none before, or it can't be deployed.
pub fn rollback(lock: &Lock, guarded: Vec<Session>) -> Result<String, Failure> {
    let instance = lock.instance().clone();
    if let Some(trial) = Trial::load(&instance)? {
        return unattended::go_back(lock, &trial, Cause::Rollback, guarded);
    }
    let mut start = Start::of(instance, Frozen::Yes);
    start.guarded = guarded;
    let inputs = start.history.before()?;
    let started = start.deploy(&inputs)?;
    start.keep(&inputs, &started, Cause::Rollback);
    start.history.save();
    start.note(Kind::Rollback, &started);
    cut_if_asked(&started.policies).map_err(|failure| in_force_but(&failure))?;
    let PlanRecord { digest, change, .. } = started.record;
    info!("rolled back: plan {digest}; {change}");
    Ok(format!("plan {digest} is in force again; {change}"))
}

/// Changes the overrides of what is deployed where no daemon runs the instance. Nobody would end one
/// with an end, so such a one is refused.
///
/// # Errors
///
/// When the change makes no sense, nothing is deployed, or it can't be deployed anew.
pub fn change(lock: &Lock, change: &Change) -> Result<Answer, Failure> {
    let instance = lock.instance().clone();
    if matches!(change, Change::Add(rule) if rule.until.is_some()) {
        return Err(Failure::Usage(format!(
            "no process runs instance `{}`, so nobody would end the override: start one with \
             `ipfilter run`, or block `--forever`",
            instance.name()
        )));
    }
    let mut start = Start::of(instance, Frozen::Yes);
    if start.filter.inspect()?.is_empty() {
        return Err(Failure::Other(anyhow!(
            "nothing is deployed as instance `{}`, so there is nothing to override",
            start.history.instance.name()
        )));
    }
    let inputs = start.history.last_good()?;
    let before = Arc::clone(&start.overrides);
    let policies = Policies::of(&inputs, Arc::clone(&before))?;
    let (overrides, mut answers) = override_with(&policies, slice::from_ref(change));
    let mut answer = answers
        .pop()
        .unwrap_or_else(|| Answer::new(&Err(nothing()), String::new));
    if answer.result != Ending::Done {
        return Ok(answer);
    }
    save_overrides(&start.history.instance, &overrides).context("the overrides are not changed")?;
    start.overrides = Arc::new(overrides);
    let started = start.deploy(&inputs).inspect_err(|_| {
        if let Err(error) = save_overrides(&start.history.instance, &before) {
            error!("the overrides on the disk are not those in force: {error:#}");
        }
    })?;
    let entries = changed(
        slice::from_ref(change),
        slice::from_ref(&answer),
        &[Requester::own()],
        Some(&started.record.digest),
    );
    let history = &mut start.history;
    history.record.overrides_lost = None;
    history.deployed(&inputs.spec, started.record, Cause::Override, None);
    history.save();
    note(&history.instance, &entries);
    if started.policies.spec().cut {
        answer.add(&cut::close_denied(&started.policies));
    }
    Ok(answer)
}
