//! What Prometheus reads: the text format, version 0.0.4 ("Exposition formats").
//!
//! Not OpenMetrics, which older tools don't read and `promtool check metrics` can't check.

use anyhow::Context as _;
use ipfilter_ebpf::abi;
use jiff::Timestamp;
use prometheus::{Encoder as _, GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::{
    kernel::{Count, abi_version},
    plan::TableSize,
    view::snapshot::{Reason, Snapshot},
};

/// The format's media type.
pub const MEDIA_TYPE: &str = prometheus::TEXT_FORMAT;

/// A snapshot as a page of metrics.
///
/// # Errors
///
/// When the counters could not be read: half a page would look like a filter without traffic.
pub fn render(snapshot: &Snapshot) -> anyhow::Result<String> {
    let page = Page(Registry::new());
    page.traffic(snapshot)?;
    page.deployments(snapshot)?;
    page.state(snapshot)?;
    page.fleet(snapshot)?;
    page.tables(snapshot)?;
    let mut text = Vec::new();
    TextEncoder::new().encode(&page.0.gather(), &mut text)?;
    String::from_utf8(text).context("the metrics are no text")
}

/// A page in the making. Each metric is made for one scrape: what it says is kept elsewhere.
struct Page(Registry);

impl Page {
    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> anyhow::Result<IntCounterVec> {
        let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> anyhow::Result<IntGaugeVec> {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A gauge without labels.
    fn value(&self, name: &str, help: &str, value: i64) -> anyhow::Result<()> {
        let none: [&str; 0] = [];
        let gauge = self.gauge(name, help, &none)?;
        gauge.with_label_values(&none).set(value);
        Ok(())
    }

    /// A gauge that is a time, in seconds since 1970; left out where there is none.
    fn time(&self, name: &str, help: &str, time: Option<Timestamp>) -> anyhow::Result<()> {
        let Some(time) = time else { return Ok(()) };
        let none: [&str; 0] = [];
        let gauge = GaugeVec::new(Opts::new(name, help), &none)?;
        self.0.register(Box::new(gauge.clone()))?;
        let seconds = time.as_duration().as_secs_f64();
        gauge.with_label_values(&none).set(seconds);
        Ok(())
    }

    fn traffic(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let counts = snapshot.counts.as_ref();
        let counts = counts.map_err(|error| anyhow::anyhow!(error.clone()))?;
        let names = ["api", "interface", "verdict", "reason"];
        let packets = self.counter(
            "ipfilter_packets_total",
            "Packets that arrived at a filtered interface, by verdict and reason; no API where \
             they went to none, no interface for those without counters of their own, and for probes.",
            &names,
        )?;
        let bytes = self.counter(
            "ipfilter_bytes_total",
            "Bytes of the frames of these packets.",
            &names,
        )?;
        for count in counts.iter().filter(|count| is_shown(count)) {
            let api = count.api.map_or("", |index| {
                snapshot
                    .apis
                    .get(index as usize)
                    .map_or("?", String::as_str)
            });
            let interface = count.interface.as_deref().unwrap_or_default();
            let reason = count.reason;
            let values = [api, interface, reason.outcome().name(), reason.name()];
            packets
                .with_label_values(&values)
                .inc_by(count.total.packets);
            bytes.with_label_values(&values).inc_by(count.total.bytes);
        }
        let enforced = GaugeVec::new(
            Opts::new(
                "ipfilter_api_enforced_ratio",
                "The share of sources that an API denies, of those that may not call it: 0 in monitor mode.",
            ),
            &["api"],
        )?;
        self.0.register(Box::new(enforced.clone()))?;
        for (api, share) in snapshot.apis.iter().zip(&snapshot.shares) {
            enforced.with_label_values(&[api]).set(share.number());
        }
        let unreported = self.counter(
            "ipfilter_events_unreported_total",
            "Denied packets that `ipfilter events` or the log did not report one by one, because nobody \
             read, or there were too many.",
            &["reader"],
        )?;
        for (reader, packets) in &snapshot.unreported {
            unreported.with_label_values(&[reader]).inc_by(*packets);
        }
        Ok(())
    }

    fn deployments(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let tally = &snapshot.tally;
        let deployments = self.counter(
            "ipfilter_deployments_total",
            "Deployments by this process, by who asked for them.",
            &["cause"],
        )?;
        for (cause, count) in tally.deployments() {
            deployments.with_label_values(&[cause.name()]).inc_by(count);
        }
        let none: [&str; 0] = [];
        self.counter(
            "ipfilter_reload_failures_total",
            "Reloads by this process that failed, so that the old plan stayed.",
            &none,
        )?
        .with_label_values(&none)
        .inc_by(tally.reload_failures);
        let (time, done) = tally.last_reload;
        self.value(
            "ipfilter_last_reload_successful",
            "Whether what the files said when they were last read, at the start or by a reload, \
             was deployed.",
            done.into(),
        )?;
        self.time(
            "ipfilter_last_reload_timestamp_seconds",
            "When the files were last read in order to be deployed.",
            Some(time),
        )?;
        self.time(
            "ipfilter_next_boundary_timestamp_seconds",
            "When the plan may change with time; absent if it will not.",
            snapshot.next_boundary,
        )?;
        let verified = snapshot.verified;
        let differences = verified.map_or(Ok(0), |verified| verified.differences.try_into())?;
        self.value(
            "ipfilter_verify_differences",
            "Differences between the tables in the kernel and the deployed policy that the last \
             `ipfilter verify` found.",
            differences,
        )?;
        let never = Timestamp::UNIX_EPOCH;
        self.time(
            "ipfilter_verify_timestamp_seconds",
            "When the last `ipfilter verify` ended; 0 if there was none.",
            Some(verified.map_or(never, |verified| verified.time)),
        )?;
        let Some((digest, since)) = &snapshot.deployed else {
            return Ok(());
        };
        self.gauge(
            "ipfilter_deployment_info",
            "The plan in force, by its SHA-256.",
            &["digest"],
        )?
        .with_label_values(&[digest])
        .set(1);
        self.time(
            "ipfilter_deployment_timestamp_seconds",
            "When the plan in force was deployed.",
            Some(*since),
        )
    }

    fn state(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let interfaces = self.gauge(
            "ipfilter_interfaces",
            "Interfaces that are filtered, and names or patterns of interfaces still to come.",
            &["state"],
        )?;
        for (state, number) in [
            ("filtered", snapshot.filtered),
            ("waiting", snapshot.waiting.len()),
        ] {
            let number = i64::try_from(number)?;
            interfaces.with_label_values(&[state]).set(number);
        }
        if let Some(services) = &snapshot.services {
            let connected = self.gauge(
                "ipfilter_authorization_services",
                "Authorization services that read the policies from this process: those that decide by \
                 the plan in force, and those that do not, or not yet.",
                &["state"],
            )?;
            for (state, number) in [
                ("current", services.current()),
                ("behind", services.behind()),
            ] {
                let number = i64::try_from(number)?;
                connected.with_label_values(&[state]).set(number);
            }
        }
        self.value(
            "ipfilter_healthy",
            "Whether what was asked for is in force at all interfaces: what /healthz answers.",
            snapshot.ailments().is_empty().into(),
        )?;
        self.value(
            "ipfilter_degraded",
            "Whether something other than what was requested is in force, because that was broken.",
            snapshot.degraded.is_some().into(),
        )?;
        let ailments = snapshot.ailments();
        let unhealthy = self.gauge(
            "ipfilter_unhealthy",
            "Whether what was asked for is not in force, for each reason why.",
            &["reason"],
        )?;
        for reason in Reason::ALL {
            let applies = ailments.iter().any(|ailment| ailment.reason == reason);
            unhealthy
                .with_label_values(&[reason.name()])
                .set(applies.into());
        }
        let abi = abi_version().to_string();
        self.gauge(
            "ipfilter_build_info",
            "The version of ipfilter, and that of its interface to its programs in the kernel.",
            &["version", "abi"],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION"), &abi])
        .set(1);
        Ok(())
    }

    /// How the host is in its fleet; nothing where it belongs to none.
    fn fleet(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let Some(fleet) = &snapshot.fleet else {
            return Ok(());
        };
        let names = ["group", "kind"];
        let generations = self.gauge(
            "ipfilter_fleet_generation",
            "The generation of the group's bundle that is in force, that is desired as far as the agent knows, \
             and the highest one ever accepted; that of the group's overrides in force. 0 where there is none.",
            &names,
        )?;
        for (kind, generation) in [
            (
                "in_force",
                fleet.in_force.map(|in_force| in_force.generation),
            ),
            ("desired", fleet.desired),
            ("highest", Some(fleet.highest)),
            (
                "overrides",
                fleet.overrides.map(|overrides| overrides.generation),
            ),
        ] {
            let generation = i64::try_from(generation.unwrap_or(0)).unwrap_or(i64::MAX);
            generations
                .with_label_values(&[fleet.group.as_str(), kind])
                .set(generation);
        }
        self.value(
            "ipfilter_fleet_problems",
            "How many things keep this host from what its group is to have; `ipfilter status` lists them.",
            i64::try_from(fleet.problems.len())?,
        )?;
        self.value(
            "ipfilter_fleet_refused",
            "Whether the last release that was offered is refused, or has to wait.",
            fleet.turned_down.is_some().into(),
        )?;
        self.time(
            "ipfilter_fleet_agent_seen_timestamp_seconds",
            "When the fleet's agent asked the last time; absent if none has.",
            fleet.agent_seen,
        )
    }

    fn tables(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let names = ["table", "family"];
        let entries = self.gauge(
            "ipfilter_table_entries",
            "Entries of the tables in which sources are looked up.",
            &names,
        )?;
        let bytes = self.gauge(
            "ipfilter_table_bytes",
            "About how much memory these tables take in the kernel.",
            &names,
        )?;
        let table = snapshot.tables.table.to_string();
        for (family, size) in [("ipv4", snapshot.tables.v4), ("ipv6", snapshot.tables.v6)] {
            let TableSize {
                entries: n,
                bytes: b,
            } = size;
            let values = [table.as_str(), family];
            entries.with_label_values(&values).set(i64::try_from(n)?);
            bytes.with_label_values(&values).set(i64::try_from(b)?);
        }
        Ok(())
    }
}

/// Whether to show it: everything that can be counted is shown from the start, because rates need it.
fn is_shown(count: &Count) -> bool {
    let without_api = count.reason.scope() == abi::Scope::Host;
    let expected = count.interface.is_some() && count.api.is_none() == without_api;
    expected || count.total.packets > 0
}
