//! Handing the policies in force to the authorization service.
//!
//! The service has no privileges and may be in a stranger's hands. It gets what decides requests, over a
//! socket of its own, and can ask for nothing: it answers with a word and a digest, which say how far it is,
//! and reports what it has decided (`requests`); neither decides anything here. Nobody else may connect: the
//! kernel says which user is at the other end. One that is slow delays plans by a bounded time (`patience`).

mod conversation;
mod follower;
mod listening;
mod patience;
mod requests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ipfilter_feed::{Message, Prepared, Reply, Report, Serve};
use jiff::Timestamp;
use log::{error, warn};
use tokio::sync::watch;

pub(super) use self::listening::{Listening, bind, may_connect};
pub use self::requests::Requests;
use self::{
    follower::Follower,
    patience::Patience,
    requests::{DeniedRequests, Wanted},
};
use crate::{config::User, instance::Instance, prepare::Policies, view::services::Services};

/// How long a plan waits for services to get its policies ready: as long as reading a million blocks takes.
const GETTING_READY: Duration = Duration::from_secs(5);

/// How long a report waits for them to decide by it.
const SWITCHING: Duration = Duration::from_secs(2);

/// What services are to decide by, and how far they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Feed(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: watch::Sender<State>,
    followers: Mutex<Followers>,
    changed: Condvar,
    last: AtomicU64,
    /// How many orders there were.
    orders: AtomicU64,
    denied: Mutex<DeniedRequests>,
}

/// The services that are connected.
#[derive(Debug, Default)]
struct Followers {
    by_id: BTreeMap<u64, Follower>,
    /// When the last one went away.
    gone: Option<Timestamp>,
    patience: Patience,
}

/// What every service is to have.
#[derive(Clone, Debug, Default)]
struct State {
    /// The policies in force.
    now: Option<Arc<Prepared>>,
    /// Those that are about to be.
    next: Option<Arc<Prepared>>,
    order: Option<Arc<Order>>,
    /// The user that may read this, besides root and this process's own.
    user: User,
    /// What is wanted of the services' reports.
    wanted: Arc<Wanted>,
}

/// The order to serve what is in force.
#[derive(Debug)]
struct Order {
    digest: String,
    /// What services call it in their replies.
    name: String,
    since: Timestamp,
    line: Vec<u8>,
}

impl Feed {
    /// Whether a service is configured, or was.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.state.borrow().order.is_some()
    }

    /// Has services get the policies of a plan ready, while the plan is built.
    pub(super) fn prepare(&self, policies: &Policies) {
        if let Some(prepared) = policies.handed() {
            self.0
                .state
                .send_modify(|state| state.next = Some(Arc::clone(prepared)));
        }
    }

    /// Waits until services have the policies ready, and not for long: one that is slow, or hostile, keeps
    /// no plan from being deployed.
    pub(super) fn wait_ready(&self, policies: &Policies) {
        let Some(prepared) = policies.handed() else {
            return;
        };
        let in_force = self.0.state.borrow().now.clone();
        let is_new = in_force.is_none_or(|now| now.digest != prepared.digest);
        if is_new && !self.wait(GETTING_READY, |one| one.answered.digest == prepared.digest) {
            warn!("an authorization service is slow to get the new policies ready");
        }
    }

    /// Has services decide by what is in force now.
    pub(super) fn serve(&self, policies: &Policies, plan: &str) {
        let prepared = match policies.handed() {
            Some(prepared) => Arc::clone(prepared),
            // Whoever asks a service that is configured no longer is denied.
            None if self.is_wanted() => match Prepared::new(&ipfilter_feed::Policies::default()) {
                Ok(prepared) => Arc::new(prepared),
                Err(failure) => return error!("{UNTOLD}: {failure}"),
            },
            None => return,
        };
        let spec = policies.spec();
        let name = format!("{plan}/{}", self.0.orders.fetch_add(1, Relaxed));
        let order = Serve {
            digest: prepared.digest.clone(),
            plan: plan.to_owned(),
            order: name.clone(),
            overrides: (**policies.overrides()).clone(),
        };
        let line = match Message::Serve(order).line() {
            Ok(line) => line,
            Err(failure) => return error!("{UNTOLD}: {failure}"),
        };
        let order = Arc::new(Order {
            digest: prepared.digest.clone(),
            name,
            since: Timestamp::now(),
            line,
        });
        let wanted = Arc::new(Wanted {
            apis: spec.apis.iter().map(|api| api.name.clone()).collect(),
            log_denied: spec.log_denied,
        });
        let authorize = spec.authorize.as_ref();
        self.0.state.send_modify(|state| {
            state.now = Some(prepared);
            state.next = None;
            state.order = Some(order);
            state.user = authorize.map_or_else(User::default, |it| it.user.clone());
            state.wanted = wanted;
        });
    }

    /// The services, once they decide by what is in force, or do not within a short time.
    pub(super) fn settled(&self) -> Option<Services> {
        let order = self.order()?;
        self.wait(SWITCHING, |one| one.serving == order.name);
        self.services()
    }

    /// The services, and how far they are; nothing where none is configured, or was.
    pub(super) fn services(&self) -> Option<Services> {
        let order = self.order()?;
        let followers = self.followers();
        let connected = followers.by_id.values();
        Some(Services {
            plan: order.plan().to_owned(),
            gone: followers.gone.filter(|_| followers.by_id.is_empty()),
            connected: connected.map(|one| one.status(&order)).collect(),
        })
    }

    fn order(&self) -> Option<Arc<Order>> {
        self.0.state.borrow().order.clone()
    }

    /// What services have decided; of the denied requests, those after the first `seen`, or none.
    pub(super) fn requests(&self, seen: Option<u64>) -> Requests {
        let mut requests = self.denied().after(seen);
        let followers = self.followers();
        let reports = followers.by_id.values().map(|one| &one.report);
        reports.for_each(|report| requests.add(report));
        requests
    }

    /// Waits until this holds of every service but those that are late; whether it does. How long services
    /// are waited for in vain is bounded, for all of them and over time.
    fn wait(&self, longest: Duration, holds: impl Fn(&Follower) -> bool) -> bool {
        let start = Instant::now();
        let mut followers = self.followers();
        let longest = longest.min(followers.patience.left(start));
        let waits = |one: &Follower| !one.is_late && !holds(one);
        let waited = self
            .0
            .changed
            .wait_timeout_while(followers, longest, |followers| {
                followers.by_id.values().any(waits)
            });
        (followers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let late = followers.by_id.values_mut().filter(|one| waits(one));
        let is_in_vain = late.map(|one| one.is_late = true).count() > 0;
        if is_in_vain {
            followers.patience.spend(start.elapsed());
        }
        !is_in_vain
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        let followers = self.0.followers.lock();
        followers.unwrap_or_else(PoisonError::into_inner)
    }

    fn denied(&self) -> MutexGuard<'_, DeniedRequests> {
        let denied = self.0.denied.lock();
        denied.unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a service of this user and process that has connected.
    fn connected(&self, uid: u32, pid: Option<i32>) -> u64 {
        let id = self.0.last.fetch_add(1, Relaxed);
        self.followers().by_id.insert(id, Follower::new(uid, pid));
        id
    }

    fn replied(&self, id: u64, reply: Reply) {
        match reply {
            Reply::Counted(report) => self.counted(id, report),
            Reply::Ready(digest) => self.update(id, |one| one.answered(digest, true)),
            Reply::Unusable(digest) => {
                error!(
                    "an authorization service can't use the policies {digest}, and denies every \
                     request while they are in force: its log says why"
                );
                self.update(id, |one| one.answered(digest, false));
            }
            Reply::Serving(order) => {
                let is_current = self.order().is_some_and(|now| now.name == order);
                self.update(id, |one| one.serves(order, is_current));
            }
        }
        self.0.changed.notify_all();
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut Follower)) {
        if let Some(follower) = self.followers().by_id.get_mut(&id) {
            change(follower);
        }
    }

    fn counted(&self, id: u64, report: Report) {
        let wanted = Arc::clone(&self.0.state.borrow().wanted);
        let mut report = wanted.believable(report);
        wanted.log(&report);
        self.denied().push(&mut report);
        self.update(id, |one| one.report = report);
    }

    fn gone(&self, id: u64) {
        let mut followers = self.followers();
        followers.by_id.remove(&id);
        followers.gone = Some(Timestamp::now());
        drop(followers);
        self.0.changed.notify_all();
    }
}

const UNTOLD: &str = "can't tell authorization services what is in force";

impl Order {
    /// The digest of the plan that it is for.
    fn plan(&self) -> &str {
        plan_of(&self.name)
    }
}

/// The digest of the plan in the name of an order.
fn plan_of(order: &str) -> &str {
    order.split_once('/').map_or(order, |(plan, _)| plan)
}

impl Instance {
    /// The socket that authorization services read at. It is beside the runtime directory, which no other
    /// user may enter.
    fn feed(&self) -> std::path::PathBuf {
        self.runtime().with_extension("policies")
    }
}

#[cfg(test)]
mod tests;
