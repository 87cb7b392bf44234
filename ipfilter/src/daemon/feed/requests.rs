//! What services report of the requests that they decide: kept for those who ask, and logged. It decides nothing.

use std::collections::VecDeque;

use ipfilter_feed::{Decided, Denied, Refused, Report};
use log::info;
use serde::{Deserialize, Serialize};

/// How many denied requests are kept.
const KEPT: usize = 1000;

/// Whether denied requests are logged, and of which APIs there are reports.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) apis: Vec<String>,
    pub(super) log_denied: bool,
}

/// The denied requests that were reported last.
#[derive(Debug, Default)]
pub(super) struct DeniedRequests {
    /// How many there were, with those that were not reported one by one.
    count: u64,
    /// Each with its number; the last one has at most the number `count`.
    kept: VecDeque<(u64, Denied)>,
}

/// What services have decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// How many requests were denied, as far as this process knows: where to go on reading from.
    pub count: u64,
    /// Those that are new to who asks.
    pub denied: Vec<Denied>,
    /// How many more are new, and were not reported one by one.
    pub unreported: u64,
    /// The requests that were judged.
    pub decided: Vec<Decided>,
    /// Those that were denied without being judged.
    pub refused: Vec<Refused>,
}

impl Wanted {
    /// The report without what can't be true: a service only knows the APIs that it was handed.
    pub(super) fn believable(&self, mut report: Report) -> Report {
        let is_known = |name: &String| self.apis.contains(name);
        report.decided.retain(|one| is_known(&one.api));
        let denied = report.denied.iter_mut();
        for one in denied.filter(|one| !one.api.as_ref().is_none_or(is_known)) {
            one.api = None;
        }
        report
    }

    /// Logs denied requests, if that is wanted, as denied packets are logged.
    pub(super) fn log(&self, report: &Report) {
        if !self.log_denied {
            return;
        }
        for one in &report.denied {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            info!(
                api = text(&one.api),
                verdict = "deny",
                reason = one.reason,
                statement = text(&one.statement),
                source = one.source.map(|source| source.to_string()).unwrap_or_default(),
                method = text(&one.method),
                path = text(&one.path);
                "denied: {}", crate::view::event::RequestEvent::from(one.clone()).untimed()
            );
        }
        if let unreported @ 1.. = report.unreported {
            info!(unreported; "denied: {unreported} more requests, not logged one by one");
        }
    }
}

impl DeniedRequests {
    pub(super) fn push(&mut self, report: &mut Report) {
        for denied in report.denied.drain(..) {
            self.count = self.count.saturating_add(1);
            self.kept.push_back((self.count, denied));
        }
        self.count = self.count.saturating_add(report.unreported);
        let superfluous = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..superfluous);
    }

    /// Those that came after the first `seen`; of `None`, only how many there were.
    pub(super) fn after(&self, seen: Option<u64>) -> Requests {
        let seen = match seen {
            None => self.count,
            // Another process has counted: all of them are new.
            Some(seen) if seen > self.count => 0,
            Some(seen) => seen,
        };
        let new = self.kept.iter().filter(|(number, _)| *number > seen);
        let denied: Vec<Denied> = new.map(|(_, denied)| denied.clone()).collect();
        Requests {
            count: self.count,
            unreported: (self.count - seen).saturating_sub(denied.len() as u64),
            denied,
            ..Requests::default()
        }
    }
}

impl Requests {
    /// Adds what one service has decided.
    pub(super) fn add(&mut self, report: &Report) {
        for one in &report.decided {
            let same = self.decided.iter_mut().find(|other| {
                (&other.api, other.allowed, &other.statement)
                    == (&one.api, one.allowed, &one.statement)
            });
            match same {
                Some(same) => same.requests = same.requests.saturating_add(one.requests),
                None => self.decided.push(one.clone()),
            }
        }
        for one in &report.refused {
            let same = self
                .refused
                .iter_mut()
                .find(|other| other.reason == one.reason);
            match same {
                Some(same) => same.requests = same.requests.saturating_add(one.requests),
                None => self.refused.push(one.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(api: &str, path: &str) -> Denied {
        Denied {
            time: jiff::Timestamp::UNIX_EPOCH,
            api: Some(api.to_owned()),
            reason: "implicit_deny".to_owned(),
            statement: None,
            source: None,
            method: None,
            path: Some(path.to_owned()),
        }
    }

    #[test]
    fn whoever_asks_gets_each_denied_request_once() {
        let mut requests = DeniedRequests::default();
        let report = |paths: &[&str], unreported| Report {
            denied: paths.iter().map(|path| denied("api", path)).collect(),
            unreported,
            ..Report::default()
        };
        let paths = |requests: &Requests| -> Vec<String> {
            let denied = requests.denied.iter();
            denied.filter_map(|one| one.path.clone()).collect()
        };
        requests.push(&mut report(&["/a", "/b"], 0));
        let first = requests.after(Some(0));
        assert_eq!(
            (paths(&first), first.unreported),
            (vec!["/a".into(), "/b".into()], 0)
        );
        requests.push(&mut report(&["/c"], 7));
        let second = requests.after(Some(first.count));
        assert_eq!((paths(&second), second.unreported), (vec!["/c".into()], 7));
        assert_eq!(requests.after(Some(second.count)).denied, []);
        assert_eq!(requests.after(None), requests.after(Some(second.count)));
        // After a restart of the process everything is new, and what is no longer kept is counted.
        assert_eq!(paths(&requests.after(Some(1_000_000))), ["/a", "/b", "/c"]);
        (0..2 * KEPT).for_each(|_| requests.push(&mut report(&["/d"], 0)));
        let late = requests.after(Some(second.count));
        assert_eq!((late.denied.len(), late.unreported), (KEPT, KEPT as u64));
    }

    #[test]
    fn a_service_speaks_of_the_apis_that_it_was_handed() {
        let wanted = Wanted {
            apis: vec!["pets".to_owned()],
            log_denied: false,
        };
        let decided = |api: &str| Decided {
            api: api.to_owned(),
            allowed: true,
            statement: "0".to_owned(),
            requests: u64::MAX,
        };
        let report = wanted.believable(Report {
            decided: vec![decided("pets"), decided("lie")],
            denied: vec![denied("pets", "/a"), denied("lie", "/b")],
            ..Report::default()
        });
        assert_eq!(report.decided, [decided("pets")]);
        let apis: Vec<_> = report.denied.iter().map(|one| one.api.as_deref()).collect();
        assert_eq!(apis, [Some("pets"), None]);
        let mut requests = Requests::default();
        requests.add(&report);
        requests.add(&report);
        assert_eq!(requests.decided, [decided("pets")]);
    }
}
