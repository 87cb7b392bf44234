//! The agent of a host: follows its group, has the filter's process enforce what the group is to, and reports.
//!
//! What is in force changes only by what the filter's process accepts; whatever happens to etcd changes nothing.

mod backoff;
mod host;
mod identity;
mod metrics;
mod worker;

use std::{sync::Arc, time::Duration};

use ipfilter_bundle::{
    Kind, SignedRelease,
    message::{AgentReport, HostState, InForce},
};
use jiff::Timestamp;
use log::{error, info, warn};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use crate::{
    etcd::{self, Changed, Client, Credentials, Place, Watch},
    store::{Desired, Failure, HostOutcome, Rates, Report, Store, parse},
};
use backoff::{Backoff, jitter};
use worker::{Worker, has, in_force};

pub(crate) use host::{Host, Socket};
pub(crate) use identity::{id, name};
pub(crate) use metrics::{Metrics, serve};

/// How long a report lives without its host.
const LEASE: Duration = Duration::from_secs(15);

/// How often the filter's process is asked how it is.
const LOOK: Duration = Duration::from_secs(1);

/// How often counts are reported, by a host that tries a release, and by all others.
const COUNTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// How often the desired state is read although nothing has announced a change.
const REREAD: Duration = Duration::from_secs(60);

/// Over which time rates are counted.
const RATE: Duration = Duration::from_secs(5);

/// An agent.
#[derive(Debug)]
pub(crate) struct Agent<H> {
    pub(crate) place: Place,
    pub(crate) credentials: Credentials,
    /// The host's name.
    pub(crate) name: String,
    /// What distinguishes it from another host of that name.
    pub(crate) id: String,
    pub(crate) host: H,
    pub(crate) metrics: Metrics,
}

/// What an agent knows.
struct Following<H> {
    store: Arc<Store>,
    host: H,
    metrics: Metrics,
    /// How the agent is, for its host.
    agent: watch::Sender<AgentReport>,
    report: Report,
    desired: Desired,
    bundle: Task,
    overrides: Task,
    /// When counts were reported last.
    reported: Instant,
    counted: (Instant, ipfilter_bundle::message::Packets),
    /// What is known of this host while it is away.
    remembered: Option<(Option<InForce>, HostOutcome)>,
}

/// A worker, as it is spoken to.
struct Task {
    wanted: watch::Sender<Option<SignedRelease>>,
    outcome: watch::Receiver<HostOutcome>,
    drift: Arc<Notify>,
}

impl Task {
    fn start<H: Host>(
        kind: Kind,
        store: &Arc<Store>,
        host: &H,
        agent: &watch::Sender<AgentReport>,
    ) -> Self {
        let (wanted, receiver) = watch::channel(None);
        let (sender, outcome) = watch::channel(HostOutcome::default());
        let drift = Arc::new(Notify::new());
        let worker = Worker {
            kind,
            store: Arc::clone(store),
            host: host.clone(),
            wanted: receiver,
            outcome: sender,
            drift: Arc::clone(&drift),
            agent: agent.subscribe(),
            fetched: None,
        };
        tokio::spawn(worker.run());
        Self {
            wanted,
            outcome,
            drift,
        }
    }

    /// Wants a release, unless that is wanted already.
    fn want(&self, release: Option<&SignedRelease>) {
        self.wanted.send_if_modified(|wanted| {
            let changes = wanted.as_ref() != release;
            *wanted = release.cloned();
            changes
        });
    }

    /// Has the worker look again if the host lost what it had.
    fn check(&self, kind: Kind, state: &HostState) {
        let wanted = self.wanted.borrow();
        let is_done = self.outcome.borrow().state == crate::store::State::InForce;
        if wanted
            .as_ref()
            .is_some_and(|wanted| is_done && !has(in_force(kind, state), wanted))
        {
            self.drift.notify_one();
        }
    }
}

impl<H: Host> Agent<H> {
    /// Follows the group, for ever.
    pub(crate) async fn run(self) {
        let members = self.place.members.len().max(1);
        let first =
            usize::try_from(getrandom::u32().unwrap_or_default()).unwrap_or_default() % members;
        let client = Client::eager(&self.place, self.credentials.clone(), first);
        let store = Arc::new(Store::new(client, self.place.group.clone()));
        let mut following = Following::new(&self, store);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut said = String::new();
        loop {
            let begun = Instant::now();
            let failure = match following.session(&mut said).await {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            following.metrics.disconnected(&failure);
            let message = failure.to_string();
            let problem = Some(message.clone());
            following.agent.send_modify(|agent| agent.problem = problem);
            if message != said {
                warn!("{message}: what is in force stays; retrying");
                said = message;
            }
            following.store.client.reconnect().await;
            if begun.elapsed() > LEASE {
                backoff.reset();
            }
            let wait = sleep(backoff.next());
            tokio::pin!(wait);
            // Whoever asks for metrics is to see how the host is meanwhile.
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    () = sleep(LOOK) => following.look().await,
                }
            }
        }
    }
}

/// What never happens.
enum Never {}

impl<H: Host> Following<H> {
    fn new(agent: &Agent<H>, store: Arc<Store>) -> Self {
        let now = Instant::now();
        let report = watch::Sender::new(AgentReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            desired: None,
            problem: Some("it has not reached etcd yet".to_owned()),
        });
        Self {
            bundle: Task::start(Kind::Bundle, &store, &agent.host, &report),
            overrides: Task::start(Kind::Overrides, &store, &agent.host, &report),
            agent: report,
            host: agent.host.clone(),
            metrics: agent.metrics.clone(),
            report: Report::new(agent.name.clone(), agent.id.clone()),
            desired: Desired::default(),
            reported: now,
            counted: (now, Default::default()),
            remembered: None,
            store,
        }
    }

    /// Follows the group until something fails.
    ///
    /// What is wanted is read anew each time, so that nothing is missed, whatever etcd has compacted meanwhile.
    async fn session(&mut self, said: &mut String) -> Result<Never, Failure> {
        let mut watch = self.read().await?;
        let client = &self.store.client;
        let lease = client.grant(LEASE).await?;
        self.look().await;
        self.send(lease).await?;
        let member = self.store.client.member().await.unwrap_or_default();
        info!("following group `{}` by {member}", self.store.group);
        said.clear();
        self.agent.send_modify(|agent| agent.problem = None);
        self.metrics.connected();
        let ended = self.follow(&mut watch, lease).await;
        // The next session has a lease of its own; this one's may be let go, if etcd is there to do it.
        let _: Result<_, _> = tokio::time::timeout(LOOK, self.store.client.revoke(lease)).await;
        ended
    }

    async fn follow(&mut self, watch: &mut Watch, lease: i64) -> Result<Never, Failure> {
        let every = |period: Duration| {
            let mut ticks = interval_at(Instant::now() + jitter(period), period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut alive, mut look, mut reread) = (every(LEASE / 3), every(LOOK), every(REREAD));
        let (mut bundle, mut overrides) =
            (self.bundle.outcome.clone(), self.overrides.outcome.clone());
        loop {
            tokio::select! {
                changed = watch.next() => {
                    self.take(&changed?);
                    continue;
                }
                _ = bundle.changed() => self.look().await,
                _ = overrides.changed() => self.look().await,
                _ = alive.tick() => {
                    self.store.client.keep_alive(lease).await?;
                    self.metrics.connected();
                    continue;
                }
                _ = reread.tick() => {
                    *watch = self.read().await?;
                    continue;
                }
                _ = look.tick() => {
                    let before = self.report.clone();
                    self.look().await;
                    if !self.is_news(&before) {
                        continue;
                    }
                }
            }
            self.send(lease).await?;
        }
    }

    /// Reads what is wanted, and watches for changes from then on.
    async fn read(&mut self) -> Result<Watch, Failure> {
        let keys = [self.store.key("desired"), self.store.key("overrides")];
        let mut revision = i64::MAX;
        for key in &keys {
            let (found, at) = self.store.client.get(key).await?;
            revision = revision.min(at);
            match found {
                Some(kv) => self.take(&Changed::Put {
                    key: key.clone(),
                    value: kv.value,
                    revision: kv.mod_revision,
                }),
                None => self.take(&Changed::Deleted { key: key.clone() }),
            }
        }
        Ok(self.store.client.watch(&keys, revision + 1).await?)
    }

    /// Takes over what is wanted. What can't be understood changes nothing.
    fn take(&mut self, changed: &Changed) {
        let is_overrides = changed.key() == self.store.key("overrides");
        let value = match changed {
            Changed::Put { value, .. } => Some(value),
            Changed::Deleted { .. } => None,
        };
        let taken = match (is_overrides, value) {
            (true, Some(value)) => parse::<SignedRelease>(changed.key(), value)
                .map(|release| self.overrides.want(Some(&release))),
            (false, Some(value)) => parse::<Desired>(changed.key(), value).map(|desired| {
                self.bundle.want(desired.of(&self.report.host));
                self.desired = desired;
            }),
            // A group that is gone changes nothing; nor do overrides that are, which end by the clock.
            (_, None) => return,
        };
        if let Err(failure) = taken {
            error!("{failure}: what is in force stays");
            self.metrics.failed("unreadable");
        }
    }

    /// Asks the filter's process how it is.
    async fn look(&mut self) {
        let wanted = self
            .bundle
            .wanted
            .borrow()
            .as_ref()
            .map(|it| it.release.generation);
        self.agent.send_modify(|agent| agent.desired = wanted);
        let agent = self.agent.borrow().clone();
        match self.host.state(agent).await {
            Ok(state) => {
                self.bundle.check(Kind::Bundle, &state);
                self.overrides.check(Kind::Overrides, &state);
                self.report.take(state);
                self.count();
            }
            Err(why) => {
                self.report.version = None;
                self.report.problems = vec![why];
            }
        }
        self.report.outcome = self.bundle.outcome.borrow().clone();
        let overrides = self.overrides.outcome.borrow().clone();
        let is_told =
            overrides.generation.is_some() && overrides.state != crate::store::State::InForce;
        self.report.overrides_outcome = is_told.then_some(overrides);
        self.metrics.looked(&self.report, wanted);
    }

    /// Counts how many packets there are per second.
    fn count(&mut self) {
        let (since, before) = self.counted;
        let now = self.report.packets;
        let seconds = since.elapsed().as_secs_f64();
        if since.elapsed() < RATE {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "rates are no exact numbers")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        self.report.rates = Rates {
            allowed: rate(now.allowed, before.allowed),
            denied: rate(now.denied, before.denied),
        };
        self.counted = (Instant::now(), now);
    }

    /// Whether something has changed that is to be reported now.
    fn is_news(&self, before: &Report) -> bool {
        let mut same = before.clone();
        same.packets = self.report.packets;
        same.rates = self.report.rates;
        if same != self.report {
            return true;
        }
        let tries = self.desired.canary.is_some();
        let [often, seldom] = COUNTS;
        self.reported.elapsed() >= if tries { often } else { seldom }
    }

    async fn send(&mut self, lease: i64) -> Result<(), Failure> {
        self.report.at = Timestamp::now();
        self.store.report(&self.report, lease).await?;
        let to_remember = (self.report.in_force, self.report.outcome.clone());
        if self.remembered.as_ref() != Some(&to_remember) {
            self.store.remember(&self.report).await?;
            self.remembered = Some(to_remember);
        }
        self.reported = Instant::now();
        Ok(())
    }
}

impl Report {
    /// That of a host of which nothing is known yet.
    fn new(host: String, id: String) -> Self {
        Self {
            host,
            id,
            at: Timestamp::now(),
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            version: None,
            in_force: None,
            overrides: None,
            highest: 0,
            plan: String::new(),
            outcome: HostOutcome::default(),
            overrides_outcome: None,
            problems: Vec::new(),
            packets: Default::default(),
            rates: Rates::default(),
        }
    }
}

/// What kind of failure it is, for metrics.
fn kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Etcd(etcd::Failure::Unreachable { .. }) => "unreachable",
        Failure::Etcd(etcd::Failure::Unauthorised(_)) => "unauthorised",
        Failure::Etcd(etcd::Failure::Full) => "full",
        Failure::Etcd(etcd::Failure::Compacted(_)) => "compacted",
        Failure::Etcd(etcd::Failure::Expired) => "expired",
        Failure::Etcd(etcd::Failure::Other(_)) => "other",
        Failure::Missing { .. } => "missing",
        Failure::Damaged { .. } => "damaged",
        Failure::Unreadable { .. } => "unreadable",
    }
}
