//! What follows a job, however it went: what is written down, logged, answered and reported.

use std::{iter, sync::Arc};

use jiff::Timestamp;
use log::{error, info, warn};
use tokio::sync::oneshot;

use super::{
    Answer, Daemon, Ending, cut,
    machine::{Job, Task},
    notify,
};
use crate::{
    failure::Failure,
    instance::Instance,
    state::{Cause, History, Purpose, Trial, note, since_boot},
    view::{failure::plain, services::Services},
};

/// How soon a return to the plan before that failed is retried, in milliseconds.
const RETRY: i64 = 5000;

impl Daemon {
    /// Records, logs and answers how a job went, in this order.
    pub(super) fn settle(&mut self, job: Job, result: Result<(), Failure>) {
        let mut entries = self.noted(&job, &result);
        // One that was asked for may have ended before its plan was put in force: it was added first.
        entries.append(&mut self.ends);
        self.follow_up(job.task, &result);
        let outcome = self.outcome(&job, result);
        let cut = (job.terms.cut || self.policies.spec().cut) && outcome.is_new();
        let cut = cut.then(|| Arc::clone(&self.policies));
        let waiting = Waiting {
            replies: job.replies,
            own: job.answers,
        };
        let status = self.status();
        let history = self.history.clone();
        let feed = self.feed.clone();
        let desk = self.desk.clone();
        let offer = desk.offer().filter(|_| job.task == Task::Release);
        self.keeper.run(move || {
            outcome.keep(&history);
            if let Some(offer) = offer {
                let result = outcome.result.as_ref().copied().map_err(plain);
                let result = result.as_ref().copied().map_err(String::as_str);
                desk.settle(&offer, &history.instance, result);
            }
            note(&history.instance, &entries);
            if outcome.task.is_return() && outcome.result.is_ok() {
                settle_trial(&history.instance);
            }
            outcome.log();
            let cut = cut.map(|policies| cut::close_denied(&policies));
            let services = outcome.is_new().then(|| feed.settled());
            waiting.answer(&outcome, services.flatten().as_ref(), cut.as_ref());
            outcome.notify(&status);
        });
    }

    /// What this process does about the outcome of a task.
    fn follow_up(&mut self, task: Task, result: &Result<(), Failure>) {
        match task {
            Task::Release => self.reloaded(Cause::Release, result),
            Task::Reload(cause) => self.reloaded(cause, result),
            Task::ReloadIfChanged => self.reloaded(Cause::Watch, result),
            Task::Rollback | Task::Detach => {}
            Task::Return(_) => self.return_at = result.is_err().then(|| since_boot() + RETRY),
            Task::Confirm => {
                if result.is_ok() {
                    self.trial = None;
                }
            }
            Task::Override => {
                if result.is_err() {
                    self.keep_overrides();
                }
            }
            Task::CatchUp => self.overdue = result.as_ref().err().map(ToString::to_string),
            Task::BuildAhead(_) => {}
        }
    }

    fn reloaded(&mut self, cause: Cause, result: &Result<(), Failure>) {
        if result.is_err() {
            // The files are looked at again, whatever they say.
            self.last_read = None;
        }
        self.history
            .reloaded(cause, result.as_ref().copied().map_err(plain));
        self.tally.reloaded(result.is_ok());
    }

    fn outcome(&mut self, job: &Job, result: Result<(), Failure>) -> Outcome {
        let may_be_tried = matches!(
            job.task,
            Task::Reload(_) | Task::ReloadIfChanged | Task::Release | Task::Detach | Task::Override
        );
        let trial = self.trial.as_ref().filter(|_| may_be_tried);
        Outcome {
            task: job.task,
            trial: trial.map(ToString::to_string),
            ended: self.ended.take(),
            is_nowhere: self.policies.spec().interfaces.is_empty(),
            digest: self.digest().to_owned(),
            change: job.change.clone(),
            late: self.span.from,
            result,
            at: Timestamp::now(),
        }
    }

    /// Answers a job that was not begun, and logs why.
    pub(super) fn refuse(&self, job: Job, failure: Failure) {
        warn!(cause:% = job.task.cause(); "refused: {failure}");
        let mut answer = Answer::new(&Err(failure), String::new);
        if job.task == Task::Release {
            // It is not the bundle that is wrong.
            answer.result = Ending::Waiting;
        }
        for reply in job.replies {
            // Who has asked may have gone away.
            let _: Result<(), Answer> = reply.send(answer.clone());
        }
    }
}

/// Who waits for the outcome of a job.
struct Waiting {
    replies: Vec<oneshot::Sender<Answer>>,
    /// Answers of their own, if the job is done: some or none.
    own: Vec<Answer>,
}

impl Waiting {
    fn answer(
        self,
        outcome: &Outcome,
        services: Option<&Services>,
        cut: Option<&Result<String, Failure>>,
    ) {
        let common = outcome.answer(services);
        let own = self.own.into_iter().filter(|_| outcome.result.is_ok());
        let own = own.map(Some).chain(iter::repeat(None));
        for (reply, own) in self.replies.into_iter().zip(own) {
            match own
                .as_ref()
                .map(|own| (own.result, own.message.replace('\n', "; ")))
            {
                Some((Ending::Done, done)) => info!("override: {done}"),
                Some((_, why)) => warn!("an override is refused: {why}"),
                None => {}
            }
            let mut answer = own.unwrap_or_else(|| common.clone());
            if let (Some(trial), Ending::Done) = (&outcome.trial, answer.result) {
                answer.message = format!("{}; {trial}", answer.message);
            }
            if let Some(cut) = cut {
                answer.add(cut);
            }
            // Who has asked may have gone away; the log has it as well.
            let _: Result<(), Answer> = reply.send(answer);
        }
    }
}

/// Forgets a trial that is settled.
pub(super) fn settle_trial(instance: &Instance) {
    if let Err(error) = Trial::remove(instance) {
        warn!("the next start rolls back a change once more, which was settled: {error:#}");
    }
}

/// How a job went.
struct Outcome {
    task: Task,
    /// What becomes of the plan that is tried.
    trial: Option<String>,
    /// What the plan was tried for that was in force before.
    ended: Option<Purpose>,
    /// Whether the plan in force is at no interface.
    is_nowhere: bool,
    digest: String,
    /// What it changed, in a line.
    change: String,
    /// The boundary that the plan is for.
    late: Option<Timestamp>,
    result: Result<(), Failure>,
    at: Timestamp,
}

impl Outcome {
    fn keep(&self, history: &History) {
        if self.task.is_reload() || self.result.is_ok() {
            history.save();
        }
    }

    /// Whether another plan is in force than before.
    fn is_new(&self) -> bool {
        self.result.is_ok() && !matches!(self.task, Task::BuildAhead(_) | Task::Confirm)
    }

    /// What is answered to who has asked for it, if it was done.
    fn message(&self) -> String {
        let Self { digest, change, .. } = self;
        match self.task {
            Task::Rollback | Task::Return(_) if self.is_nowhere => {
                "nothing was deployed before: the filter is detached".to_owned()
            }
            Task::Rollback | Task::Return(_) => {
                format!("plan {digest} is in force again; {change}")
            }
            Task::Confirm => format!("confirmed: plan {digest} stays in force"),
            Task::Detach => "the filter is detached".to_owned(),
            _ => format!("plan {digest} is in force; {change}"),
        }
    }

    /// The answer, with how many authorization services decide by the plan.
    fn answer(&self, services: Option<&Services>) -> Answer {
        let mut answer = Answer::new(&self.result, || self.message());
        if let Some(services) = services {
            answer.message = format!("{}; {services}", answer.message);
        }
        answer
    }

    /// Reports to the service manager.
    fn notify(&self, status: &str) {
        match self.task {
            Task::BuildAhead(_) => {}
            Task::CatchUp | Task::Confirm | Task::Return(_) | Task::Detach => {
                notify::status(status);
            }
            _ => notify::ready(status),
        }
    }

    fn log(&self) {
        let (digest, change) = (self.digest.as_str(), self.change.as_str());
        let cause = self.task.cause();
        match (self.task, &self.result) {
            (Task::Reload(_) | Task::ReloadIfChanged | Task::Release, Ok(())) => {
                match &self.trial {
                    Some(trial) => {
                        warn!(cause:%, digest, change; "reloaded: plan {digest}; {change}; {trial}");
                    }
                    None => info!(cause:%, digest, change; "reloaded: plan {digest}; {change}"),
                }
            }
            (Task::Confirm, Ok(())) => info!(digest; "{}", self.message()),
            (Task::Confirm, Err(failure)) => error!("not confirmed: {failure}"),
            (Task::Detach, Ok(())) => {
                let until = self.trial.as_deref().unwrap_or_default();
                warn!("the filter is detached; {until}");
            }
            (Task::Detach, Err(failure)) => error!("not detached: {failure}"),
            (Task::Return(_), Ok(())) if self.is_nowhere => {
                error!(
                    "rolled back: nothing was deployed before, so the filter is detached; `ipfilter \
                     reload` deploys what the files say"
                );
            }
            (Task::Return(Cause::Return), Ok(())) if self.ended == Some(Purpose::Change) => {
                error!(
                    digest, change;
                    "not confirmed, so the change is rolled back: plan {digest} is in force again; {change}"
                );
            }
            (Task::Return(_), Ok(())) => {
                info!(digest, change; "plan {digest} is in force again; {change}");
            }
            (Task::Return(_), Err(failure)) => {
                error!("can't return to the previous plan, retrying: {failure}");
            }
            (Task::Reload(_) | Task::ReloadIfChanged | Task::Release, Err(failure)) => {
                error!(cause:%; "reload failed, the old plan stays: {failure}");
            }
            (Task::Override, Ok(())) => info!(digest, change; "overrides changed: {change}"),
            (Task::Override, Err(failure)) => {
                error!("the overrides stay as they were: {failure}");
            }
            (Task::Rollback, Ok(())) => {
                info!(digest, change; "rolled back: plan {digest}; {change}");
            }
            (Task::Rollback, Err(failure)) => error!("rollback failed, the plan stays: {failure}"),
            (Task::CatchUp, Ok(())) => {
                let late = self
                    .late
                    .map(|time| self.at.duration_since(time).as_millis());
                let late = late.unwrap_or_default();
                info!(
                    digest, change, late;
                    "plan {digest} is in force, {late} ms after its time; {change}"
                );
            }
            (Task::CatchUp, Err(failure)) => {
                error!("the plan for this time can't be deployed yet: {failure}");
            }
            (Task::BuildAhead(_), Ok(())) => {}
            (Task::BuildAhead(time), Err(failure)) => {
                warn!("the plan for {time} can't be built ahead, retrying then: {failure}");
            }
        }
    }
}

impl Task {
    /// Whether it deploys what files or a bundle say.
    pub(super) fn is_reload(self) -> bool {
        matches!(
            self,
            Self::Reload(_) | Self::ReloadIfChanged | Self::Release
        )
    }

    /// Whether it rolls back what is tried.
    pub(super) fn is_return(self) -> bool {
        matches!(self, Self::Return(_))
    }

    /// What makes it do so.
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Reload(cause) => cause,
            Self::ReloadIfChanged => Cause::Watch,
            Self::Release => Cause::Release,
            Self::Rollback => Cause::Rollback,
            Self::Override => Cause::Override,
            Self::Detach => Cause::Detach,
            Self::Return(cause) => cause,
            Self::Confirm => Cause::Command,
            Self::CatchUp | Self::BuildAhead(_) => Cause::Clock,
        }
    }
}
