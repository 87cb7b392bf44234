//! Where every question ends, whatever protocol it came by: judged, counted, and logged if it can't be.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ipfilter_feed::{Denied, Report};
use jiff::Timestamp;
use log::{debug, warn};

use crate::{
    answer::Denial,
    in_force::InForce,
    metrics::Metrics,
    question::{Headers, Line, Peer, Question},
    refusal::Refusal,
    service::{Api, Outcome},
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
    /// The denied requests to report to the filter's process; none if the service runs without one.
    unreported: Option<Mutex<Report>>,
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
            unreported: None,
        }
    }

    /// One whose denied requests are reported to the filter's process.
    pub(crate) fn reporting(self) -> Self {
        Self {
            unreported: Some(Mutex::default()),
            ..self
        }
    }

    /// What has been decided, with the requests that were denied since this was last asked for.
    pub(crate) fn report(&self) -> Report {
        let unreported = self.unreported.as_ref().map(|unreported| {
            let mut unreported = unreported.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *unreported)
        });
        Report {
            decided: self.metrics.all_decided(),
            refused: self.metrics.all_refused(),
            ..unreported.unwrap_or_default()
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
        let question = if peer.is_trusted(&service.trusted) {
            Question::new(&service.trusted, headers, line)
        } else {
            Err(Refusal::Untrusted)
        };
        let judged = question.and_then(|question| {
            service.decide(&question, headers, &in_force.overruled, Timestamp::now())
        });
        let judged = judged.map(|outcome| (service.apis.get(outcome.api), outcome));
        let answer = match judged {
            Ok((Some(api), outcome)) => self.judged(api, &outcome, question.ok()),
            Ok((None, _)) => {
                self.refused(peer, Refusal::Api, question.ok());
                Err(Denial::unjudged())
            }
            Err(refusal) => {
                self.refused(peer, refusal, question.ok());
                Err(Denial::unjudged())
            }
        };
        self.metrics.took(start.elapsed());
        answer
    }

    fn judged(
        &self,
        api: &Api,
        outcome: &Outcome,
        question: Option<Question<'_>>,
    ) -> Result<(), Denial> {
        let statement = outcome.by.name(&api.policy);
        self.metrics.decided(&api.name, outcome.allowed, &statement);
        if outcome.allowed {
            return Ok(());
        }
        debug!("denied by {statement}: {}", outcome.call.escape_debug());
        self.keep(question, |denied| {
            denied.api = Some(api.name.clone());
            denied.reason = outcome.reason().to_owned();
            denied.statement = outcome.explicit.then(|| statement.to_string());
        });
        let statement = self.reveal.then(|| statement.into_owned());
        Err(Denial::of(outcome, api.arn.as_ref(), statement))
    }

    /// Keeps a denied request for the next report, if there is a place for it; else counts it.
    fn keep(&self, question: Option<Question<'_>>, complete: impl FnOnce(&mut Denied)) {
        let Some(unreported) = &self.unreported else {
            return;
        };
        let mut report = unreported.lock().unwrap_or_else(PoisonError::into_inner);
        if !report.has_place() {
            report.unreported = report.unreported.saturating_add(1);
            return;
        }
        let mut denied = Denied {
            time: Timestamp::now(),
            api: None,
            reason: String::new(),
            statement: None,
            source: question.map(|question| question.client),
            method: question.map(|question| question.method.to_owned()),
            path: question.map(|question| question.path.to_owned()),
        };
        complete(&mut denied);
        report.denied.push(denied);
    }

    /// Counts a request that is in no form that could be judged, and logs it now and then.
    pub(crate) fn refuse(&self, peer: Peer, refusal: Refusal) {
        self.refused(peer, refusal, None);
    }

    fn refused(&self, peer: Peer, refusal: Refusal, question: Option<Question<'_>>) {
        self.keep(question, |denied| {
            refusal.label().clone_into(&mut denied.reason);
            denied.source = denied.source.or(match peer {
                Peer::Local => None,
                Peer::Remote(address) => Some(address.to_canonical()),
            });
        });
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
