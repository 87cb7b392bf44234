//! What we are at, for those who ask.

use jiff::Timestamp;

use super::Daemon;
use crate::{config::Service, kernel::Reader, state::Verified, view::snapshot::Snapshot};

impl Daemon {
    pub(super) fn digest(&self) -> &str {
        let current = self.history.record.current();
        current.map_or("none", |deployed| &deployed.digest)
    }

    /// What this process is to do beside filtering.
    #[must_use]
    pub fn service(&self) -> Service {
        self.source.service(self.policies.spec())
    }

    /// What we are at, in full.
    pub(super) fn snapshot(&self, unwatched: Option<String>) -> Snapshot {
        let record = &self.history.record;
        let current = record.current();
        let apis = current.into_iter().flat_map(|deployed| &deployed.apis);
        let (apis, shares): (Vec<_>, Vec<_>) =
            apis.map(|api| (api.name.clone(), api.share())).unzip();
        let counts = self.filter.counters(apis.len());
        let spec = self.policies.spec();
        let logs = spec.log_denied || spec.record.is_some();
        let readers = [("events", Reader::Anyone), ("log", Reader::Log)].into_iter();
        let unreported = readers
            .filter(|(_, reader)| logs || *reader != Reader::Log)
            .filter_map(|(name, reader)| Some((name, self.filter.unreported(reader).ok()?)));
        let unrepaired = Some(&self.unrepaired).filter(|failed| !failed.is_empty());
        Snapshot {
            counts: counts.map_err(|error| error.to_string()),
            unreported: unreported.collect(),
            apis,
            shares,
            tables: self.deployment.tables(),
            filtered: self.deployment.attached().len(),
            waiting: record.waiting.clone(),
            deployed: current.map(|deployed| (deployed.digest.clone(), deployed.since)),
            unattached: Some(&self.unattached)
                .filter(|failed| !failed.is_empty())
                .cloned(),
            unwatched,
            services: self.feed.services(),
            fleet: self.desk.state(),
            degraded: record.why_degraded().cloned(),
            overdue: self.overdue.clone(),
            unrepaired: unrepaired.cloned(),
            tally: self.tally.clone(),
            next_boundary: self.policies.next_boundary(Timestamp::now()),
            // Damaged, it says as little as if there had been none.
            verified: Verified::load(&self.history.instance).ok().flatten(),
        }
    }

    /// What we are at, in a line.
    pub(super) fn status(&self) -> String {
        let record = &self.history.record;
        let attached = self.deployment.attached().iter();
        let attached: Vec<_> = attached
            .map(|attached| format!("{} ({})", attached.interface.name, attached.hook.name()))
            .collect();
        let mut status = if attached.is_empty() {
            "filtering nothing yet".to_owned()
        } else {
            format!("filtering {}", attached.join(", "))
        };
        let digest = self.digest();
        status += &format!("; plan {}", digest.get(..12).unwrap_or(digest));
        for api in record.current().iter().flat_map(|deployed| &deployed.apis) {
            if let Some(leniency) = api.share().leniency() {
                status += &format!("; {}: {leniency}", api.name);
            }
        }
        if !record.waiting.is_empty() {
            status += &format!("; waiting for {}", record.waiting.join(", "));
        }
        if let Some(trial) = &self.trial {
            status += &format!("; on trial {trial}");
        }
        if record.why_degraded().is_some() {
            status = format!("degraded: not what was asked for, see the log; {status}");
        }
        status
    }
}
