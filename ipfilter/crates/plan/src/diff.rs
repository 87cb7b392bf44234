//! What changes from one plan to the next, for the log and for the answer to a reload.

use std::fmt;

use super::{Api, Plan};
use ipfilter_addresses::AddressSet;

/// What is different in a later plan. APIs are the same if their names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<'a> {
    /// The APIs that only the later plan has.
    pub added: Vec<&'a Api>,
    /// The APIs that only the earlier plan has.
    pub removed: Vec<&'a Api>,
    /// The APIs that both have, but not alike.
    pub changed: Vec<Change<'a>>,
    /// Whether the destination addresses differ.
    pub addresses: bool,
    /// Whether the APIs that both have stand in another order.
    pub order: bool,
}

/// An API that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// As it was.
    pub before: &'a Api,
    /// As it will be.
    pub after: &'a Api,
    /// The sources that may pass now and could not before.
    pub admitted: AddressSet,
    /// The sources that could pass before and may not now.
    pub denied: AddressSet,
}

impl<'a> Diff<'a> {
    pub(super) fn between(before: &'a Plan, after: &'a Plan) -> Self {
        let pairs: Vec<_> = after
            .apis
            .iter()
            .filter_map(|api| Some((before.api(&api.name)?, api)))
            .collect();
        let kept = before
            .apis
            .iter()
            .filter(|api| after.api(&api.name).is_some());
        let order = !kept
            .map(|api| &api.name)
            .eq(pairs.iter().map(|(_, api)| &api.name));
        let only = |these: &'a Plan, those: &Plan| {
            let missing = these
                .apis
                .iter()
                .filter(|api| those.api(&api.name).is_none());
            missing.collect()
        };
        Self {
            added: only(after, before),
            removed: only(before, after),
            changed: pairs
                .into_iter()
                .filter(|(before, after)| before != after)
                .map(|(before, after)| Change::between(before, after))
                .collect(),
            addresses: before.addresses != after.addresses,
            order,
        }
    }

    /// Whether the plans enforce the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let apis = self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty();
        apis && !self.addresses && !self.order
    }
}

impl<'a> Change<'a> {
    fn between(before: &'a Api, after: &'a Api) -> Self {
        Self {
            before,
            after,
            admitted: after.sources.difference(&before.sources),
            denied: before.sources.difference(&after.sources),
        }
    }

    fn phrases(&self) -> impl Iterator<Item = String> {
        let (before, after) = (self.before, self.after);
        let moved = |what, old: &dyn fmt::Display, new: &dyn fmt::Display| {
            let (old, new) = (old.to_string(), new.to_string());
            (old != new).then(|| format!("{what} {old} become {new}"))
        };
        let deny = (before.deny != after.deny)
            .then(|| format!("deny action {} becomes {}", before.deny, after.deny));
        [
            moved("ports", &before.ports, &after.ports),
            moved("protocols", &before.protocols, &after.protocols),
            deny,
            ranges(&self.admitted).map(|ranges| format!("{ranges} admitted")),
            ranges(&self.denied).map(|ranges| format!("{ranges} denied")),
        ]
        .into_iter()
        .flatten()
    }
}

/// The number of ranges of a set in words, if it has any.
fn ranges(set: &AddressSet) -> Option<String> {
    let count = |number: usize, family| match number {
        0 => None,
        1 => Some(format!("1 {family} range")),
        _ => Some(format!("{number} {family} ranges")),
    };
    let v4 = count(set.v4.ranges_len(), "IPv4");
    let v6 = count(set.v6.ranges_len(), "IPv6");
    let both: Vec<_> = v4.into_iter().chain(v6).collect();
    (!both.is_empty()).then(|| both.join(" and "))
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self
            .added
            .iter()
            .map(|api| format!("`{}` is new", api.name));
        let removed = self
            .removed
            .iter()
            .map(|api| format!("`{}` is gone", api.name));
        let changed = self.changed.iter().map(|change| {
            let phrases: Vec<_> = change.phrases().collect();
            format!("`{}`: {}", change.after.name, phrases.join(", "))
        });
        let addresses = self.addresses.then(|| "other addresses".to_owned());
        let order = self.order.then(|| "another order".to_owned());
        let all: Vec<_> = added
            .chain(removed)
            .chain(changed)
            .chain(addresses)
            .chain(order)
            .collect();
        if all.is_empty() {
            return f.write_str("no change");
        }
        f.write_str(&all.join("; "))
    }
}
