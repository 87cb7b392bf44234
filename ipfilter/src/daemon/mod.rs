//! The long-running process: one loop over one event type.
//!
//! It decides when to deploy, and what is done when that fails; how is the data plane's business.

mod clock;
mod control;
mod denials;
mod deploy;
mod ephemeral;
mod events;
mod exporter;
mod in_force;
mod links;
mod notify;
mod prepare;
mod readable;
mod snapshot;
mod start;
mod state;
mod upkeep;
mod watch;

use anyhow::Context as _;
use log::{error, info};

pub(crate) use self::prepare::Policies;
use self::{
    clock::Clock, control::Control, denials::Denials, events::Event, exporter::Exporter,
    links::Links, watch::Watcher,
};
pub use self::{
    control::{Answer, Ending, Request, ask},
    events::Events,
    in_force::InForce,
    readable::Readable,
    snapshot::{Snapshot, Tally},
    start::rollback,
};
use crate::{
    config::ConfigSource,
    kernel::{Denial, Deployment, Filter, Trace},
    lock::Lock,
    state::{Cause, History},
};

/// How long the programs' log waits to be passed on, at log level `debug`.
const TRACE_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// An instance that this process deploys.
#[derive(Debug)]
pub struct Daemon {
    /// Held as long as this process runs the instance.
    lock: Lock,
    source: ConfigSource,
    history: History,
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
    /// Answers events until one says stop: SIGHUP, `ipfilter reload` and, if they are watched, files
    /// that change have it deploy anew, as does each boundary of time; interfaces that appear get the
    /// filter. SIGTERM and SIGINT end it. The filter stays where it is.
    ///
    /// # Errors
    ///
    /// When events can't be received.
    pub async fn serve(&mut self, mut events: Events) -> anyhow::Result<()> {
        let clock = Clock::new()?;
        self.arm_timer(&clock)?;
        let mut links = Links::new()?;
        let _control = Control::listen(&self.history.instance, events.sender.clone())?;
        let (paths, watched) = tokio::sync::watch::channel(self.files());
        let mut watcher = Watcher::new(watched, events.sender.clone());
        watcher.set(self.service().watch);
        let pins = self.history.instance.pins();
        tokio::spawn(watch::losses(pins, events.sender.clone()));
        let mut exporter = Exporter::new(events.sender.clone());
        exporter.serve_at(self.service().metrics).await;
        let mut trace = self.filter.trace()?;
        let mut denials = None;
        self.listen(&mut denials);
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
                denial = next(&mut denials) => denial.map(Event::Denial)?,
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
                Event::Denial(denial) => {
                    if let Some(denials) = &mut denials {
                        denials.log(&denial, &self.filter, self.history.record.current());
                    }
                    continue;
                }
                Event::Alive => {
                    notify::alive();
                    continue;
                }
                Event::Upkeep => {
                    self.rotate_keys();
                    self.repair();
                    self.follow();
                    exporter.serve_at(self.service().metrics).await;
                    continue;
                }
                Event::Look(reply) => {
                    // Who has asked may have gone away.
                    let _: Result<(), Snapshot> = reply.send(self.snapshot());
                    continue;
                }
                Event::Repair => {
                    self.repair();
                    continue;
                }
                Event::Links => self.follow(),
                Event::Clock => self.catch_up(),
                Event::Files => self.reload_if_changed(),
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
            self.arm_timer(&clock)?;
            exporter.serve_at(self.service().metrics).await;
            paths.send_if_modified(|paths| {
                let files = self.files();
                let changed = *paths != files;
                *paths = files;
                changed
            });
            watcher.set(self.service().watch);
            trace = self.filter.trace()?;
            self.listen(&mut denials);
        }
    }

    /// Follows what is denied, if it is to be logged.
    fn listen(&self, denials: &mut Option<Denials>) {
        if !self.policies.spec().log_denied {
            *denials = None;
        } else if !denials.as_ref().is_some_and(Denials::is_live) {
            *denials = match Denials::follow(&self.filter) {
                Ok(denials) => Some(denials),
                Err(error) => {
                    error!("what is denied can't be logged: {error:#}");
                    None
                }
            };
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
}

/// The next packet that is to be logged; never, if none is.
async fn next(denials: &mut Option<Denials>) -> anyhow::Result<Denial> {
    match denials {
        Some(denials) => denials.next().await,
        None => std::future::pending().await,
    }
}
