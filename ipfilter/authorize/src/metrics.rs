//! What has been decided, for Prometheus.

use std::time::Duration;

use ipfilter_feed::{Decided, Refused};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
    core::Collector as _,
    proto::{Metric, MetricFamily},
};

use crate::in_force::InForce;

/// Upper bounds of the time a decision takes, in seconds.
const BUCKETS: [f64; 10] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.025, 0.1,
];

/// The label of requests that were allowed.
const ALLOW: &str = "allow";

/// What has been decided.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    decided: IntCounterVec,
    refused: IntCounterVec,
    took: Histogram,
    serves: IntGaugeVec,
    following: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let metrics = Self {
            registry: Registry::new(),
            decided: IntCounterVec::new(
                Opts::new(
                    "ipfilter_authorization_total",
                    "Requests that were judged, by the statement that decided",
                ),
                &["api", "decision", "statement"],
            )?,
            refused: IntCounterVec::new(
                Opts::new(
                    "ipfilter_authorization_refused_total",
                    "Requests that were denied without being judged",
                ),
                &["reason"],
            )?,
            took: Histogram::with_opts(
                HistogramOpts::new(
                    "ipfilter_authorization_seconds",
                    "Time taken to judge a request",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            serves: IntGaugeVec::new(
                Opts::new(
                    "ipfilter_authorization_info",
                    "The digests of the policies in force, and of the plan that the filter enforces with them",
                ),
                &["policies", "plan"],
            )?,
            following: IntGauge::new(
                "ipfilter_authorization_following",
                "Whether the filter's process is there to hand over what is in force; left out where the \
                 service reads the policies itself",
            )?,
        };
        metrics
            .registry
            .register(Box::new(metrics.decided.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.refused.clone()))?;
        metrics.registry.register(Box::new(metrics.took.clone()))?;
        metrics
            .registry
            .register(Box::new(metrics.serves.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn decided(&self, api: &str, allowed: bool, statement: &str) {
        let decision = if allowed { ALLOW } else { "deny" };
        self.decided
            .with_label_values(&[api, decision, statement])
            .inc();
    }

    pub(crate) fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    pub(crate) fn took(&self, time: Duration) {
        self.took.observe(time.as_secs_f64());
    }

    pub(crate) fn serves(&self, in_force: &InForce) {
        let plan = in_force.plan.as_deref().unwrap_or_default();
        self.serves.reset();
        self.serves
            .with_label_values(&[&in_force.service.digest, plan])
            .set(1);
    }

    pub(crate) fn following(&self, is_there: bool) {
        // Once it is registered, this fails and changes nothing.
        let _: prometheus::Result<()> = self.registry.register(Box::new(self.following.clone()));
        self.following.set(is_there.into());
    }

    /// The requests that were judged.
    pub(crate) fn all_decided(&self) -> Vec<Decided> {
        counters(&self.decided, |metric, requests| Decided {
            api: label(metric, "api"),
            allowed: label(metric, "decision") == ALLOW,
            statement: label(metric, "statement"),
            requests,
        })
    }

    /// The requests that were denied without being judged.
    pub(crate) fn all_refused(&self) -> Vec<Refused> {
        counters(&self.refused, |metric, requests| Refused {
            reason: label(metric, "reason"),
            requests,
        })
    }

    /// The page, in Prometheus's text format.
    pub(crate) fn page(&self) -> prometheus::Result<Vec<u8>> {
        let mut page = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut page)?;
        Ok(page)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counters of whole numbers"
)]
fn counters<T>(all: &IntCounterVec, of: impl Fn(&Metric, u64) -> T) -> Vec<T> {
    let families = all.collect();
    let metrics = families.iter().flat_map(MetricFamily::get_metric);
    metrics
        .map(|metric| of(metric, metric.get_counter().get_value() as u64))
        .collect()
}

fn label(metric: &Metric, name: &str) -> String {
    let mut labels = metric.get_label().iter();
    let label = labels.find(|label| label.name() == name);
    label.map_or_else(String::new, |label| label.value().to_owned())
}
