//! Which statements make the difference between two policies.

use jiff::Timestamp;

use ipfilter_addresses::{AddressSet, Difference};

use crate::{policy::Policy, syntax::statement::Effect};

/// Which of two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The earlier one.
    Before,
    /// The later one.
    After,
}

/// A statement that makes a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The policy that the statement is in.
    pub side: Side,
    /// Its index in that policy.
    pub statement: usize,
    /// Its effect.
    pub effect: Effect,
    /// The sources for which it makes the difference.
    pub sources: AddressSet,
}

/// The statements behind `difference`, that of two policies' sources at `now`: who gains, and who loses.
///
/// A source loses access by each Deny of the later policy that is certain of it; where there is none,
/// for lack of the Allows that it had. It gains likewise: because each Deny that was certain of it is
/// gone, or else by the Allows that it has now.
#[must_use]
pub fn causes(
    difference: &Difference,
    before: &Policy,
    after: &Policy,
    now: Timestamp,
) -> [Vec<Cause>; 2] {
    let gained = why_denied(
        Side::Before,
        before,
        Side::After,
        after,
        &difference.gained,
        now,
    );
    let lost = why_denied(
        Side::After,
        after,
        Side::Before,
        before,
        &difference.lost,
        now,
    );
    [gained, lost]
}

/// Why `sources` are denied by one policy, and allowed by the other.
fn why_denied(
    denying_side: Side,
    denying: &Policy,
    allowing_side: Side,
    allowing: &Policy,
    sources: &AddressSet,
    now: Timestamp,
) -> Vec<Cause> {
    if sources.is_empty() {
        return Vec::new();
    }
    let mut causes = parts(denying_side, denying, Effect::Deny, sources, now);
    let explicit = causes.iter().map(|cause| cause.sources.clone()).collect();
    let rest = sources.difference(&AddressSet::union_all(explicit));
    causes.extend(parts(allowing_side, allowing, Effect::Allow, &rest, now));
    causes
}

/// The statements of one effect that match some of `sources`: a Deny for certain, an Allow possibly.
fn parts(
    side: Side,
    policy: &Policy,
    effect: Effect,
    sources: &AddressSet,
    now: Timestamp,
) -> Vec<Cause> {
    let rules = policy.rules.all.iter().enumerate();
    let active = rules.filter(|(_, rule)| rule.statement.effect == effect && rule.is_active(now));
    let reaches = active.filter_map(|(index, _)| Some((index, policy.reach(index)?)));
    let causes = reaches.map(|(statement, reach)| Cause {
        side,
        statement,
        effect,
        sources: sources.intersection(match effect {
            Effect::Deny => &reach.certain,
            Effect::Allow => &reach.possible,
        }),
    });
    causes.filter(|cause| !cause.sources.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Source, parse};

    fn policy(statements: &str) -> Policy {
        let text = format!(r#"{{"Statement": [{statements}]}}"#);
        let parsed = parse(&Source::new("test.json", text), &Options::default());
        parsed.policy.unwrap()
    }

    fn statement(effect: &str, condition: &str) -> String {
        format!(
            r#"{{"Effect": "{effect}", "Principal": "*", "Action": "execute-api:Invoke",
               "Resource": "execute-api:/*", "Condition": {condition}}}"#
        )
    }

    fn compare(before: &str, after: &str) -> (Difference, [Vec<Cause>; 2]) {
        let (before, after) = (policy(before), policy(after));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let access = Difference::between(&before.at(now).may_pass, &after.at(now).may_pass);
        let causes = causes(&access, &before, &after, now);
        (access, causes)
    }

    #[test]
    fn a_deny_that_comes_and_an_allow_that_goes_are_named() {
        let everyone = statement(
            "Allow",
            r#"{"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}"#,
        );
        let fewer = statement(
            "Allow",
            r#"{"IpAddress": {"aws:SourceIp": "192.0.2.0/25"}}"#,
        );
        let deny = statement("Deny", r#"{"IpAddress": {"aws:SourceIp": "192.0.2.1"}}"#);
        let (access, [gained, lost]) = compare(&everyone, &format!("{fewer}, {deny}"));
        assert!(gained.is_empty());
        let named: Vec<_> = lost
            .iter()
            .map(|cause| (cause.side, cause.statement, cause.sources.v4.count()))
            .collect();
        assert_eq!(named, [(Side::After, 1, 1), (Side::Before, 0, 128)]);
        assert_eq!(access.lost.v4.count(), 129);
        // And back.
        let (_, [gained, lost]) = compare(&format!("{fewer}, {deny}"), &everyone);
        assert!(lost.is_empty());
        let named: Vec<_> = gained
            .iter()
            .map(|cause| (cause.side, cause.effect))
            .collect();
        assert_eq!(
            named,
            [(Side::Before, Effect::Deny), (Side::After, Effect::Allow)]
        );
    }
}
