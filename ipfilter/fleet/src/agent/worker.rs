//! Brings what is wanted in force: fetches it, and offers it to the filter's process until that has it.

use std::{sync::Arc, time::Duration};

use ipfilter_bundle::{
    Digest, Kind, SignedRelease,
    message::{AgentReport, HostState, InForce},
};
use log::{error, info, warn};
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use super::{backoff::Backoff, host::Host};
use crate::store::{HostOutcome, State, Store};

/// How soon what a host refused is offered again: something on the host may have changed.
const REFUSED: Duration = Duration::from_secs(60);

/// How soon it is offered again to a host that has something else to do first.
const WAITING: Duration = Duration::from_secs(5);

/// Brings releases of one kind in force.
#[derive(Debug)]
pub(super) struct Worker<H> {
    pub(super) kind: Kind,
    pub(super) store: Arc<Store>,
    pub(super) host: H,
    /// The release that is wanted.
    pub(super) wanted: watch::Receiver<Option<SignedRelease>>,
    /// What became of it.
    pub(super) outcome: watch::Sender<HostOutcome>,
    /// Rings when the host has something else in force than it had.
    pub(super) drift: Arc<Notify>,
    /// How the agent is.
    pub(super) agent: watch::Receiver<AgentReport>,
    /// What was fetched and is not in force yet, to be offered again.
    pub(super) fetched: Option<(Digest, Arc<Vec<u8>>)>,
}

impl<H: Host> Worker<H> {
    /// Works until nobody wants anything any more.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let again = match wanted {
                None => None,
                Some(release) => self.work(&release, &mut backoff).await,
            };
            let drift = Arc::clone(&self.drift);
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    backoff.reset();
                }
                () = drift.notified() => {}
                () = sleep(again.unwrap_or(Duration::MAX)), if again.is_some() => {}
            }
        }
    }

    /// Brings a release in force; after which time to try again if it is not.
    async fn work(&mut self, release: &SignedRelease, backoff: &mut Backoff) -> Option<Duration> {
        let (generation, digest) = (release.release.generation, release.release.digest);
        let told = self.outcome.borrow().clone();
        let is_news = told.generation != Some(generation) || told.digest != Some(digest);
        if is_news {
            let pending = HostOutcome::new(generation, digest, State::Pending, "");
            self.outcome.send_replace(pending);
        }
        let outcome = match self.bring(release).await {
            Ok(outcome) => outcome,
            Err(why) => HostOutcome::new(generation, digest, State::Failed, why),
        };
        if outcome != told {
            self.log(release, &outcome);
        }
        let again = match outcome.state {
            State::InForce | State::Nothing => None,
            State::Refused => Some(REFUSED),
            State::Waiting | State::Pending => Some(WAITING),
            State::Failed => Some(backoff.next()),
        };
        if again.is_none() {
            backoff.reset();
            self.fetched = None;
        }
        self.outcome.send_replace(outcome);
        again
    }

    async fn bring(&mut self, release: &SignedRelease) -> Result<HostOutcome, String> {
        let (generation, digest) = (release.release.generation, release.release.digest);
        let agent = self.agent.borrow().clone();
        let state = self.host.state(agent).await?;
        if self.is_in_force(&state, release) {
            return Ok(HostOutcome::new(generation, digest, State::InForce, ""));
        }
        if self.kind == Kind::Bundle && state.highest > generation {
            let highest = state.highest;
            let why = format!(
                "etcd offers generation {generation} and this host has accepted {highest}: was etcd restored \
                 from an older backup? publish again"
            );
            return Ok(HostOutcome::new(generation, digest, State::Refused, why));
        }
        let content = self.content(digest).await?;
        // Deployments are not cut short: the filter's process goes on with what it has begun.
        let offered = timeout(
            Duration::from_secs(240),
            self.host.offer(release.clone(), content),
        );
        let offered = offered
            .await
            .map_err(|_| "the filter's process does not answer".to_owned())?;
        Ok(HostOutcome::answered(generation, digest, offered?))
    }

    /// The content of a release, fetched unless it was just now.
    async fn content(&mut self, digest: Digest) -> Result<Arc<Vec<u8>>, String> {
        if let Some((fetched, content)) = &self.fetched
            && *fetched == digest
        {
            return Ok(Arc::clone(content));
        }
        let what = match self.kind {
            Kind::Bundle => "the bundle",
            Kind::Overrides => "the list of overrides",
        };
        let content = self.store.fetch(what, digest).await;
        let content = Arc::new(content.map_err(|failure| failure.to_string())?);
        self.fetched = Some((digest, Arc::clone(&content)));
        Ok(content)
    }

    fn is_in_force(&self, state: &HostState, release: &SignedRelease) -> bool {
        has(in_force(self.kind, state), release)
    }

    fn log(&self, release: &SignedRelease, outcome: &HostOutcome) {
        let release = &release.release;
        match outcome.state {
            State::InForce => info!("{release} is in force"),
            State::Refused => error!("{release} is refused: {}", outcome.why),
            State::Waiting => warn!("{release} waits: {}", outcome.why),
            State::Failed => error!("{release} is not in force: {}; retrying", outcome.why),
            State::Nothing | State::Pending => {}
        }
    }
}

/// What a host has in force of a kind.
pub(super) fn in_force(kind: Kind, state: &HostState) -> Option<&InForce> {
    match kind {
        Kind::Bundle => state.bundle.as_ref(),
        Kind::Overrides => state.overrides.as_ref(),
    }
}

/// Whether what is in force is of this release.
pub(super) fn has(in_force: Option<&InForce>, release: &SignedRelease) -> bool {
    let release = &release.release;
    in_force.is_some_and(|it| it.generation == release.generation && it.digest == release.digest)
}
