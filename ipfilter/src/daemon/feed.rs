//! Handing the policies in force to the authorization service.
//!
//! The service has no privileges and may be in a stranger's hands. It gets what decides requests, over a
//! socket of its own, and can ask for nothing: it answers with a word and a digest, which say how far it is
//! and decide nothing. Who else may connect is nobody: the kernel tells which user is at the other end.

mod follower;
mod listening;

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use ipfilter_feed::{Message, Prepared, Reply, Serve};
use log::{error, warn};
use tokio::sync::watch;

pub(super) use self::listening::Listening;
use crate::{config::User, instance::Instance, prepare::Policies, view::snapshot::Services};

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
    followers: Mutex<HashMap<u64, Follower>>,
    changed: Condvar,
    last: AtomicU64,
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
}

/// The order to serve what is in force.
#[derive(Debug)]
struct Order {
    digest: String,
    line: Vec<u8>,
}

/// How far a service is, by what it says.
#[derive(Debug, Default)]
struct Follower {
    /// The policies that it has answered for last, usable or not.
    answered: String,
    /// The plan that it decides by.
    serving: String,
    /// Whether it was waited for in vain: then nothing waits for it until it says something.
    is_late: bool,
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
        if is_new && !self.wait(GETTING_READY, |one| one.answered == prepared.digest) {
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
        let order = Serve {
            digest: prepared.digest.clone(),
            plan: plan.to_owned(),
            overrides: (**policies.overrides()).clone(),
        };
        let line = match Message::Serve(order).line() {
            Ok(line) => line,
            Err(failure) => return error!("{UNTOLD}: {failure}"),
        };
        let order = Arc::new(Order {
            digest: prepared.digest.clone(),
            line,
        });
        let authorize = policies.spec().authorize.as_ref();
        self.0.state.send_modify(|state| {
            state.now = Some(prepared);
            state.next = None;
            state.order = Some(order);
            state.user = authorize.map_or_else(User::default, |it| it.user.clone());
        });
    }

    /// How many services decide by `plan`, and how many do not yet; none where none is configured. Waits
    /// for them, and not for long.
    pub(super) fn settled(&self, plan: &str) -> Option<Services> {
        self.is_wanted().then(|| {
            self.wait(SWITCHING, |one| one.serving == plan);
            self.services(plan)
        })
    }

    /// How many services decide by `plan`, and how many do not.
    pub(super) fn services(&self, plan: &str) -> Services {
        let followers = self.followers();
        let current = followers.values().filter(|one| one.serving == plan).count();
        Services {
            current,
            behind: followers.len() - current,
        }
    }

    /// Waits until this holds of every service but those that are late; whether it does.
    fn wait(&self, patience: Duration, holds: impl Fn(&Follower) -> bool) -> bool {
        let waits = |one: &Follower| !one.is_late && !holds(one);
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.followers(), patience, |followers| {
                followers.values().any(waits)
            });
        let (mut followers, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        for follower in followers.values_mut() {
            follower.is_late |= waits(follower);
        }
        !waited.timed_out()
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<u64, Follower>> {
        let followers = self.0.followers.lock();
        followers.unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a service that has connected.
    fn connected(&self) -> u64 {
        let id = self.0.last.fetch_add(1, Relaxed);
        self.followers().insert(id, Follower::default());
        id
    }

    fn replied(&self, id: u64, reply: Reply) {
        if let Some(follower) = self.followers().get_mut(&id) {
            follower.is_late = false;
            match reply {
                Reply::Ready(digest) => follower.answered = digest,
                Reply::Unusable(digest) => {
                    error!(
                        "an authorization service can't use the policies {digest}, and denies every \
                         request while they are in force: its log says why"
                    );
                    follower.answered = digest;
                }
                Reply::Serving(digest) => follower.serving = digest,
            }
        }
        self.0.changed.notify_all();
    }

    fn gone(&self, id: u64) {
        self.followers().remove(&id);
        self.0.changed.notify_all();
    }
}

const UNTOLD: &str = "can't tell authorization services what is in force";

impl Instance {
    /// The socket that authorization services read at. It is beside the runtime directory, which no other
    /// user may enter.
    fn feed(&self) -> std::path::PathBuf {
        self.runtime().with_extension("policies")
    }
}

#[cfg(test)]
mod tests;
