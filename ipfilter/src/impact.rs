//! Which of the sources that were seen lately lose access by a change. No IO.

use std::{cmp::Reverse, net::IpAddr};

use jiff::Timestamp;

use crate::{
    compare::ApiChange,
    kernel::Caller,
    plan::{Api, Plan},
};

/// What a change does to the sources that were seen lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Impact {
    /// How many pairs of a source and an API were seen.
    pub(crate) seen: usize,
    /// Those that lose access, the busiest first.
    pub(crate) lost: Vec<Lost>,
}

/// A source that loses access to an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) api: String,
    pub(crate) source: IpAddr,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl Impact {
    /// What `changes` do to `callers`, given the plan in force and how a time of theirs becomes one of the clock.
    pub(crate) fn new(
        callers: &[Caller],
        plan: &Plan,
        changes: &[ApiChange],
        time: impl Fn(u64) -> Timestamp,
    ) -> Self {
        let apis: Vec<(u32, &Api)> = plan.apis.iter().map(|api| (api.id(), api)).collect();
        // Those that called under an earlier plan and may not any more have lost access already.
        let current = callers.iter().filter_map(|caller| {
            let (_, api) = apis.iter().find(|(id, _)| *id == caller.api)?;
            api.sources.contains(caller.source).then_some((caller, api))
        });
        let (mut seen, mut lost) = (0, Vec::new());
        for (caller, api) in current {
            seen += 1;
            let change = changes.iter().find(|change| change.name == api.name);
            if change.is_some_and(|change| change.access.lost.contains(caller.source)) {
                lost.push(Lost {
                    api: api.name.clone(),
                    source: caller.source,
                    packets: caller.packets,
                    bytes: caller.bytes,
                    first: time(caller.first),
                    last: time(caller.last),
                });
            }
        }
        lost.sort_by(|one, other| {
            let key = |it: &Lost| (Reverse(it.packets), it.source);
            key(one).cmp(&key(other)).then(one.api.cmp(&other.api))
        });
        Self { seen, lost }
    }
}

impl Lost {
    /// Packets per second between the first and the last; none if they came at once.
    pub(crate) fn rate(&self) -> Option<f64> {
        let seconds = self.last.duration_since(self.first).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded")]
        let packets = self.packets as f64;
        (seconds >= 1.0).then(|| packets / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addresses::{AddressSet, Difference},
        plan::{Deny, Protocols, Response, Share},
    };

    fn api(name: &str, sources: AddressSet) -> Api {
        Api {
            name: name.into(),
            ports: if name == "first" { "1" } else { "2" }.parse().unwrap(),
            protocols: Protocols::TCP,
            deny: Deny::Drop,
            enforce: Share::ALL,
            response: Response::default(),
            sources,
        }
    }

    fn set(network: &str) -> AddressSet {
        AddressSet::from_networks([network.parse().unwrap()])
    }

    #[test]
    fn who_loses_what_they_used_is_named() {
        let apis = ["first", "second"].map(|name| api(name, set("192.0.2.0/24")));
        let plan = Plan::new(apis.to_vec(), Vec::new()).unwrap();
        let [first, second] = apis.map(|api| api.id());
        let caller = |source: &str, api, packets| Caller {
            source: source.parse().unwrap(),
            api,
            packets,
            bytes: 60 * packets,
            first: 0,
            last: 10,
        };
        let callers = [
            caller("192.0.2.1", first, 5),
            caller("192.0.2.2", first, 50),
            // Keeps access, to the other API.
            caller("192.0.2.2", second, 9),
            // Keeps it.
            caller("192.0.2.200", first, 9),
            // Has lost it before.
            caller("198.51.100.1", first, 9),
            // An API that is gone.
            caller("192.0.2.1", !first, 9),
        ];
        let change = |name: &str, lost: AddressSet| ApiChange {
            name: name.into(),
            access: Difference {
                gained: AddressSet::empty(),
                lost,
            },
            undecided: Difference::default(),
            why_gained: Vec::new(),
            why_lost: Vec::new(),
            settings: Vec::new(),
            summary: None,
        };
        let changes = [change("first", set("192.0.2.0/25"))];
        let time = |at| Timestamp::from_second(i64::try_from(at).unwrap()).unwrap();
        let impact = Impact::new(&callers, &plan, &changes, time);
        assert_eq!(impact.seen, 4);
        let lost = impact
            .lost
            .iter()
            .map(|lost| (lost.source.to_string(), lost.rate()));
        let wanted = [("192.0.2.2", 5.0), ("192.0.2.1", 0.5)];
        assert!(lost.eq(wanted.map(|(source, rate)| (source.to_owned(), Some(rate)))));
    }
}
