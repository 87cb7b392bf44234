//! How the agent is, for Prometheus and for probes.

use std::{convert::Infallible, sync::Arc};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus::{Encoder as _, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;

use super::kind;
use crate::store::{Failure, Report, State};

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    connected: IntGauge,
    contact: IntGauge,
    wanted: IntGauge,
    in_force: IntGauge,
    converged: IntGauge,
    problems: IntGauge,
    failures: IntCounterVec,
}

impl Metrics {
    /// With nothing counted yet.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(format!("ipfilter_fleet_agent_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
        };
        let failures = IntCounterVec::new(
            Opts::new(
                "ipfilter_fleet_agent_failures_total",
                "Failures of etcd and of what is kept in it",
            ),
            &["kind"],
        )?;
        registry.register(Box::new(failures.clone()))?;
        Ok(Self(Arc::new(Inner {
            connected: gauge("connected", "Whether etcd is reached")?,
            contact: gauge(
                "last_contact_timestamp_seconds",
                "When etcd last answered; 0 if it never did",
            )?,
            wanted: gauge(
                "desired_generation",
                "The generation that the group wants here; 0 if none",
            )?,
            in_force: gauge("generation", "The generation in force; 0 if none")?,
            converged: gauge("converged", "Whether what the group wants is in force")?,
            problems: gauge("problems", "How many problems the host reports")?,
            failures,
            registry,
        })))
    }

    pub(super) fn connected(&self) {
        self.0.connected.set(1);
        self.0.contact.set(jiff::Timestamp::now().as_second());
    }

    pub(super) fn disconnected(&self, failure: &Failure) {
        self.0.connected.set(0);
        self.failed(kind(failure));
    }

    pub(super) fn failed(&self, kind: &str) {
        self.0.failures.with_label_values(&[kind]).inc();
    }

    pub(super) fn looked(&self, report: &Report, wanted: Option<u64>) {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.0.wanted.set(wanted.map_or(0, number));
        let in_force = report.in_force.map(|it| it.generation);
        self.0.in_force.set(in_force.map_or(0, number));
        let is_converged = report.outcome.state == State::InForce;
        self.0.converged.set(i64::from(is_converged));
        self.0
            .problems
            .set(i64::try_from(report.problems.len()).unwrap_or(i64::MAX));
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _: prometheus::Result<()> =
            TextEncoder::new().encode(&self.0.registry.gather(), &mut text);
        text
    }

    /// Whether etcd is reached and what the group wants is in force; what is wrong otherwise.
    fn health(&self) -> Result<(), &'static str> {
        match (self.0.connected.get(), self.0.converged.get()) {
            (0, _) => Err("etcd is not reached\n"),
            (_, 0) => Err("what the group wants is not in force\n"),
            _ => Ok(()),
        }
    }
}

/// Serves `/metrics` and `/healthz`.
pub(crate) async fn serve(address: &str, metrics: Metrics) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("can't listen on `{address}`"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = answer(&request, &metrics);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that goes away is no failure.
            let _: hyper::Result<()> = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer<B>(request: &Request<B>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/metrics" => (200, metrics.text()),
        "/healthz" => match metrics.health() {
            Ok(()) => (200, b"ok\n".to_vec()),
            Err(why) => (503, why.into()),
        },
        _ => (404, b"ask for /metrics or /healthz\n".to_vec()),
    };
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    answer
}
