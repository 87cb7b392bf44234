//! The long-running process: one loop over one event type.
//!
//! It decides when to deploy, and what is done when that fails; how is the data plane's business.

mod ephemeral;
mod prepare;
mod record;

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use log::{error, info, warn};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

pub use prepare::{ApiSpec, Failure, Prepared, Spec, prepare};
pub use record::{ApiRecord, Outcome, Record, Reload};

use crate::{
    dataplane::{Attached, Filter, Interface},
    instance::Instance,
};

/// How often the keys of `respond` are renewed: more often than time slots change.
const KEY_LIFE: Duration = Duration::from_secs(30);

/// What the loop waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// Deploy anew from the files.
    Reload,
    /// Renew the keys of `respond`.
    RotateKeys,
    /// End.
    Stop,
}

/// An instance that this process deploys.
#[derive(Debug)]
pub struct Daemon {
    instance: Instance,
    filter: Filter,
    spec: Spec,
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
        let record = deploy(&filter, &spec)?;
        let daemon = Self {
            instance,
            filter,
            spec,
            record,
        };
        daemon.save();
        Ok(daemon)
    }

    /// Answers signals until one says stop: SIGHUP deploys anew, SIGTERM and SIGINT end the loop.
    /// The filter stays where it is.
    ///
    /// # Errors
    ///
    /// When signals can't be received.
    pub async fn serve(&mut self) -> anyhow::Result<()> {
        let (sender, mut events) = mpsc::channel(16);
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
        let timer = sender;
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(KEY_LIFE);
            while timer.send(Event::RotateKeys).await.is_ok() {
                ticks.tick().await;
            }
        });
        info!("ready");
        while let Some(event) = events.recv().await {
            match event {
                Event::Reload => self.reload(),
                Event::RotateKeys => self.rotate_keys(),
                Event::Stop => break,
            }
        }
        Ok(())
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

    /// Deploys anew. On failure the old plan stays, and the record says why.
    fn reload(&mut self) {
        match deploy(&self.filter, &self.spec) {
            Ok(record) => {
                self.record = Record {
                    last_reload: Some(Reload::now(Outcome::Deployed, None)),
                    ..record
                };
                info!("reloaded: plan {}", self.record.digest);
            }
            Err(failure) => {
                error!("reload failed, the old plan stays: {failure}");
                let reload = Reload::now(Outcome::Failed, Some(failure.to_string()));
                self.record.last_reload = Some(reload);
            }
        }
        self.save();
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

/// From the files on disk to the interfaces.
fn deploy(filter: &Filter, spec: &Spec) -> Result<Record, Failure> {
    let spec = &spec.refreshed()?;
    let prepared = prepare(spec, Timestamp::now())?;
    for warning in &prepared.warnings {
        warn!("{warning}");
    }
    let interfaces = Interface::matching(&spec.interfaces)?;
    let attached = filter.deploy(&prepared.plan, &interfaces, spec.mode)?;
    for at in &attached {
        announce(at);
    }
    Ok(Record::of(spec, &prepared.plan))
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
