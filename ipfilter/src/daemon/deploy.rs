//! Putting a plan in force.

use std::{collections::HashSet, mem, path::PathBuf, sync::Arc, time::Instant};

use jiff::Timestamp;
use log::{info, warn};

use super::{
    Daemon, Terms,
    addresses::warn_of_open,
    build::{Order, Product, describe_change},
    machine::{Job, Span, Task},
    noted::listed,
    settle::settle_trial,
    upkeep::announce,
};
use crate::{
    failure::Failure,
    kernel::{Attachment, Deployment, Interface, Matched},
    overrides::{Change, Override, Overrides, shown},
    state::{Entry, Inputs, Kind, Purpose, Requester, save_overrides},
};

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
            asked: Instant::now(),
            changes,
            terms,
            near,
            source: self.source.clone(),
            instance: self.history.instance.clone(),
            filter: self.filter.clone(),
            feed: self.feed.clone(),
            desk: self.desk.clone(),
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
        let apis = spec.apis.iter().filter(|_| spec.release.is_none());
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
        let product = match job.task {
            Task::CatchUp => product.by_the_clock(),
            _ => product,
        };
        let is_tried = product.trial.is_some();
        let result = self.try_swap(job, product, span);
        if result.is_err() && is_tried {
            // Nothing is to be rolled back.
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
        if task.is_reload() {
            // An interface that was there, or was waited for, may be away. A name that is new must be
            // right: waiting for it would let a typing error detach the filter from the old one.
            let known = self.policies.spec();
            require(&matched, |name| known.names(name))?;
        }
        let mut moved = Vec::new();
        if let Some(prepared) = product.prepared {
            let deployment = prepared.deploy(&matched)?;
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
        if let (Task::Return(_), Some(trial)) = (task, self.trial.take_if(|_| task.is_return())) {
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
        self.forget_ended(before.overrides());
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

    /// Forgets the overrides that have ended: they stay ended, whatever the clock says later. Those that have ended
    /// since the plan `before` was put in force are noted, also if a change of overrides has left them out.
    fn forget_ended(&mut self, before: &Overrides) {
        let now = Timestamp::now();
        let overrides = Arc::clone(self.policies.overrides());
        let is_over = |one: &&Override| !one.is_active(now);
        let mut ended: Vec<_> = before.iter().filter(is_over).collect();
        if !ended.is_empty() {
            let listed: HashSet<_> = overrides.iter().map(|one| one.id).collect();
            ended.retain(|one| !listed.contains(&one.id));
        }
        let left_out = ended.len();
        ended.extend(overrides.iter().filter(is_over));
        if ended.is_empty() {
            return;
        }
        for ended in &ended {
            let until = ended.rule.until.unwrap_or(now);
            let late = now.duration_since(until).as_millis();
            info!(
                late;
                "override ended, {late} ms ago: {} {ended}", shown(ended.rule.source)
            );
        }
        self.ends.push(Entry::now(
            Kind::OverrideEnded,
            Requester::Clock,
            self.known_digest(),
            &listed(&ended),
        ));
        if ended.len() > left_out {
            let mut left = Overrides::clone(&overrides);
            left.forget_ended(now);
            self.policies = Arc::new(self.policies.with_overrides(Arc::new(left)));
            self.keep_overrides();
        }
    }

    /// Writes down the overrides in force, after what the builder is at.
    pub(super) fn keep_overrides(&self) {
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
