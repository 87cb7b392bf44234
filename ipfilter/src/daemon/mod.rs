//! The long-running process: one loop over one event type.
//!
//! What is done about an event is decided by a [state machine](machine); the loop performs it. Plans
//! are built by one thread and files are written by another, so that the loop is always free for
//! interfaces that appear and for boundaries of time.

mod addresses;
mod agents;
mod alone;
mod build;
mod clock;
mod control;
mod cut;
mod denials;
mod deploy;
mod events;
mod exporter;
mod feed;
mod fleet;
mod guard;
mod in_force;
mod links;
mod machine;
mod noted;
mod notify;
mod overrule;
mod perform;
mod readable;
mod settle;
mod start;
mod state;
mod unattended;
mod upkeep;
mod watch;
mod worker;

use std::{collections::VecDeque, sync::Arc, time::Instant};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use log::info;

pub use self::{
    alone::{change, deploy, rollback},
    control::{Answer, Ending, Request, Terms, ask, fleet, requests, services},
    events::Events,
    feed::Requests,
    in_force::InForce,
    readable::Readable,
    unattended::{confirm, detach_for, wait_and_return},
};
use self::{
    clock::Wall,
    events::Event,
    feed::Feed,
    fleet::Desk,
    machine::{Machine, Span},
    perform::Open,
    worker::Worker,
};
use crate::{
    config::ConfigSource,
    kernel::{Deployment, Filter},
    lock::Lock,
    plan::Plan,
    prepare::Policies,
    state::{Entry, History, Kind, Purpose, Requester, Trial, note},
    view::snapshot::Tally,
};

/// An instance that this process deploys.
#[derive(Debug)]
pub struct Daemon {
    source: ConfigSource,
    history: History,
    filter: Filter,
    /// What is in force, and when it is right.
    policies: Arc<Policies>,
    plan: Arc<Plan>,
    /// What authorization services are to decide by.
    feed: Feed,
    /// Where the fleet's agent hands in releases.
    desk: Desk,
    span: Span,
    deployment: Deployment,
    /// The name of the inputs that the files held when they were last read; none if they could not be.
    last_read: Option<String>,
    /// Names that interfaces had, and have, as far as that was reported.
    renamed: Vec<(String, String)>,
    /// Why interfaces that are there are not filtered.
    unattached: String,
    /// What could not be repaired, as it was last reported.
    unrepaired: String,
    wall: Wall,
    /// Why the plan for this time is not in force.
    overdue: Option<String>,
    /// What the plan in force is tried for, and until when.
    trial: Option<Trial>,
    /// When a return that failed is retried, in milliseconds since the boot.
    return_at: Option<i64>,
    /// What the plan before was tried for, until that is logged.
    ended: Option<Purpose>,
    /// The ends of overrides, until they are noted.
    ends: Vec<Entry>,
    tally: Tally,
    /// Builds plans.
    builder: Worker,
    /// Writes the record, and answers once it is written.
    keeper: Worker,
    /// Held as long as this process runs the instance: longer than its threads.
    lock: Lock,
}

impl Daemon {
    /// Answers events until one says stop: SIGHUP, `ipfilter reload` and, if they are watched, files
    /// that change have it deploy anew, as does each boundary of time; interfaces that appear get the
    /// filter. SIGTERM and SIGINT end it. The filter stays where it is. No error ends it.
    ///
    /// # Errors
    ///
    /// When events can't be received.
    pub async fn serve(&mut self, mut events: Events) -> anyhow::Result<()> {
        let mut machine = Machine::new(self.span, self.trial.as_ref().map(|trial| trial.purpose));
        let mut open = Open::new(self, events.sender.clone());
        // Interfaces may have appeared, and a boundary may have passed, since they were looked at.
        let mut event = Event::Links;
        self.perform(&mut machine, &mut open, Event::Clock).await;
        let mut is_ready = false;
        loop {
            if self.perform(&mut machine, &mut open, event).await.is_end() {
                return Ok(());
            }
            if !is_ready {
                is_ready = true;
                let status = self.status();
                self.keeper.run(move || {
                    info!("ready");
                    notify::ready(&status);
                });
            }
            let next = open.next(self, &mut events.receiver).await;
            event = next.context("no more events")?;
        }
    }

    /// When a trial is over, in milliseconds since the boot.
    fn deadline(&self) -> Option<i64> {
        let trial = self.trial.as_ref()?;
        Some(self.return_at.unwrap_or(trial.end()))
    }

    /// Performs what `event` asks for, and what follows from that.
    async fn perform(
        &mut self,
        machine: &mut Machine<build::Product>,
        open: &mut Open,
        event: Event,
    ) -> perform::Flow {
        let begun = Instant::now();
        let mut is_swap = false;
        let mut effects = VecDeque::from(machine.handle(event, Timestamp::now()));
        while let Some(effect) = effects.pop_front() {
            is_swap |= effect.is_swap();
            match self.perform_one(open, effect).await {
                perform::Outcome::Nothing => {}
                perform::Outcome::Event(event) => {
                    effects.extend(machine.handle(*event, Timestamp::now()));
                }
                perform::Outcome::End => return perform::Flow::End,
            }
        }
        if is_swap {
            let took = begun.elapsed().try_into();
            machine.occupied(took.unwrap_or(SignedDuration::MAX));
        }
        perform::Flow::Continue
    }

    /// Detaches the filter.
    ///
    /// # Errors
    ///
    /// When that fails.
    pub fn detach(self) -> anyhow::Result<()> {
        let Self {
            deployment,
            builder,
            keeper,
            filter,
            history,
            ..
        } = self;
        // They may be about to pin something, or to write.
        drop((builder, keeper));
        drop(deployment);
        let interfaces = filter.detach()?;
        let names: Vec<_> = interfaces.iter().map(|one| one.name.as_str()).collect();
        let entry = Entry::now(Kind::Detach, Requester::Signal, None, &names.join(", "));
        note(&history.instance, &[entry]);
        Ok(())
    }
}
