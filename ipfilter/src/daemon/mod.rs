//! The long-running process: one loop over one event type.
//!
//! It decides when to deploy, and what is done when that fails; how is the data plane's business.

mod book;
mod clock;
mod control;
mod ephemeral;
mod events;
mod exporter;
mod failure;
mod in_force;
mod inputs;
mod links;
mod notify;
mod prepare;
mod readable;
mod record;
mod snapshot;
mod spec;
mod start;
mod store;
mod watch;

use std::path::PathBuf;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use log::{error, info, warn};

use self::{
    book::Book, clock::Clock, control::Control, events::Event, exporter::Exporter, inputs::Inputs,
    links::Links, prepare::Policies, snapshot::names,
};
pub use self::{
    control::{Answer, Ending, Request, ask},
    events::Events,
    failure::Failure,
    in_force::InForce,
    record::{ApiRecord, Cause, Deployed, Outcome, Record, Reload},
    snapshot::{Snapshot, Tally},
    spec::{ApiSpec, Asked, Spec},
    start::{OnError, rollback},
};
use crate::{
    dataplane::{Attached, Deployment, Filter, Interface, Matched, Trace},
    endpoint::Endpoint,
    plan::Plan,
};

/// How soon a deployment that failed at a boundary of time is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// How long the programs' log waits to be passed on, at log level `debug`.
const TRACE_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// An instance that this process deploys.
#[derive(Debug)]
pub struct Daemon {
    asked: Asked,
    book: Book,
    filter: Filter,
    /// What is in force.
    policies: Policies,
    deployment: Deployment,
    /// The inputs that the files held when they were last read; none if they could not be.
    seen: Option<String>,
    /// What could not be mended, as it was last told.
    unmended: String,
    /// Why the plan for this time is not in force.
    overdue: Option<String>,
    tally: Tally,
}

impl Daemon {
    /// Answers events until one says stop: SIGHUP, `ipfilter reload` and, with `watch`, files that
    /// change have it deploy anew, as does each boundary of time; interfaces that appear get the
    /// filter. SIGTERM and SIGINT end it. The filter stays where it is.
    ///
    /// # Errors
    ///
    /// When events can't be received.
    pub async fn serve(&mut self, mut events: Events, watch: bool) -> anyhow::Result<()> {
        let clock = Clock::new()?;
        self.wind(&clock)?;
        let mut links = Links::new()?;
        let _control = Control::listen(&self.book.instance, events.sender.clone())?;
        let (paths, watched) = tokio::sync::watch::channel(self.files());
        if watch {
            tokio::spawn(watch::files(watched, events.sender.clone()));
        }
        let pins = self.book.instance.pins();
        tokio::spawn(watch::losses(pins, events.sender.clone()));
        let mut exporter = Exporter::new(events.sender.clone());
        exporter.serve_at(self.metrics()).await;
        let mut trace = self.filter.trace()?;
        let mut trace_ticks = tokio::time::interval(TRACE_PAUSE);
        // Interfaces may have come since they were listed.
        self.follow();
        notify::ready(&self.status());
        info!("ready");
        loop {
            let event = tokio::select! {
                event = events.receiver.recv() => event.context("no more events")?,
                tick = clock.tick() => tick.map(|()| Event::Clock)?,
                changed = links.changed() => changed.map(|()| Event::Links)?,
                _ = trace_ticks.tick(), if trace.is_some() => Event::Trace,
            };
            match event {
                Event::Stop => {
                    notify::stopping();
                    return Ok(());
                }
                Event::Trace => {
                    trace.iter_mut().for_each(Trace::flush);
                    continue;
                }
                Event::Alive => {
                    notify::alive();
                    continue;
                }
                Event::Upkeep => {
                    self.rotate_keys();
                    self.mend();
                    self.follow();
                    exporter.serve_at(self.metrics()).await;
                    continue;
                }
                Event::Look(reply) => {
                    // Who has asked may have gone away.
                    let _: Result<(), Snapshot> = reply.send(self.snapshot());
                    continue;
                }
                Event::Mend => {
                    self.mend();
                    continue;
                }
                Event::Links => self.follow(),
                Event::Clock => self.catch_up(),
                Event::Files => self.look(),
                Event::Reload => drop(self.reload(Cause::Signal)),
                Event::Asked(request, reply) => {
                    let result = match request {
                        Request::Reload => self.reload(Cause::Command),
                        Request::Rollback => self.roll_back(),
                    };
                    // Who has asked may have gone away; the log has it as well.
                    let _: Result<(), Answer> = reply.send(Answer::new(&result));
                }
            }
            self.wind(&clock)?;
            exporter.serve_at(self.metrics()).await;
            paths.send_if_modified(|paths| {
                let files = self.files();
                let changed = *paths != files;
                *paths = files;
                changed
            });
            trace = self.filter.trace()?;
        }
    }

    /// Takes the filter off.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn detach(self) -> anyhow::Result<()> {
        drop(self.deployment);
        self.filter.detach()?;
        Ok(())
    }

    /// Sets the clock to when the plan will be another, or to soon if it should be one already. Past
    /// the last boundary too it must go off when it is set back.
    fn wind(&self, clock: &Clock) -> anyhow::Result<()> {
        if !self.policies.depend_on_time() {
            return Ok(());
        }
        let now = Timestamp::now();
        let is_due = self
            .policies
            .plan(now)
            .is_ok_and(|plan| !self.is_in_force(&plan));
        clock.set(if is_due {
            now + RETRY
        } else {
            self.policies.next_boundary(now).unwrap_or(Timestamp::MAX)
        })
    }

    fn is_in_force(&self, plan: &Plan) -> bool {
        let current = self.book.record.current();
        current.is_some_and(|deployed| deployed.is_of(plan))
    }

    /// The files that say what to deploy.
    fn files(&self) -> Vec<PathBuf> {
        let spec = self.policies.spec();
        let policies = spec.apis.iter().map(|api| api.policy.clone());
        let config = match &self.asked {
            Asked::File { path, .. } => Some(path.clone()),
            Asked::Line(_) => None,
        };
        config.into_iter().chain(policies).collect()
    }

    /// Deploys anew, if the files say something else than when they were last read.
    fn look(&mut self) {
        let inputs = self.asked.spec().and_then(Inputs::read);
        let unchanged = match &inputs {
            Ok(inputs) => inputs
                .name()
                .is_ok_and(|name| self.seen.as_ref() == Some(&name)),
            Err(failure) => {
                let last = self.book.record.last_reload.as_ref();
                last.is_some_and(|last| last.message.as_ref() == Some(&failure.plain()))
            }
        };
        if !unchanged {
            drop(self.reload_from(inputs, Cause::Watch));
        }
    }

    /// Deploys anew. On failure the old plan stays, and the record says why.
    fn reload(&mut self, cause: Cause) -> Result<String, Failure> {
        let inputs = self.asked.spec().and_then(Inputs::read);
        self.reload_from(inputs, cause)
    }

    fn reload_from(
        &mut self,
        inputs: Result<Inputs, Failure>,
        cause: Cause,
    ) -> Result<String, Failure> {
        notify::reloading();
        let seen = inputs.as_ref().ok().and_then(|inputs| inputs.name().ok());
        self.seen = seen;
        let result = inputs.and_then(|inputs| self.replace(&inputs, cause));
        self.book.reloaded(cause, result.as_ref().copied());
        self.book.save();
        self.tally.reloaded(result.is_ok());
        match &result {
            Ok(()) => info!(cause:%, digest = self.digest(); "reloaded: plan {}", self.digest()),
            Err(failure) => error!(cause:%; "reload failed, the old plan stays: {failure}"),
        }
        notify::ready(&self.status());
        result.map(|()| format!("plan {} is in force", self.digest()))
    }

    /// Goes back to the deployment before.
    fn roll_back(&mut self) -> Result<String, Failure> {
        notify::reloading();
        let inputs = self.book.before();
        let result = inputs.and_then(|inputs| self.replace(&inputs, Cause::Rollback));
        self.book.save();
        match &result {
            Ok(()) => info!(digest = self.digest(); "rolled back: plan {}", self.digest()),
            Err(failure) => error!("rollback failed, the plan stays: {failure}"),
        }
        notify::ready(&self.status());
        result.map(|()| format!("plan {} is in force again", self.digest()))
    }

    /// Puts what `inputs` say in the place of what is in force.
    fn replace(&mut self, inputs: &Inputs, cause: Cause) -> Result<(), Failure> {
        let policies = Policies::of(inputs)?;
        tell(&policies);
        let plan = policies.plan(Timestamp::now())?;
        let known = &self.policies.spec().interfaces;
        // An interface that was there, or was waited for, may be away. A name that is new must be
        // right: were it waited for, a slip of the pen would take the filter off the old one.
        let matched = matching(inputs, |name| {
            cause == Cause::Rollback || known.contains(name)
        })?;
        self.deployment = deploy(&self.filter, inputs, &plan, &matched)?;
        self.policies = policies;
        self.overdue = None;
        self.tally.deployed(cause);
        self.book.deployed(inputs, &plan, cause);
        self.book.record.waiting = matched.missing;
        Ok(())
    }

    /// Deploys what the policies come to now, if that is something else.
    fn catch_up(&mut self) {
        let result = self.try_to_catch_up();
        self.overdue = result.as_ref().err().map(ToString::to_string);
        match result {
            Ok(Some(plan)) => {
                self.tally.deployed(Cause::Clock);
                self.book.ticked(self.policies.spec(), &plan);
                self.book.save();
                info!(digest = self.digest(); "the time has come for plan {}", self.digest());
                notify::status(&self.status());
            }
            Ok(None) => {}
            Err(failure) => error!("the plan for this time can't be deployed yet: {failure}"),
        }
    }

    fn try_to_catch_up(&mut self) -> Result<Option<Plan>, Failure> {
        let plan = self.policies.plan(Timestamp::now())?;
        if self.is_in_force(&plan) {
            return Ok(None);
        }
        let spec = self.policies.spec();
        let matched = Interface::matching(&spec.interfaces)?;
        self.deployment = self.filter.deploy(&plan, &matched.interfaces, spec.mode)?;
        self.book.record.waiting = matched.missing;
        Ok(Some(plan))
    }

    /// Puts the filter on interfaces that have come, and forgets those that have gone.
    fn follow(&mut self) {
        let matched = match Interface::matching(&self.policies.spec().interfaces) {
            Ok(matched) => matched,
            Err(error) => return error!("can't follow the interfaces: {error}"),
        };
        let followed = self.deployment.follow(&matched.interfaces);
        followed.attached.iter().for_each(announce);
        for interface in &followed.left {
            info!(interface = interface.name; "`{}` is gone", interface.name);
        }
        for error in &followed.failed {
            error!("{error}");
        }
        let changed = !followed.attached.is_empty() || !followed.left.is_empty();
        if changed || self.book.record.waiting != matched.missing {
            self.book.record.waiting = matched.missing;
            self.book.save();
            notify::status(&self.status());
        }
    }

    /// Puts right what others have undone.
    fn mend(&mut self) {
        let mended = self.deployment.mend();
        for what in &mended.done {
            warn!("{what}");
        }
        let failed: Vec<_> = mended.failed.iter().map(ToString::to_string).collect();
        let failed = failed.join("; ");
        if self.unmended != failed {
            if !failed.is_empty() {
                error!("the filter stands as long as this process, and no longer: {failed}");
            }
            self.unmended = failed;
        }
    }

    fn rotate_keys(&self) {
        if let Err(error) = self.filter.rotate_keys() {
            warn!("{error}");
        }
    }

    fn digest(&self) -> &str {
        let current = self.book.record.current();
        current.map_or("none", |deployed| &deployed.digest)
    }

    /// Where metrics are to be served.
    fn metrics(&self) -> Option<Endpoint> {
        self.asked.metrics(self.policies.spec())
    }

    /// What we are at, in full.
    fn snapshot(&self) -> Snapshot {
        let record = &self.book.record;
        let current = record.current();
        let apis = current.map_or_else(Vec::new, |deployed| names(&deployed.apis));
        let counts = self.filter.counters(apis.len());
        let unmended = Some(&self.unmended).filter(|failed| !failed.is_empty());
        Snapshot {
            counts: counts.map_err(|error| error.to_string()),
            apis,
            tables: self.deployment.tables(),
            filtered: self.deployment.attached().len(),
            waiting: record.waiting.clone(),
            deployed: current.map(|deployed| (deployed.digest.clone(), deployed.since)),
            degraded: record.degraded.clone(),
            overdue: self.overdue.clone(),
            unmended: unmended.cloned(),
            tally: self.tally.clone(),
            next_boundary: self.policies.next_boundary(Timestamp::now()),
        }
    }

    /// What we are at, in a line.
    fn status(&self) -> String {
        let record = &self.book.record;
        let attached = self.deployment.attached().iter();
        let attached: Vec<_> = attached
            .map(|attached| format!("{} ({})", attached.interface.name, attached.hook.name()))
            .collect();
        let mut status = if attached.is_empty() {
            "filtering nothing yet".to_owned()
        } else {
            format!("filtering {}", attached.join(", "))
        };
        let digest = self.digest();
        status += &format!("; plan {}", digest.get(..12).unwrap_or(digest));
        if !record.waiting.is_empty() {
            status += &format!("; waiting for {}", record.waiting.join(", "));
        }
        if record.degraded.is_some() {
            status = format!("degraded: not what was asked for, see the log; {status}");
        }
        status
    }
}

/// The interfaces that `inputs` name; one that is not there is an error unless it may be waited for.
fn matching(inputs: &Inputs, may_wait: impl Fn(&String) -> bool) -> Result<Matched, Failure> {
    let matched = Interface::matching(&inputs.spec.interfaces)?;
    let mut required = matched.clone();
    required.missing.retain(|name| !may_wait(name));
    required.complete()?;
    Ok(matched)
}

fn deploy(
    filter: &Filter,
    inputs: &Inputs,
    plan: &Plan,
    matched: &Matched,
) -> Result<Deployment, Failure> {
    let deployment = filter.deploy(plan, &matched.interfaces, inputs.spec.mode)?;
    deployment.attached().iter().for_each(announce);
    for name in &matched.missing {
        warn!("`{name}` is not there: it is filtered as soon as it comes");
    }
    Ok(deployment)
}

fn tell(policies: &Policies) {
    for warning in &policies.warnings {
        warn!("{warning}");
    }
}

fn announce(attached: &Attached) {
    let name = &attached.interface.name;
    for reason in &attached.passed_over {
        warn!(interface = name; "`{name}` can't use {reason}");
    }
    let hook = attached.hook.name();
    info!(interface = name, hook; "filtering `{name}` ({hook})");
}
