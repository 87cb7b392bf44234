//! Overrides of the filter's operator: temporary decisions above the policies, found by source.

use std::{collections::HashMap, net::IpAddr};

use ipfilter_overrides::{Effect, Override, Overrides};
use ipnet::IpNet;
use jiff::Timestamp;

/// Overrides by their sources: there may be tens of thousands.
#[derive(Debug, Default)]
pub(crate) struct Overruled {
    by_source: HashMap<IpNet, Vec<Override>>,
    /// The prefix lengths that there are, of either family.
    lengths: [Vec<u8>; 2],
}

impl Overruled {
    pub(crate) fn new(overrides: &Overrides) -> Self {
        let mut new = Self::default();
        for one in overrides.iter() {
            let source = one.rule.source.trunc();
            let [v4, v6] = &mut new.lengths;
            let lengths = if source.addr().is_ipv4() { v4 } else { v6 };
            if !lengths.contains(&source.prefix_len()) {
                lengths.push(source.prefix_len());
            }
            new.by_source.entry(source).or_default().push(one.clone());
        }
        new
    }

    /// The override that decides about a client at the API called `api`, if one does: a block before an
    /// allow, and of several the narrowest.
    pub(crate) fn decide(&self, api: &str, client: IpAddr, now: Timestamp) -> Option<&Override> {
        let [v4, v6] = &self.lengths;
        let lengths = if client.is_ipv4() { v4 } else { v6 };
        let sources = lengths
            .iter()
            .filter_map(|length| Some(IpNet::new(client, *length).ok()?.trunc()));
        let found = sources
            .filter_map(|source| self.by_source.get(&source))
            .flatten();
        let found = found.filter(|one| {
            one.is_active(now) && one.rule.api.as_deref().is_none_or(|own| own == api)
        });
        found.max_by_key(|one| {
            (
                one.rule.effect == Effect::Block,
                one.rule.source.prefix_len(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use ipfilter_overrides::{Change, Rule};

    use super::*;

    fn rule(effect: Effect, source: &str, api: Option<&str>, until: Option<i64>) -> Change {
        Change::Add(Rule {
            effect,
            source: source.parse().unwrap(),
            api: api.map(str::to_owned),
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
            reason: None,
        })
    }

    #[test]
    fn clients_meet_the_overrides_that_the_filter_applies() {
        let mut overrides = Overrides::default();
        let start = Timestamp::from_second(1000).unwrap();
        for change in [
            rule(Effect::Allow, "192.0.2.0/24", None, None),
            rule(Effect::Allow, "198.51.100.7/32", Some("a"), Some(2000)),
            rule(Effect::Allow, "2001:db8::/32", None, None),
            rule(Effect::Block, "192.0.2.8/29", None, None),
            rule(Effect::Block, "2001:db8:1::/48", Some("b"), None),
        ] {
            overrides.change(&change, start).unwrap();
        }
        let overruled = Overruled::new(&overrides);
        for client in [
            "192.0.2.1",
            "192.0.2.8",
            "192.0.2.15",
            "192.0.2.16",
            "198.51.100.7",
            "198.51.100.8",
            "2001:db8::1",
            "2001:db8:1::1",
            "203.0.113.9",
        ] {
            let client: IpAddr = client.parse().unwrap();
            for (api, second) in [("a", 1500), ("b", 1500), ("a", 2500)] {
                let now = Timestamp::from_second(second).unwrap();
                assert_eq!(
                    overruled.decide(api, client, now),
                    overrides.decide(api, client, now),
                    "{client} at {api}, {second}"
                );
            }
        }
    }
}
