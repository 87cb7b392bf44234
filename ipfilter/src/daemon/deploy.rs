//! Putting a plan in force, and recording how that went.

use std::{iter, mem, path::PathBuf, sync::Arc};

use jiff::Timestamp;
use log::{error, info, warn};

use super::{
    Answer, Daemon, Ending, Terms,
    addresses::warn_of_open,
    build::{Order, Product, describe_change},
    cut,
    machine::{Job, Span, Task},
    noted::listed,
    notify,
    upkeep::announce,
};
use crate::{
    failure::Failure,
    instance::Instance,
    kernel::{Attachment, Deployment, Interface, Matched},
    overrides::{Change, Overrides, shown},
    state::{
        Cause, History, Inputs, Kind, Purpose, Requester, Trial, note, save_overrides, since_boot,
    },
    view::failure::plain,
};

/// How soon a return to the plan before that failed is retried, in milliseconds.
const RETRY: i64 = 5000;

impl Daemon {
    /// What the builder needs to know.
    pub(super) fn order(
        &self,
        task: Task,
        changes: Vec<Change>,
        terms: Terms,
        near: Timestamp,
    ) -> Order {
        let record = &self.history.record;
        let last = record.last_reload.as_ref();
        let current = record.current();
        let before = record.before().and_then(|deployed| deployed.inputs.clone());
        Order {
            task,
            changes,
            terms,
            near,
            source: self.source.clone(),
            instance: self.history.instance.clone(),
            filter: self.filter.clone(),
            feed: self.feed.clone(),
            policies: self.policies.clone(),
            plan: self.plan.clone(),
            digest: self.digest().to_owned(),
            last_read: self.last_read.clone(),
            last_failure: last.and_then(|last| last.message.clone()),
            current: current.and_then(|deployed| deployed.inputs.clone()),
            before,
            trial: self.trial.clone(),
        }
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

    /// Puts a plan that was built in the place of what is in force. Returns what that changes, in a
    /// line.
    pub(super) fn swap(
        &mut self,
        job: &Job,
        product: Product,
        span: Span,
    ) -> Result<String, Failure> {
        let is_tried = product.trial.is_some();
        let result = self.try_swap(job, product, span);
        if result.is_err() && is_tried {
            // Nothing is to be taken back.
            let instance = self.history.instance.clone();
            self.builder.run(move || settle_trial(&instance));
        }
        result
    }

    fn try_swap(&mut self, job: &Job, product: Product, span: Span) -> Result<String, Failure> {
        let task = job.task;
        let by = job.by.first().cloned().unwrap_or(Requester::Clock);
        let bound = &self.history.record.bound;
        let spec = product.policies.spec();
        let protected = spec.protected();
        let matched = Interface::matching(&spec.interfaces, bound)?.with_addresses(&protected)?;
        if matches!(task, Task::Reload(_) | Task::ReloadIfChanged) {
            // An interface that was there, or was waited for, may be away. A name that is new must be
            // right: waiting for it would let a typing error detach the filter from the old one.
            let known = self.policies.spec();
            require(&matched, |name| known.names(name))?;
        }
        let mut moved = Vec::new();
        if let Some(prepared) = product.prepared {
            let deployment = prepared.deploy(&matched.interfaces)?;
            deployment.attached().iter().for_each(announce);
            report_missing(&matched);
            warn_of_open(&protected)?;
            self.unattached.clear();
            let before = mem::replace(&mut self.deployment, deployment);
            moved = self.moved(&before);
            self.builder.run(move || drop(before));
        }
        // Some have ended, and were forgotten on the disk too, after the new ones were written.
        let is_overwritten =
            task == Task::Override && !Arc::ptr_eq(&product.base, self.policies.overrides());
        self.feed.serve(&product.policies, &product.record.digest);
        let before = mem::replace(&mut self.policies, product.policies);
        let cause = task.cause();
        let mut record = product.record;
        if !Arc::ptr_eq(&product.compared, &self.plan) {
            // A boundary of time passed while it was built.
            record.change = describe_change((&before, &self.plan), (&self.policies, &product.plan));
        }
        self.plan = product.plan;
        if task == Task::Override {
            self.history.record.overrides_lost = None;
        }
        let change = record.change.clone();
        let history = &mut self.history;
        history.deployed(self.policies.spec(), record, cause, product.inputs);
        if let (Task::Return(_), Some(trial)) = (task, self.trial.take_if(|_| is_return(task))) {
            // Also where the record was not written since the trial began.
            let is_change = trial.purpose == Purpose::Change;
            history.record.turned_away = is_change.then_some(trial.tried);
            self.ended = Some(trial.purpose);
        }
        self.trial = product.trial.or(self.trial.take());
        self.span = span;
        for (kind, interfaces) in moved {
            self.note(kind, by.clone(), &interfaces);
        }
        self.forget_ended();
        if is_overwritten {
            self.keep_overrides();
        }
        self.last_read = product.read.or(self.last_read.take());
        self.overdue = None;
        self.tally.deployed(cause);
        self.set_matched(matched);
        let (instance, kept) = (self.history.instance.clone(), self.history.record.inputs());
        self.builder.run(move || {
            drop(before);
            if let Err(error) = Inputs::forget_but(&instance, &kept) {
                warn!("can't remove what is no longer needed: {error:#}");
            }
        });
        Ok(change)
    }

    /// To which interfaces the deployment in force is attached and the one before was not, and the
    /// other way round.
    fn moved(&self, before: &Deployment) -> Vec<(Kind, String)> {
        let (now, before) = (self.deployment.attached(), before.attached());
        let only = |these: &[Attachment], those: &[Attachment]| {
            let those: Vec<_> = those.iter().map(|one| one.interface.index).collect();
            let only = these
                .iter()
                .filter(|one| !those.contains(&one.interface.index));
            only.map(|one| one.interface.name.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let moved = [
            (Kind::Attach, only(now, before)),
            (Kind::Detach, only(before, now)),
        ];
        let moved = moved.into_iter();
        moved
            .filter(|(_, interfaces)| !interfaces.is_empty())
            .collect()
    }

    /// Takes note of which interfaces are meant.
    pub(super) fn set_matched(&mut self, matched: Matched) {
        for (name, interface) in &matched.renamed {
            let now = (name.clone(), interface.name.clone());
            if !self.renamed.contains(&now) {
                warn!(
                    interface = interface.name;
                    "`{name}` is called `{}` now and stays filtered under that name; write \
                     `{}`, or give it the alternative name `{name}`, before the next boot",
                    interface.name, interface.name
                );
                self.note(
                    Kind::Rename,
                    Requester::Kernel,
                    &format!("`{name}` is `{}` now", interface.name),
                );
                self.renamed.push(now);
            }
        }
        self.history.record.waiting = matched.missing;
        self.history.record.bound = matched.bound;
    }

    /// Records, logs and answers how a job went, in this order.
    pub(super) fn settle(&mut self, job: Job, result: Result<(), Failure>) {
        let entries = self.noted(&job, &result);
        let Job {
            task,
            replies,
            answers,
            change,
            terms,
            ..
        } = job;
        let cut = terms.cut;
        match task {
            Task::Reload(cause) => self.reloaded(cause, &result),
            Task::ReloadIfChanged => self.reloaded(Cause::Watch, &result),
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
        let digest = self.digest().to_owned();
        let cut = cut || self.policies.spec().cut;
        let is_new = result.is_ok() && !matches!(task, Task::BuildAhead(_) | Task::Confirm);
        let cut = (cut && is_new).then(|| Arc::clone(&self.policies));
        let answer = Answer::new(&result, || match task {
            Task::Rollback | Task::Return(_) if self.policies.spec().interfaces.is_empty() => {
                "nothing was deployed before: the filter is detached".to_owned()
            }
            Task::Rollback | Task::Return(_) => {
                format!("plan {digest} is in force again; {change}")
            }
            Task::Confirm => format!("confirmed: plan {digest} stays in force"),
            Task::Detach => "the filter is detached".to_owned(),
            _ => format!("plan {digest} is in force; {change}"),
        });
        let trial = self.trial.as_ref().map(ToString::to_string);
        let pending = trial.filter(|_| {
            matches!(
                task,
                Task::Reload(_) | Task::ReloadIfChanged | Task::Detach | Task::Override
            )
        });
        let is_return = is_return(task) && result.is_ok();
        let outcome = Outcome {
            task,
            trial: pending.clone(),
            ended: self.ended.take(),
            is_nowhere: self.policies.spec().interfaces.is_empty(),
            digest,
            change,
            late: self.span.from,
            result,
            at: Timestamp::now(),
        };
        let status = self.status();
        let history = self.history.clone();
        let feed = self.feed.clone();
        self.keeper.run(move || {
            outcome.keep(&history);
            note(&history.instance, &entries);
            if is_return {
                settle_trial(&history.instance);
            }
            outcome.log();
            let cut = cut.map(|policies| cut::close_denied(&policies));
            let with_cut = |mut answer: Answer| {
                if let (Some(pending), Ending::Done) = (&pending, answer.result) {
                    answer.message = format!("{}; {pending}", answer.message);
                }
                cut.iter().for_each(|cut| answer.add(cut));
                answer
            };
            let is_done = outcome.result.is_ok();
            let services = is_new.then(|| feed.settled(&outcome.digest)).flatten();
            let with_services = |mut answer: Answer| {
                if let Some(services) = services {
                    answer.message = format!("{}; {services}", answer.message);
                }
                answer
            };
            let own = answers.into_iter().filter(|_| is_done).map(Some);
            let own = own.chain(iter::repeat(None));
            for (reply, own) in replies.into_iter().zip(own) {
                match own
                    .as_ref()
                    .map(|own| (own.result, own.message.replace('\n', "; ")))
                {
                    Some((Ending::Done, done)) => info!("override: {done}"),
                    Some((_, why)) => warn!("an override is refused: {why}"),
                    None => {}
                }
                // Who has asked may have gone away; the log has it as well.
                let _: Result<(), Answer> = reply.send(with_cut(
                    own.unwrap_or_else(|| with_services(answer.clone())),
                ));
            }
            match task {
                Task::BuildAhead(_) => {}
                Task::CatchUp | Task::Confirm | Task::Return(_) | Task::Detach => {
                    notify::status(&status);
                }
                _ => notify::ready(&status),
            }
        });
    }

    /// Answers a job that was not begun, and logs why.
    pub(super) fn refuse(&self, job: Job, failure: Failure) {
        warn!(cause:% = job.task.cause(); "refused: {failure}");
        let answer = Answer::new(&Err(failure), String::new);
        for reply in job.replies {
            // Who has asked may have gone away.
            let _: Result<(), Answer> = reply.send(answer.clone());
        }
    }

    /// Forgets the overrides that have ended: they stay ended, whatever the clock says later.
    fn forget_ended(&mut self) {
        let now = Timestamp::now();
        let overrides = self.policies.overrides();
        if overrides.active(now).count() == overrides.iter().count() {
            return;
        }
        let ended = overrides.iter().filter(|one| !one.is_active(now));
        let ended: Vec<_> = ended.collect();
        for ended in &ended {
            let until = ended.rule.until.unwrap_or(now);
            let late = now.duration_since(until).as_millis();
            info!(
                late;
                "override ended, {late} ms ago: {} {ended}", shown(ended.rule.source)
            );
        }
        self.note(Kind::OverrideEnded, Requester::Clock, &listed(&ended));
        let mut left = Overrides::clone(overrides);
        left.forget_ended(now);
        self.policies = Arc::new(self.policies.with_overrides(Arc::new(left)));
        self.keep_overrides();
    }

    /// Writes down the overrides in force, after what the builder is at.
    fn keep_overrides(&self) {
        let (instance, overrides) = (
            self.history.instance.clone(),
            Arc::clone(self.policies.overrides()),
        );
        self.builder.run(move || {
            if let Err(error) = save_overrides(&instance, &overrides) {
                warn!("the overrides in force are not those on the disk: {error:#}");
            }
        });
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
}

fn is_return(task: Task) -> bool {
    matches!(task, Task::Return(_))
}

/// Forgets a trial that is settled.
pub(super) fn settle_trial(instance: &Instance) {
    if let Err(error) = Trial::remove(instance) {
        warn!("the next start takes back a change once more, which was settled: {error:#}");
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
        let is_reload = matches!(self.task, Task::Reload(_) | Task::ReloadIfChanged);
        if is_reload || self.result.is_ok() {
            history.save();
        }
    }

    fn log(&self) {
        let (digest, change) = (self.digest.as_str(), self.change.as_str());
        let cause = self.task.cause();
        match (self.task, &self.result) {
            (Task::Reload(_) | Task::ReloadIfChanged, Ok(())) => match &self.trial {
                Some(trial) => {
                    warn!(cause:%, digest, change; "reloaded: plan {digest}; {change}; {trial}");
                }
                None => info!(cause:%, digest, change; "reloaded: plan {digest}; {change}"),
            },
            (Task::Confirm, Ok(())) => info!(digest; "confirmed: plan {digest} stays in force"),
            (Task::Confirm, Err(failure)) => error!("not confirmed: {failure}"),
            (Task::Detach, Ok(())) => {
                let until = self.trial.as_deref().unwrap_or_default();
                warn!("the filter is detached; {until}");
            }
            (Task::Detach, Err(failure)) => error!("not detached: {failure}"),
            (Task::Return(_), Ok(())) if self.is_nowhere => {
                error!(
                    "taken back: nothing was deployed before, so the filter is detached; `ipfilter \
                     reload` deploys what the files say"
                );
            }
            (Task::Return(Cause::Return), Ok(())) if self.ended == Some(Purpose::Change) => {
                error!(
                    digest, change;
                    "not confirmed, so the change is taken back: plan {digest} is in force again; {change}"
                );
            }
            (Task::Return(_), Ok(())) => {
                info!(digest, change; "plan {digest} is in force again; {change}");
            }
            (Task::Return(_), Err(failure)) => {
                error!("the plan before can't be put in force again, retrying: {failure}");
            }
            (Task::Reload(_) | Task::ReloadIfChanged, Err(failure)) => {
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
                    "plan {digest} is in force since its time, {late} ms ago; {change}"
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
    fn cause(self) -> Cause {
        match self {
            Self::Reload(cause) => cause,
            Self::ReloadIfChanged => Cause::Watch,
            Self::Rollback => Cause::Rollback,
            Self::Override => Cause::Override,
            Self::Detach => Cause::Detach,
            Self::Return(cause) => cause,
            Self::Confirm => Cause::Command,
            Self::CatchUp | Self::BuildAhead(_) => Cause::Clock,
        }
    }
}

/// Refuses names of which no interface is there, but for those that may be waited for.
pub(super) fn require(
    matched: &Matched,
    may_wait: impl Fn(&String) -> bool,
) -> Result<(), Failure> {
    let mut required = matched.clone();
    required.missing.retain(|name| !may_wait(name));
    required.complete()?;
    Ok(())
}

pub(super) fn report_missing(matched: &Matched) {
    for name in &matched.missing {
        warn!("`{name}` does not exist: it will be filtered when it appears");
    }
}
