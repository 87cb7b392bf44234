use std::net::Ipv4Addr;

use jiff::SignedDuration;
use proptest::{collection::vec, option, prelude::*};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn rule(effect: Effect, source: &str, until: Option<i64>) -> Rule {
    Rule {
        effect,
        source: parse_source(source).unwrap(),
        api: None,
        until: until.map(at),
        reason: None,
    }
}

fn add(overrides: &mut Overrides, rule: Rule, now: i64) -> Result<Changed, Refused> {
    overrides.change(&Change::Add(rule), at(now))
}

#[test]
fn a_block_wins_over_an_allow_and_both_over_the_policy() {
    let mut all = Overrides::default();
    add(
        &mut all,
        rule(Effect::Allow, "203.0.113.0/24", Some(100)),
        0,
    )
    .unwrap();
    add(&mut all, rule(Effect::Block, "203.0.113.7", None), 0).unwrap();
    let passes = |source: &str, now| {
        let set = all.apply("api", AddressSet::empty(), at(now));
        set.contains(source.parse().unwrap())
    };
    assert!(passes("203.0.113.8", 99));
    assert!(!passes("203.0.113.7", 99));
    assert!(!passes("203.0.113.8", 100), "it ends at its time");
    let decides = |source: &str| {
        all.decide("api", source.parse().unwrap(), at(0))
            .map(|one| one.id)
    };
    assert_eq!(decides("203.0.113.7"), Some(2));
    assert_eq!(decides("203.0.113.8"), Some(1));
    assert_eq!(decides("198.51.100.1"), None);
}

#[test]
fn the_same_again_is_renewed_and_an_allow_of_what_is_blocked_is_refused() {
    let mut all = Overrides::default();
    add(&mut all, rule(Effect::Block, "203.0.113.7", Some(10)), 0).unwrap();
    let again = add(&mut all, rule(Effect::Block, "203.0.113.7", Some(20)), 5).unwrap();
    assert!(
        matches!(again, Changed::Renewed(one, Some(before)) if one.id == 1 && before == at(10))
    );
    let refused = add(&mut all, rule(Effect::Allow, "203.0.113.7", Some(20)), 5).unwrap_err();
    assert!(
        refused.to_string().contains("blocked by override 1"),
        "{refused}"
    );
    add(&mut all, rule(Effect::Allow, "203.0.113.7", Some(30)), 20).unwrap();
    let late = add(&mut all, rule(Effect::Block, "203.0.113.9", Some(20)), 20).unwrap_err();
    assert_eq!(late, Refused::Over(at(20)));
}

#[test]
fn what_has_ended_stays_ended_when_the_clock_is_set_back() {
    let mut all = Overrides::default();
    add(&mut all, rule(Effect::Allow, "203.0.113.7", Some(10)), 0).unwrap();
    assert_eq!(all.forget_ended(at(9)), 0);
    assert_eq!(all.forget_ended(at(10)), 1);
    assert_eq!(all.active(at(0)).count(), 0);
    let next = add(&mut all, rule(Effect::Allow, "203.0.113.7", Some(10)), 0).unwrap();
    assert!(
        matches!(next, Changed::Added(one) if one.id == 2),
        "numbers are not used twice"
    );
}

#[test]
fn removing_is_whole_or_refused() {
    let mut all = Overrides::default();
    for last in 1..=3 {
        add(
            &mut all,
            rule(Effect::Block, &format!("203.0.113.{last}"), None),
            0,
        )
        .unwrap();
    }
    let refused = all.change(&Change::Remove(vec![1, 9]), at(0)).unwrap_err();
    assert_eq!(refused, Refused::Unknown(9));
    assert_eq!(all.iter().count(), 3);
    all.change(&Change::Remove(vec![1, 3]), at(0)).unwrap();
    let lift = Change::Lift {
        effect: Effect::Block,
        source: parse_source("203.0.113.2").unwrap(),
        api: None,
    };
    all.change(&lift, at(0)).unwrap();
    assert!(all.is_empty());
    assert!(all.change(&lift, at(0)).is_err());
}

#[test]
fn those_with_a_reason_are_removed_together_and_there_may_be_none() {
    let mut all = Overrides::default();
    for (last, reason) in [
        (1, Some("jail")),
        (2, Some("jail 2")),
        (3, Some("jail")),
        (4, None),
    ] {
        let source = format!("203.0.113.{last}");
        let rule = Rule {
            reason: reason.map(Into::into),
            ..rule(Effect::Block, &source, None)
        };
        add(&mut all, rule, 0).unwrap();
    }
    let lift = Change::LiftReason("jail".into());
    let ids = |changed| match changed {
        Changed::Removed(all) => all.iter().map(|one| one.id).collect(),
        _ => Vec::new(),
    };
    assert_eq!(ids(all.change(&lift, at(0)).unwrap()), [1, 3]);
    assert!(ids(all.change(&lift, at(0)).unwrap()).is_empty());
    assert_eq!(all.iter().count(), 2);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_write() {
    for (text, said) in [
        (
            "203.0.113.7/24",
            "write `203.0.113.7` for the one address, or `203.0.113.0/24`",
        ),
        ("::ffff:203.0.113.7", "write `203.0.113.7`"),
        ("203.0.113.0/33", "neither an address"),
        ("", "neither an address"),
        ("localhost", "neither an address"),
    ] {
        let error = parse_source(text).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    for (text, said) in [
        ("0s", "no time at all"),
        ("-2h", "no time at all"),
        ("1y", "longer than 31 days"),
        ("32d", "longer than 31 days"),
        ("forever", "write `--forever`"),
        ("2", "not a time"),
        ("soon", "not a time"),
    ] {
        let error = parse_duration(text).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(parse_duration("2h"), Ok(SignedDuration::from_hours(2)));
    assert_eq!(parse_duration("7d"), Ok(SignedDuration::from_hours(168)));
}

#[test]
fn ends_are_whole_seconds_and_never_early() {
    let now = Timestamp::from_millisecond(1_500).unwrap();
    assert_eq!(end(now, SignedDuration::from_secs(2)), at(4));
    assert_eq!(end(at(1), SignedDuration::from_secs(2)), at(3));
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Block)];
    let api = option::of(prop_oneof![Just("a".to_owned()), Just("b".to_owned())]);
    (effect, 0_u8..8, 29_u8..=32, api, option::of(1_i64..10)).prop_map(
        |(effect, last, length, api, until)| Rule {
            effect,
            source: ipnet::Ipv4Net::new(Ipv4Addr::new(192, 0, 2, last), length)
                .unwrap()
                .trunc()
                .into(),
            api,
            until: until.map(at),
            reason: None,
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_rule().prop_map(Change::Add),
        1 => vec(1_u64..8, 1..3).prop_map(Change::Remove),
    ]
}

proptest! {
    /// The sets say what a walk through the list says, after any changes and at any time; and what is
    /// written is read again.
    #[test]
    fn sets_are_what_the_list_says(changes in vec((any_change(), 0_i64..6), 0..20), open in vec(0_u8..8, 0..4)) {
        let mut all = Overrides::default();
        // What a change that was accepted asked for.
        let mut naive: Vec<(u64, Rule)> = Vec::new();
        for (change, now) in &changes {
            let Ok(changed) = all.change(change, at(*now)) else { continue };
            match changed {
                Changed::Added(one) => naive.push((one.id, one.rule)),
                Changed::Renewed(one, _) => naive.iter_mut().filter(|(id, _)| *id == one.id).for_each(|(_, rule)| *rule = one.rule.clone()),
                Changed::Group(_) => prop_assert!(false, "no change is of the group"),
                Changed::Removed(gone) => naive.retain(|(id, _)| gone.iter().all(|one| one.id != *id)),
            }
        }
        let written = serde_json::to_vec(&all).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Overrides>(&written).unwrap(), &all);
        let address = |last: u8| IpAddr::from([192, 0, 2, last]);
        let policy = AddressSet::from_networks(open.iter().map(|last| address(*last).into()));
        for now in 0..11 {
            let now = at(now);
            for api in ["a", "b"] {
                let set = all.apply(api, policy.clone(), now);
                for last in 0..8 {
                    let says = |effect| naive.iter().any(|(_, rule)| rule.effect == effect
                        && rule.source.contains(&address(last))
                        && rule.api.as_deref().is_none_or(|own| own == api)
                        && rule.until.is_none_or(|until| now < until));
                    let passes = !says(Effect::Block) && (says(Effect::Allow) || open.contains(&last));
                    prop_assert_eq!(set.contains(address(last)), passes);
                    let decided = all.decide(api, address(last), now).map(|one| one.rule.effect);
                    prop_assert_eq!(decided.map_or(open.contains(&last), |effect| effect == Effect::Allow), passes);
                }
            }
        }
    }
}

#[test]
fn a_groups_overrides_are_replaced_whole_and_only_by_the_group() {
    let mut all = Overrides::default();
    add(&mut all, rule(Effect::Block, "203.0.113.7", None), 0).unwrap();
    let group = |all: &mut Overrides, rules: &[Rule], now| {
        let change = Change::Group(rules.to_vec());
        let Changed::Group(group) = all.change(&change, at(now)).unwrap() else {
            panic!("another change");
        };
        group.iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let [first, second, over] = [
        rule(Effect::Block, "203.0.113.7", None),
        rule(Effect::Allow, "198.51.100.0/24", Some(100)),
        rule(Effect::Allow, "192.0.2.0/24", Some(5)),
    ];
    assert_eq!(group(&mut all, &[first.clone(), over], 5), [2]);
    assert_eq!(group(&mut all, &[first.clone(), second], 6), [2, 3]);
    let refused = all.change(&Change::Remove(vec![2]), at(7)).unwrap_err();
    assert_eq!(refused, Refused::OfGroup(2));
    let lift = Change::Lift {
        effect: Effect::Block,
        source: first.source,
        api: None,
    };
    assert!(matches!(all.change(&lift, at(7)), Ok(Changed::Removed(one)) if one[0].id == 1));
    assert!(matches!(
        all.change(&lift, at(7)),
        Err(Refused::Absent { .. })
    ));
    assert_eq!(group(&mut all, &[], 8), [0u64; 0]);
    assert!(all.is_empty());
    let kept = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Overrides>(&kept).unwrap(), all);
}
