//! Both ways to evaluate a policy agree: all sources at once, and one address at a time.

use ipfilter::policy::{Authorizer, Decision, Options, Policy, Source, parse};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::Value;

use crate::generate;

fn read(policy: &Value, authorizer: Authorizer) -> Policy {
    let options = Options {
        api_arn: Some(generate::API.parse().expect("an API's ARN")),
        authorizer,
        ..Options::default()
    };
    let parsed = parse(&Source::new("policy", policy.to_string()), &options);
    parsed
        .policy
        .unwrap_or_else(|| panic!("{policy}: {:#?}", parsed.problems))
}

pub(crate) fn assert_equivalent(policy: &Policy, now: Timestamp) {
    let decisions = policy.at(now);
    let outside = decisions.allowed.difference(&decisions.may_pass);
    assert!(outside.is_empty(), "allowed but not let pass: {outside:?}");
    for source in generate::sources() {
        let decision = policy.explain(source, now).decision;
        let passes = decisions.may_pass.contains(source);
        assert_eq!(passes, decision != Decision::Deny, "{source} {now}");
        let allowed = decisions.allowed.contains(source);
        assert_eq!(allowed, decision == Decision::Allow, "{source} {now}");
        if decision == Decision::Depends {
            assert!(
                policy.is_partial(),
                "{source} {now} is undecided in an exact policy"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn sets_and_single_addresses_agree(policy in generate::policy(), iam in any::<bool>()) {
        let authorizer = if iam { Authorizer::Iam } else { Authorizer::None };
        let policy = read(&policy, authorizer);
        for now in generate::times() {
            assert_equivalent(&policy, now);
        }
    }

    #[test]
    fn decisions_change_only_at_boundaries(policy in generate::policy()) {
        let policy = read(&policy, Authorizer::None);
        for now in generate::times() {
            let next = policy.next_boundary(now);
            let last = match next {
                Some(next) => next - SignedDuration::from_millis(1),
                None => Timestamp::MAX,
            };
            prop_assert!(last >= now);
            prop_assert_eq!(policy.at(now), policy.at(last));
        }
    }
}
