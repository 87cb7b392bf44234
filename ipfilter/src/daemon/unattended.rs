//! Trials where no daemon runs the instance: a supervisor, a small process of its own, is there at the
//! deadline.

use std::{
    io::{Read as _, Write as _, stdin, stdout},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use jiff::SignedDuration;
use log::{error, info};

use super::{
    settle::settle_trial,
    start::{Frozen, Start},
};
use crate::{
    failure::Failure,
    instance::Instance,
    lock::Lock,
    session::Session,
    state::{Cause, Entry, Inputs, Kind, PlanRecord, Purpose, Requester, Trial, note},
    view::failure::in_a_line,
};

/// The hidden command that a supervisor runs.
pub(crate) const SUPERVISE: &str = "await-confirm";

/// How long a supervisor sleeps at most until it looks at the clock: sleeping does not count the time
/// in which the machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);

/// How soon what failed is retried.
const RETRY: Duration = Duration::from_secs(5);

/// A process that goes back at the deadline, if nothing has settled the trial until then. It has a
/// session of its own, so that it outlives the terminal.
pub(super) struct Supervisor(Option<Child>);

impl Supervisor {
    /// Starts it.
    pub(super) fn start(instance: &Instance) -> Result<Self, Failure> {
        let child = Command::new("/proc/self/exe")
            .args(["--instance", instance.name(), SUPERVISE])
            .current_dir("/")
            // Open as long as this process is at it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        const WHY: &str =
            "nothing is changed: no process can be started that would roll it back in time";
        let mut supervisor = Self(Some(child.context(WHY)?));
        supervisor.wait_until_ready().context(WHY)?;
        Ok(supervisor)
    }

    /// Waits until it has left the terminal's session.
    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let output = self.0.as_mut().and_then(|child| child.stdout.take());
        let mut byte = [0];
        let mut output = output.context("it has no output")?;
        output.read_exact(&mut byte).context("it has ended")
    }

    /// Leaves it to itself.
    pub(super) fn keep(mut self) {
        drop(self.0.take());
    }
}

/// One that was not kept is not needed: nothing was changed.
impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already.
            let _: std::io::Result<()> = child.kill();
            let _: std::io::Result<std::process::ExitStatus> = child.wait();
        }
    }
}

/// What a supervisor does: waits for the deadline, and goes back if the trial is not settled then.
///
/// # Errors
///
/// When this process can't leave the terminal's session.
pub fn wait_and_return(instance: &Instance) -> anyhow::Result<()> {
    rustix::process::setsid().context("can't leave the terminal's session")?;
    stdout().write_all(b"\n").and_then(|()| stdout().flush())?;
    // Who started this process keeps that open until its plan is in force, or it has died.
    stdin().read_to_end(&mut Vec::new())?;
    let mut reported = String::new();
    loop {
        match return_if_due(instance) {
            Ok(None) => return Ok(()),
            Ok(Some(left)) => sleep(left.min(LONGEST_SLEEP)),
            Err(failure) => {
                report(instance, &failure, &mut reported);
                sleep(RETRY);
            }
        }
    }
}

/// Goes back if the trial's time is over. Returns how much of it is left; nothing if it is settled.
fn return_if_due(instance: &Instance) -> Result<Option<Duration>, Failure> {
    let trial = Trial::load(instance)?;
    let left = trial.as_ref().and_then(Trial::left);
    if trial.is_some() && left.is_none() {
        try_return(instance)?;
    }
    Ok(left)
}

/// Says why it could not go back where people look for it: nobody sees what a supervisor prints.
fn report(instance: &Instance, failure: &Failure, reported: &mut String) {
    error!("can't return to the previous plan, retrying: {failure}");
    let why = in_a_line(failure);
    // A process that runs it goes back by itself, and says so.
    let is_run = instance.owner().is_ok_and(|owner| owner.is_some());
    if is_run || why == *reported {
        return;
    }
    let what = format!("return to what was in force before: {why}");
    let entry = Entry::now(Kind::Failure, Requester::Clock, None, &what);
    note(instance, &[entry]);
    *reported = why;
}

fn try_return(instance: &Instance) -> Result<(), Failure> {
    // A daemon that runs it goes back by itself.
    let lock = instance.lock()?;
    // It may have been settled before the lock was taken.
    match Trial::load(instance)? {
        Some(trial) if trial.left().is_none() => {
            go_back(&lock, &trial, Cause::Return, Vec::new()).map(drop)
        }
        _ => Ok(()),
    }
}

/// Goes back to what was before a trial. Returns what is in force now.
pub(super) fn go_back(
    lock: &Lock,
    trial: &Trial,
    cause: Cause,
    guarded: Vec<Session>,
) -> Result<String, Failure> {
    let instance = lock.instance();
    let mut start = Start::of(instance.clone(), Frozen::Yes);
    start.guarded = guarded;
    let message = if trial.back.is_none() {
        start.filter.detach()?;
        start.history.forget(&trial.tried);
        "nothing was deployed before: the filter is detached".to_owned()
    } else {
        let inputs = Inputs::before(instance, trial)?;
        let started = start.deploy(&inputs)?;
        start.keep(&inputs, &started, cause);
        let PlanRecord { digest, change, .. } = started.record;
        format!("plan {digest} is in force again; {change}")
    };
    start.history.save();
    let kind = match (cause, trial.purpose) {
        (Cause::Rollback, _) => Kind::Rollback,
        (_, Purpose::Change) => Kind::ConfirmMissed,
        (_, Purpose::Pause) => Kind::Attach,
    };
    note(
        instance,
        &[Entry::now(kind, Requester::own(), None, &message)],
    );
    settle_trial(instance);
    info!("{message}");
    Ok(message)
}

/// Refuses to deploy while a change waits for its confirmation, or should have been rolled back.
pub(super) fn refuse_unsettled(instance: &Instance) -> Result<(), Failure> {
    match Trial::load(instance)? {
        Some(trial) if trial.is_of_this_boot() => Err(Failure::Usage(format!(
            "an earlier change is not settled ({trial}): keep it with `ipfilter confirm` or roll it back \
             with `ipfilter rollback`, then try again"
        ))),
        Some(_) => {
            error!("what was deployed before the last boot was not confirmed");
            settle_trial(instance);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Keeps a change on trial where no daemon runs the instance. One whose time is over is rolled back.
///
/// # Errors
///
/// When there is none, or it can't be kept any more.
pub fn confirm(lock: &Lock) -> Result<String, Failure> {
    let instance = lock.instance();
    let trial = Trial::load(instance)?.filter(|trial| trial.purpose == Purpose::Change);
    let trial = trial.ok_or_else(|| {
        Failure::Usage(
            "there is nothing to confirm: no change waits for it, or its time was over and it was taken \
             back. `ipfilter status` shows what is in force"
                .into(),
        )
    })?;
    if trial.left().is_none() {
        let message = go_back(lock, &trial, Cause::Return, Vec::new())?;
        return Err(Failure::Other(anyhow!(
            "too late, {trial}: it is rolled back now; {message}"
        )));
    }
    Trial::remove(instance).context("the change is not confirmed")?;
    note(
        instance,
        &[Entry::now(Kind::Confirm, Requester::own(), None, "")],
    );
    Ok("confirmed: the plan in force stays".to_owned())
}

/// Detaches the filter for a while where no daemon runs the instance. Returns what to say.
///
/// # Errors
///
/// When nothing is attached, or it could not be attached again.
pub fn detach_for(lock: &Lock, lasts: SignedDuration) -> Result<String, Failure> {
    let instance = lock.instance();
    refuse_unsettled(instance)?;
    let start = Start::of(instance.clone(), Frozen::Yes);
    if start.filter.inspect()?.is_empty() {
        return Err(Failure::Other(anyhow!(
            "nothing is attached as instance `{}`",
            instance.name()
        )));
    }
    let inputs = start.history.last_good()?;
    let back = inputs.keep(instance)?;
    let tried = inputs.nowhere().keep(instance)?;
    let trial = Trial::new(Purpose::Pause, tried, Some(back), lasts)?;
    let supervisor = Supervisor::start(instance)?;
    trial
        .save(instance)
        .context("nothing is changed: it could not be attached again")?;
    start
        .filter
        .detach()
        .inspect_err(|_| settle_trial(instance))?;
    supervisor.keep();
    let message = format!("the filter is detached; {trial}");
    note(
        instance,
        &[Entry::now(Kind::Detach, Requester::own(), None, &message)],
    );
    Ok(message)
}
