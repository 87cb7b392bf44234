//! Where every question ends, whatever protocol it came by: judged, counted, and logged if it can't be.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::{debug, warn};

use crate::{
    answer::Denial,
    in_force::InForce,
    metrics::Metrics,
    question::{Headers, Line, Peer, Question},
    refusal::Refusal,
};

/// How often refusals are logged at the most.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// The policies in force, and what has been decided by them.
#[derive(Debug)]
pub(crate) struct Gate {
    in_force: RwLock<Arc<InForce>>,
    /// Whether the filter's process is away, which hands over what is in force.
    is_stale: AtomicBool,
    pub(crate) metrics: Metrics,
    /// Whether answers name the statement that denied.
    reveal: bool,
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    logged: Option<Instant>,
    /// How many were not logged since then.
    silent: u64,
}

impl Gate {
    pub(crate) fn new(in_force: InForce, metrics: Metrics, reveal: bool) -> Self {
        metrics.serves(&in_force);
        Self {
            in_force: RwLock::new(Arc::new(in_force)),
            is_stale: AtomicBool::new(false),
            metrics,
            reveal,
            refusals: Mutex::default(),
        }
    }

    /// Decides by this from now on. A request meets the old policies or the new ones.
    pub(crate) fn swap(&self, new: InForce) {
        self.metrics.serves(&new);
        let in_force = self.in_force.write();
        *in_force.unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of whether the filter's process is there.
    pub(crate) fn following(&self, is_there: bool) {
        self.is_stale.store(!is_there, Relaxed);
        self.metrics.following(is_there);
    }

    /// What is in force, in a line.
    pub(crate) fn health(&self) -> String {
        let in_force = self.in_force();
        let mut health = format!("ok, policies {}", in_force.service.digest);
        if let Some(plan) = &in_force.plan {
            health += &format!(", plan {plan}");
        }
        if self.is_stale.load(Relaxed) {
            health += ", stale: the filter's process can't be followed";
        }
        health
    }

    /// Judges a request. Nothing but a policy's word lets it through.
    pub(crate) fn ask(
        &self,
        peer: Peer,
        headers: &impl Headers,
        line: Line<'_>,
    ) -> Result<(), Denial> {
        let start = Instant::now();
        let in_force = self.in_force();
        let service = &in_force.service;
        let judged = if peer.is_trusted(&service.trusted) {
            Question::new(&service.trusted, headers, line).and_then(|question| {
                service.decide(&question, headers, &in_force.overruled, Timestamp::now())
            })
        } else {
            Err(Refusal::Untrusted)
        };
        let answer = match judged {
            Ok(outcome) => {
                let api = service.apis.get(outcome.api);
                let name = api.map_or("-", |api| &api.name);
                self.metrics
                    .decided(name, outcome.allowed, &outcome.statement);
                if outcome.allowed {
                    Ok(())
                } else {
                    debug!(
                        "denied by {}: {}",
                        outcome.statement,
                        outcome.call.escape_debug()
                    );
                    let arn = api.and_then(|api| api.arn.as_ref());
                    Err(Denial::of(&outcome, arn, self.reveal))
                }
            }
            Err(refusal) => {
                self.refuse(peer, refusal);
                Err(Denial::unjudged())
            }
        };
        self.metrics.took(start.elapsed());
        answer
    }

    /// Counts a request that is denied without being judged, and logs it now and then.
    pub(crate) fn refuse(&self, peer: Peer, refusal: Refusal) {
        self.metrics.refused(refusal.label());
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if refusals
            .logged
            .is_some_and(|logged| now - logged < LOG_PAUSE)
        {
            refusals.silent += 1;
            return;
        }
        let silent = std::mem::take(&mut refusals.silent);
        refusals.logged = Some(now);
        drop(refusals);
        let who = match peer {
            Peer::Local => "a local program".to_owned(),
            Peer::Remote(address) => address.to_string(),
        };
        let more = if silent > 0 {
            format!(" ({silent} more were not logged)")
        } else {
            String::new()
        };
        warn!("denied a request from {who} without judging it: {refusal}{more}");
    }
}
