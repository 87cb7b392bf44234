//! What happens to this process, as one stream.

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};

use super::{build::Product, control::Asked, machine, notify};

/// How often the keys of `respond` are renewed, which is more often than time slots change, and what
/// others may have undone is looked for.
const UPKEEP: Duration = Duration::from_secs(30);

pub(super) type Event = machine::Event<Product>;
pub(super) type Effect = machine::Effect<Product>;

/// What happens to this process, from [`Events::listen`] on: a signal that comes before would end it.
#[derive(Debug)]
pub struct Events {
    pub(super) sender: mpsc::Sender<Event>,
    pub(super) receiver: mpsc::Receiver<Event>,
}

impl From<Asked> for Event {
    fn from(Asked(request, by, reply): Asked) -> Self {
        Self::Asked(request, by, reply)
    }
}

impl Events {
    /// Begins to listen to signals and timers. Needs a runtime to be entered.
    ///
    /// # Errors
    ///
    /// When signals can't be received.
    pub fn listen() -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(16);
        on_signal(SignalKind::hangup(), &sender, || Event::Reload)?;
        on_signal(SignalKind::terminate(), &sender, || Event::Stop)?;
        on_signal(SignalKind::interrupt(), &sender, || Event::Stop)?;
        every(UPKEEP, &sender, || Event::Upkeep);
        if let Some(period) = notify::watchdog() {
            every(period, &sender, || Event::Alive);
        }
        Ok(Self { sender, receiver })
    }
}

fn on_signal(
    kind: SignalKind,
    sender: &mpsc::Sender<Event>,
    event: fn() -> Event,
) -> anyhow::Result<()> {
    let mut signals = signal(kind).context("can't receive signals")?;
    let sender = sender.clone();
    tokio::spawn(async move {
        while signals.recv().await.is_some() && sender.send(event()).await.is_ok() {}
    });
    Ok(())
}

fn every(period: Duration, sender: &mpsc::Sender<Event>, event: fn() -> Event) {
    let sender = sender.clone();
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::spawn(async move {
        while sender.send(event()).await.is_ok() {
            ticks.tick().await;
        }
    });
}
