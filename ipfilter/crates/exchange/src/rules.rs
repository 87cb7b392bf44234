//! Rules in order, of which the first that matches decides.

use ipfilter_addresses::AddressSet;

use crate::block::{Range, set};

/// Rules in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Neighbours differ in what they decide.
    groups: Vec<(bool, Vec<Range>)>,
}

impl Rules {
    /// Adds a rule: what comes from `ranges` is let in, or not.
    pub(crate) fn push(&mut self, allow: bool, ranges: impl IntoIterator<Item = Range>) {
        match self.groups.last_mut() {
            Some((same, group)) if *same == allow => group.extend(ranges),
            _ => self.groups.push((allow, ranges.into_iter().collect())),
        }
    }

    /// Who is let in; `default` decides where no rule matches.
    pub(crate) fn allowed(self, default: bool) -> AddressSet {
        let mut decided = AddressSet::empty();
        let mut allowed = AddressSet::empty();
        for (allow, ranges) in self.groups {
            let new = set(ranges).difference(&decided);
            if allow {
                allowed = allowed.union(&new);
            }
            decided = decided.union(&new);
        }
        if default {
            allowed = allowed.union(&decided.complement());
        }
        allowed
    }
}

/// Every address of one family or of both.
pub(crate) fn everyone(v4: bool, v6: bool) -> impl Iterator<Item = Range> {
    let v4 = v4.then_some(Range::V4(0, u32::MAX));
    let v6 = v6.then_some(Range::V6(0, u128::MAX));
    v4.into_iter().chain(v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut rules = Rules::default();
        let range = |text| Range::parse(text);
        rules.push(false, range("192.0.2.1"));
        rules.push(true, range("192.0.2.0/24"));
        rules.push(false, range("192.0.2.2"));
        let allowed = rules.clone().allowed(false);
        assert!(!allowed.contains("192.0.2.1".parse().unwrap()));
        assert!(allowed.contains("192.0.2.2".parse().unwrap()));
        assert_eq!(allowed.v4.count(), 255);
        assert_eq!(rules.allowed(true).v4.count(), (1 << 32) - 1);
    }
}
