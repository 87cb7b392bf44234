//! Where every question ends, whatever protocol it came by: judged, counted, and logged if it can't be.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use log::{debug, warn};

use crate::{
    answer::Denial,
    metrics::Metrics,
    question::{Headers, Line, Peer, Question},
    refusal::Refusal,
    service::Service,
};

/// How often refusals are logged at the most.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// The policies in force, and what has been decided by them.
#[derive(Debug)]
pub(crate) struct Gate {
    service: RwLock<Arc<Service>>,
    pub(crate) metrics: Metrics,
    /// Whether callers are told which statement denied.
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
    pub(crate) fn new(service: Service, metrics: Metrics, reveal: bool) -> Self {
        metrics.serves(&service.digest);
        Self {
            service: RwLock::new(Arc::new(service)),
            metrics,
            reveal,
            refusals: Mutex::default(),
        }
    }

    /// Decides by `service` from now on. A request meets the old policies or the new ones.
    pub(crate) fn swap(&self, service: Service) {
        self.metrics.serves(&service.digest);
        *self.service.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(service);
    }

    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.service.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Judges a request. Nothing but a policy's word lets it through.
    pub(crate) fn ask(
        &self,
        peer: Peer,
        headers: &impl Headers,
        line: Line<'_>,
    ) -> Result<(), Denial> {
        let start = Instant::now();
        let service = self.service();
        let judged = if peer.is_trusted(&service.trusted) {
            Question::new(&service.trusted, headers, line)
                .and_then(|question| service.decide(&question, headers, Timestamp::now()))
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
