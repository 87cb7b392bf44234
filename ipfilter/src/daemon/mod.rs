//! The long-running process: one loop over one event type.
//!
//! It decides when to deploy, and what is done when that fails; how is the data plane's business.

mod clock;
mod ephemeral;
mod prepare;
mod record;

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use log::{error, info, warn};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use clock::Clock;
pub use prepare::{ApiSpec, Failure, Policies, Spec};
pub use record::{ApiRecord, Outcome, Record, Reload};

use crate::{
    dataplane::{Attached, Filter, Interface, Trace},
    instance::Instance,
    plan::Plan,
    progress::Progress,
};

/// How often the keys of `respond` are renewed: more often than time slots change.
const KEY_LIFE: Duration = Duration::from_secs(30);

/// How soon a deployment that failed at a boundary of time is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// How long the programs' log waits to be passed on, at log level `debug`.
const TRACE_PAUSE: Duration = Duration::from_millis(200);

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Deploy anew from the files.
    Reload,
    /// A boundary of time was reached, or the clock was set.
    Clock,
    /// Renew the keys of `respond`.
    RotateKeys,
    /// Pass on what the programs have logged.
    Trace,
    /// End.
    Stop,
}

/// An instance that this process deploys.
#[derive(Debug)]
pub struct Daemon {
    instance: Instance,
    filter: Filter,
    spec: Spec,
    policies: Policies,
    record: Record,
}

impl Daemon {
    /// Deploys for the first time.
    ///
    /// # Errors
    ///
    /// When nothing could be deployed; then nothing has changed.
    pub fn start(instance: Instance, spec: Spec) -> Result<Self, Failure> {
        let filter = Filter::of(&instance);
        let policies = read(&spec)?;
        let plan = policies.plan(Timestamp::now())?;
        deploy(&filter, &spec, &plan)?;
        let daemon = Self {
            record: Record::of(&spec, &plan),
            instance,
            filter,
            spec,
            policies,
        };
        daemon.save();
        Ok(daemon)
    }

    /// Answers events until one says stop: SIGHUP deploys anew from the files, each boundary of time
    /// deploys what the policies then come to, SIGTERM and SIGINT end it. The filter stays where it
    /// is.
    ///
    /// # Errors
    ///
    /// When events can't be received.
    pub async fn serve(&mut self, mut events: Events) -> anyhow::Result<()> {
        let clock = Clock::new()?;
        self.wind(&clock)?;
        let mut trace = self.filter.trace()?;
        let mut trace_ticks = tokio::time::interval(TRACE_PAUSE);
        info!("ready");
        loop {
            let event = tokio::select! {
                event = events.receiver.recv() => event.context("no more events")?,
                tick = clock.tick() => tick.map(|()| Event::Clock)?,
                _ = trace_ticks.tick(), if trace.is_some() => Event::Trace,
            };
            match event {
                Event::Reload => self.reload(),
                Event::Clock => self.catch_up(),
                Event::RotateKeys => self.rotate_keys(),
                Event::Trace => trace.iter_mut().for_each(Trace::flush),
                Event::Stop => return Ok(()),
            }
            if matches!(event, Event::Reload | Event::Clock) {
                self.wind(&clock)?;
                trace = self.filter.trace()?;
            }
        }
    }

    /// Takes the filter off.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn detach(self) -> anyhow::Result<()> {
        self.filter.detach()?;
        Record::remove(&self.instance)
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
            .is_ok_and(|plan| !self.record.is_of(&plan));
        clock.set(if is_due {
            now + RETRY
        } else {
            self.policies.next_boundary(now).unwrap_or(Timestamp::MAX)
        })
    }

    /// Deploys anew. On failure the old plan stays, and the record says why.
    fn reload(&mut self) {
        let result = self.spec.refreshed().and_then(|spec| {
            let policies = read(&spec)?;
            let plan = policies.plan(Timestamp::now())?;
            deploy(&self.filter, &spec, &plan)?;
            Ok((spec, policies, plan))
        });
        let outcome = match result {
            Ok((spec, policies, plan)) => {
                self.record = Record::of(&spec, &plan);
                self.spec = spec;
                self.policies = policies;
                info!("reloaded: plan {}", self.record.digest);
                Reload::now(Outcome::Deployed, None)
            }
            Err(failure) => {
                error!("reload failed, the old plan stays: {failure}");
                Reload::now(Outcome::Failed, Some(failure.to_string()))
            }
        };
        self.record.last_reload = Some(outcome);
        self.save();
    }

    /// Deploys what the policies come to now, if that is something else.
    fn catch_up(&mut self) {
        let result = self.policies.plan(Timestamp::now()).and_then(|plan| {
            let changed = !self.record.is_of(&plan);
            if changed {
                deploy(&self.filter, &self.spec, &plan)?;
            }
            Ok(changed.then_some(plan))
        });
        match result {
            Ok(Some(plan)) => {
                let last_reload = self.record.last_reload.take();
                self.record = Record::of(&self.spec, &plan);
                self.record.last_reload = last_reload;
                info!("the time has come for plan {}", self.record.digest);
                self.save();
            }
            Ok(None) => {}
            Err(failure) => error!("the plan for this time can't be deployed yet: {failure}"),
        }
    }

    fn rotate_keys(&self) {
        if let Err(error) = self.filter.rotate_keys() {
            warn!("{error}");
        }
    }

    /// The record is for `status` only: the filter works without, so failing to write it is no
    /// reason to stop.
    fn save(&self) {
        if let Err(error) = self.record.save(&self.instance) {
            warn!("`status` will be out of date: {error:#}");
        }
    }
}

/// What happens to this process, from [`Events::listen`] on: a signal that comes before would end it.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// Begins to listen to signals and timers. Needs a runtime to be entered.
    ///
    /// # Errors
    ///
    /// When signals can't be received.
    pub fn listen() -> anyhow::Result<Self> {
        listen().map(|receiver| Self { receiver })
    }
}

fn listen() -> anyhow::Result<mpsc::Receiver<Event>> {
    let (sender, events) = mpsc::channel(16);
    for (kind, event) in [
        (SignalKind::hangup(), Event::Reload),
        (SignalKind::terminate(), Event::Stop),
        (SignalKind::interrupt(), Event::Stop),
    ] {
        let mut signals = signal(kind).context("can't receive signals")?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && sender.send(event).await.is_ok() {}
        });
    }
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(KEY_LIFE);
        while sender.send(Event::RotateKeys).await.is_ok() {
            ticks.tick().await;
        }
    });
    Ok(events)
}

fn read(spec: &Spec) -> Result<Policies, Failure> {
    let progress = Progress::of("reading policies");
    let policies = Policies::read(spec);
    drop(progress);
    let policies = policies?;
    for warning in &policies.warnings {
        warn!("{warning}");
    }
    Ok(policies)
}

fn deploy(filter: &Filter, spec: &Spec, plan: &Plan) -> Result<(), Failure> {
    let interfaces = Interface::matching(&spec.interfaces)?;
    let progress = Progress::of("loading tables");
    let deployed = filter.deploy(plan, &interfaces, spec.mode);
    drop(progress);
    for attached in deployed? {
        announce(&attached);
    }
    Ok(())
}

fn announce(attached: &Attached) {
    for reason in &attached.passed_over {
        warn!("`{}` can't use {reason}", attached.interface.name);
    }
    info!(
        "filtering `{}` ({})",
        attached.interface.name,
        attached.hook.name()
    );
}
