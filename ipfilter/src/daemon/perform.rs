//! Performing effects, and what is kept open for that. What can't be opened is reported once, and
//! tried again: no error here ends the loop.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use jiff::Timestamp;
use log::{LevelFilter, error, warn};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    Daemon, Terms, agents,
    clock::{Clock, Deadline},
    control::Control,
    denials::{Denials, Wanted},
    events::{Effect, Event},
    exporter::Exporter,
    feed::Listening,
    links::Links,
    machine::Task,
    notify,
    watch::{Watcher, losses},
};
use crate::{
    kernel::{Denial, Trace},
    overrides::Change,
    state::{Kind, Requester},
    view::snapshot::Snapshot,
};

/// How long the programs' log waits to be passed on, at log level `debug`.
const TRACE_PAUSE: Duration = Duration::from_millis(200);

const UNWATCHED: &str = "interfaces can't be watched";

const SECOND: Duration = Duration::from_secs(1);

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    End,
}

impl Flow {
    pub(super) fn is_end(self) -> bool {
        self == Self::End
    }
}

/// What performing an effect came to.
pub(super) enum Outcome {
    Nothing,
    Event(Box<Event>),
    End,
}

/// What the loop keeps open. What is not there could not be opened, and is opened again later.
pub(super) struct Open {
    sender: mpsc::Sender<Event>,
    links: Option<Links>,
    clock: Option<Clock>,
    /// When the clock is to go off.
    alarm: Option<Timestamp>,
    /// The end of a trial, and when it was to be.
    deadline: Option<Deadline>,
    is_unclocked: bool,
    control: Option<Control>,
    /// Where authorization services read; nothing where none is configured.
    feed: Option<Listening>,
    /// Where the fleet's agent asks; nothing where no fleet is configured.
    agents: Option<agents::Listening>,
    exporter: Exporter,
    denials: Option<Denials>,
    trace: Option<Trace>,
    /// The files that are watched.
    paths: watch::Sender<Vec<PathBuf>>,
    watcher: Watcher,
    seconds: Interval,
    trace_ticks: Interval,
    /// The failures that were reported, by what failed.
    failures: HashMap<&'static str, String>,
}

impl Open {
    /// Opens what it can. Needs a runtime to be entered.
    pub(super) fn new(daemon: &Daemon, sender: mpsc::Sender<Event>) -> Self {
        let (paths, watched) = watch::channel(daemon.files());
        let mut watcher = Watcher::new(watched, sender.clone());
        watcher.set(daemon.service().watch);
        let pins = daemon.filter.directory();
        tokio::spawn(losses(pins, sender.clone()));
        let ticks = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut open = Self {
            exporter: Exporter::new(sender.clone()),
            sender,
            links: None,
            clock: None,
            alarm: None,
            deadline: None,
            is_unclocked: false,
            control: None,
            feed: None,
            agents: None,
            denials: None,
            trace: None,
            paths,
            watcher,
            seconds: ticks(SECOND),
            trace_ticks: ticks(TRACE_PAUSE),
            failures: HashMap::new(),
        };
        daemon.feed.serve(&daemon.policies, daemon.digest());
        daemon.know_fleet();
        open.reopen(daemon);
        open
    }

    /// Opens again what is not open. Tells whether something still is not.
    fn reopen(&mut self, daemon: &Daemon) -> bool {
        if self.links.is_none() {
            let links = Links::new();
            self.links = self.checked(UNWATCHED, links);
        }
        if self.clock.is_none() {
            let clock = Clock::new();
            self.clock = self.checked("there is no timer", clock);
            self.arm(self.alarm);
        }
        if self.control.is_none() {
            let control = Control::listen(
                &daemon.history.instance,
                self.sender.clone(),
                (daemon.feed.clone(), daemon.desk.clone()),
            );
            self.control = self.checked("`ipfilter reload` can't be answered", control);
        }
        if self.feed.is_none() && daemon.feed.is_wanted() {
            let listening = Listening::start(&daemon.history.instance, daemon.feed.clone());
            let what = "authorization services can't read the policies";
            self.feed = self.checked(what, listening);
        }
        if !daemon.desk.is_wanted() {
            self.agents = None;
        } else if self.agents.is_none() {
            let (instance, desk) = (&daemon.history.instance, daemon.desk.clone());
            let listening = agents::Listening::start(instance, desk, self.sender.clone());
            self.agents = self.checked("the fleet's agent can't ask", listening);
        }
        self.follow_deadline(daemon);
        self.is_incomplete(daemon)
    }

    /// Waits for the end of a trial.
    fn follow_deadline(&mut self, daemon: &Daemon) {
        let due = daemon.deadline();
        if self.deadline.as_ref().map(|deadline| deadline.at) == due {
            return;
        }
        self.deadline = due.and_then(|due| {
            let deadline = Deadline::new(due);
            self.checked("a change on trial can't be rolled back in time", deadline)
        });
        self.is_unclocked = due.is_some() && self.deadline.is_none();
    }

    fn is_incomplete(&self, daemon: &Daemon) -> bool {
        let is_unfed = self.feed.is_none() && daemon.feed.is_wanted();
        let is_deaf = self.agents.is_none() && daemon.desk.is_wanted();
        self.links.is_none()
            || self.clock.is_none()
            || self.control.is_none()
            || is_unfed
            || is_deaf
            || self.is_unclocked
    }

    /// The value; or nothing, and a line in the log if the failure is a new one.
    fn checked<T>(&mut self, what: &'static str, result: anyhow::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.failures.remove(what);
                Some(value)
            }
            Err(failure) => {
                let failure = format!("{failure:#}");
                if self.failures.get(what) != Some(&failure) {
                    error!("{what}, retrying: {failure}");
                    self.failures.insert(what, failure);
                }
                None
            }
        }
    }

    /// Why interfaces can't be watched.
    fn unwatched(&self) -> Option<String> {
        let failure = self.failures.get(UNWATCHED).cloned();
        (self.links.is_none()).then(|| failure.unwrap_or_else(|| "retrying".into()))
    }

    fn arm(&mut self, alarm: Option<Timestamp>) {
        self.alarm = alarm;
        if let (Some(clock), Some(alarm)) = (&self.clock, alarm) {
            let set = clock.set(alarm);
            if self.checked("the timer can't be set", set).is_none() {
                self.clock = None;
            }
        }
    }

    /// Waits for what happens next; nothing if nothing can any more. Interfaces come first: until
    /// they are served, those that appeared are unfiltered.
    pub(super) async fn next(
        &mut self,
        daemon: &Daemon,
        events: &mut mpsc::Receiver<Event>,
    ) -> Option<Event> {
        let waits = self.is_incomplete(daemon) || self.denials.is_some();
        tokio::select! {
            biased;
            () = links_changed(&mut self.links) => Some(Event::Links),
            () = pass(&mut self.deadline) => Some(Event::Deadline),
            event = tick(&mut self.clock) => Some(event),
            event = events.recv() => event,
            _ = self.seconds.tick(), if waits => Some(Event::Second),
            _ = self.trace_ticks.tick(), if self.trace.is_some() => Some(Event::Trace),
            denial = next_denial(&mut self.denials) => Some(denial.map_or(Event::Second, Event::Denial)),
        }
    }

    /// Follows what is denied, if it is to be logged.
    fn follow_denials(&mut self, daemon: &Daemon) {
        let spec = daemon.policies.spec();
        if !spec.log_denied && spec.record.is_none() {
            self.denials = None;
        } else if !self.denials.as_ref().is_some_and(Denials::is_live) {
            let denials = Denials::follow(&daemon.filter);
            self.denials = self.checked("what is denied can't be logged", denials);
        }
    }

    /// Follows the log of the deployed programs, if the log level has them write one.
    fn follow_trace(&mut self, daemon: &Daemon) {
        if log::max_level() >= LevelFilter::Debug {
            let trace = daemon.filter.trace().map_err(Into::into);
            let trace = self.checked("the programs' log can't be followed", trace);
            self.trace = trace.flatten();
        }
    }

    /// Watches the files that say what to deploy.
    fn watch(&self, files: Vec<PathBuf>) {
        self.paths.send_if_modified(|paths| {
            let changed = *paths != files;
            *paths = files;
            changed
        });
    }
}

/// Waits until interfaces appeared, disappeared, or were renamed; for ever while they can't be
/// watched.
async fn links_changed(links: &mut Option<Links>) {
    let Some(watched) = links else {
        return std::future::pending().await;
    };
    if let Err(failure) = watched.changed().await {
        warn!("can't watch the interfaces, checking every second: {failure:#}");
        *links = None;
    }
}

/// Waits until the clock goes off, or is set.
async fn tick(clock: &mut Option<Clock>) -> Event {
    let Some(running) = clock else {
        return std::future::pending().await;
    };
    match running.tick().await {
        Ok(true) => Event::ClockSet,
        Ok(false) => Event::Clock,
        Err(failure) => {
            warn!("the timer fails, checking every second: {failure:#}");
            *clock = None;
            Event::Clock
        }
    }
}

/// Waits until the deadline has passed, once.
async fn pass(deadline: &mut Option<Deadline>) {
    let Some(running) = deadline else {
        return std::future::pending().await;
    };
    if let Err(failure) = running.tick().await {
        warn!("the timer fails, so that a trial ends at once: {failure:#}");
    }
    *deadline = None;
}

/// Waits for the next packet that is to be logged; nothing if they can't be followed any more.
async fn next_denial(denials: &mut Option<Denials>) -> Option<Denial> {
    let Some(followed) = denials else {
        return std::future::pending().await;
    };
    match followed.next().await {
        Ok(denial) => Some(denial),
        Err(failure) => {
            warn!("can't read reports of denied packets:  {failure:#}");
            *denials = None;
            None
        }
    }
}

impl Daemon {
    /// Performs one effect.
    pub(super) async fn perform_one(&mut self, open: &mut Open, effect: Effect) -> Outcome {
        match effect {
            Effect::End => {
                self.record_denied(open);
                let what = if self.service().detach_on_exit {
                    ""
                } else {
                    "the filter stays attached"
                };
                self.note(Kind::Stop, Requester::Signal, what);
                self.keeper.run(notify::stopping);
                return Outcome::End;
            }
            Effect::Build(task, changes, terms, near) => {
                self.build((task, changes, terms, near), open.sender.clone());
            }
            Effect::Swap(mut job, product, span) => {
                let result = self.swap(&job, product, span).map(|change| {
                    job.change = change;
                    span
                });
                return Outcome::Event(Event::Swapped(job, result).into());
            }
            Effect::Settle(job, result) => self.settle(job, result),
            Effect::Refuse(job, failure) => self.refuse(job, failure),
            Effect::Arm(time) => open.arm(Some(time)),
            Effect::NoteClock => self.note_clock(),
            Effect::Follow => self.follow(),
            Effect::Repair => self.repair(),
            Effect::Renew => self.rotate_keys(),
            Effect::Reopen => {
                let was_incomplete = open.is_incomplete(self);
                open.reopen(self);
                if was_incomplete {
                    // What can't be watched is looked at.
                    self.follow();
                    return Outcome::Event(Event::Clock.into());
                }
            }
            Effect::Refresh => {
                self.know_fleet();
                let service = self.service();
                open.exporter.serve_at(service.metrics).await;
                open.watcher.set(service.watch);
                open.watch(self.files());
                open.follow_trace(self);
                open.follow_denials(self);
                open.reopen(self);
            }
            Effect::Report(reply) => {
                // Who has asked may have gone away.
                let _: Result<(), Snapshot> = reply.send(self.snapshot(open.unwatched()));
            }
            Effect::LogDenial(denial) => {
                if let Some(denials) = &mut open.denials {
                    let wanted = Wanted::by(self.policies.spec());
                    denials.take(&denial, wanted, &self.filter, self.history.record.current());
                }
            }
            Effect::LogUnreported => {
                let wanted = Wanted::by(self.policies.spec());
                open.denials
                    .iter_mut()
                    .for_each(|denials| denials.count_unreported(wanted));
                self.record_denied(open);
            }
            Effect::FlushTrace => open.trace.iter_mut().for_each(Trace::flush),
            Effect::Alive => notify::alive(),
        }
        Outcome::Nothing
    }

    /// Takes note of what is in force, for the fleet's agent.
    fn know_fleet(&self) {
        self.desk.know(&self.history.instance, self.policies.spec());
    }

    /// Writes down the packets that are to be kept.
    fn record_denied(&self, open: &mut Open) {
        let recording = self.policies.spec().record;
        if let (Some(denials), Some(recording)) = (&mut open.denials, recording)
            && let Some(write) = denials.keeper(&self.history.instance, recording)
        {
            self.keeper.run(write);
        }
    }

    fn build(
        &self,
        (task, changes, terms, near): (Task, Vec<Change>, Terms, Timestamp),
        sender: mpsc::Sender<Event>,
    ) {
        if matches!(task, Task::Reload(_) | Task::Release | Task::Rollback) {
            self.keeper.run(notify::reloading);
        }
        let order = self.order(task, changes, terms, near);
        self.builder.run(move || {
            // A loop that has ended wants no plan.
            let _: Result<(), mpsc::error::SendError<Event>> =
                sender.blocking_send(Event::Built(order.fill()));
        });
    }
}
