//! Statements that never matter, or no longer.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use jiff::Timestamp;

use crate::{
    evaluate::{Answer as _, Factor, Reach, Rule},
    policy::Policy,
    syntax::{
        action::INVOKE,
        condition::{Condition, Test},
        statement::{Effect, Statement},
    },
    text::problem::{Advice, Path, Problems, Severity},
};

/// More instants in one statement are not searched for a contradiction.
const MOST_INSTANTS: usize = 256;

/// The work that searching for shadowed statements may take, in ranges looked at.
const MOST_WORK: usize = 50_000_000;

pub(super) fn remark(policy: &Policy, now: Timestamp, problems: &mut Problems) {
    let allows = |rule: &Rule| rule.statement.effect == Effect::Allow;
    if !policy.rules.all.iter().any(allows) && policy.implicit_deny {
        let path = Path::Root.name("Statement");
        problems.warn("no-allow", &(&path, policy.span()), || {
            Advice::new("no statement allows anything: every source is denied")
                .hint("add a statement with \"Effect\": \"Allow\"")
        });
    }
    for (index, rule) in policy.rules.all.iter().enumerate() {
        let statement = &rule.statement;
        if let Some(reason) = never_matches(policy, index, rule) {
            let nobody = match statement.effect {
                Effect::Allow => "it allows nobody",
                Effect::Deny => "it denies nobody",
            };
            note(problems, index, statement, "never", || {
                Advice::new(format!("the statement never matches: {reason}"))
                    .hint(format!("{nobody}: correct it, or remove it"))
            });
        } else if let Some(end) = expired(rule, now) {
            let (over, does) = match statement.effect {
                Effect::Allow => ("the Allow's time is over", "it allows nobody any more"),
                Effect::Deny => ("the Deny's time is over", "it denies nobody any more"),
            };
            note(problems, index, statement, "expired", || {
                Advice::new(format!("{over} since {end}: {does}"))
                    .hint("set another time, or remove the statement")
            });
        }
    }
    remark_repeated(policy, problems);
    remark_together(policy, problems);
    remark_shadowed(policy, problems);
}

fn note(
    problems: &mut Problems,
    index: usize,
    statement: &Statement,
    kind: &'static str,
    advice: impl FnOnce() -> Advice,
) {
    problems.statement = Some(statement.id(index));
    problems.add(
        Severity::Warning,
        kind,
        &statement.path,
        &statement.span,
        advice,
    );
    problems.statement = None;
}

fn never_matches(policy: &Policy, index: usize, rule: &Rule) -> Option<&'static str> {
    let statement = &rule.statement;
    if !statement.action.is.covers(INVOKE) {
        return Some("its actions leave out `execute-api:Invoke`, which every call asks for");
    }
    if policy.reach(index).is_some_and(Reach::is_no) {
        let mut never = rule.factors().filter(|factor| policy.part(factor).is_no());
        return Some(match never.next() {
            Some(Factor::Resource(..)) => "its resources take in no call of this API",
            Some(Factor::Principal(_)) => "its principals take in nobody",
            _ => "no source fulfils all its conditions",
        });
    }
    let times: Vec<_> = statement.boundaries().collect();
    let may_come = times.is_empty()
        || times.len() > MOST_INSTANTS
        || rule.is_active(Timestamp::MIN)
        || times.iter().any(|time| rule.is_active(*time));
    (!may_come).then_some("there is no time at which its conditions hold")
}

/// Since when the statement's conditions on the clock hold no more.
fn expired(rule: &Rule, now: Timestamp) -> Option<Timestamp> {
    let times: Vec<_> = rule.statement.boundaries().collect();
    if times.len() > MOST_INSTANTS {
        return None;
    }
    let last = times.iter().max()?;
    if *last > now || rule.is_active(*last) {
        return None;
    }
    // It may have been over before: the last boundary before which it held.
    let active = times.iter().filter(|time| rule.is_active(**time)).max();
    let ends = times
        .iter()
        .filter(|time| active.is_none_or(|active| *time > active));
    ends.min().copied()
}

/// A statement that says what another has said.
fn remark_repeated(policy: &Policy, problems: &mut Problems) {
    let mut seen = HashMap::new();
    for (index, rule) in policy.rules.all.iter().enumerate() {
        match seen.entry(fingerprint(&rule.statement)) {
            Entry::Vacant(entry) => drop(entry.insert(index)),
            Entry::Occupied(entry) => {
                let first = *entry.get();
                note(problems, index, &rule.statement, "repeated", || {
                    Advice::new(format!(
                        "the statement says what statement {first} says already"
                    ))
                    .hint("remove one of them")
                });
            }
        }
    }
}

/// What a statement says, whatever its `Sid` and the order of its lists.
fn fingerprint(statement: &Statement) -> u64 {
    let mut hasher = DefaultHasher::new();
    let sorted = |mut texts: Vec<&str>| {
        texts.sort_unstable();
        texts.dedup();
        texts.join("\n")
    };
    let Statement {
        principal,
        action,
        resource,
        ..
    } = statement;
    (
        statement.effect,
        principal.is.except,
        principal.is.everyone,
        &principal.is.named,
    )
        .hash(&mut hasher);
    action.is.except.hash(&mut hasher);
    sorted(
        action
            .is
            .named
            .iter()
            .map(|one| one.written.as_str())
            .collect(),
    )
    .hash(&mut hasher);
    resource.is.except.hash(&mut hasher);
    sorted(
        resource
            .is
            .patterns
            .iter()
            .map(|one| one.written.as_str())
            .collect(),
    )
    .hash(&mut hasher);
    let conditions = statement.conditions.iter().map(condition_fingerprint);
    let mut conditions: Vec<u64> = conditions.collect();
    conditions.sort_unstable();
    conditions.hash(&mut hasher);
    hasher.finish()
}

/// What a condition says, whatever the order of its values.
fn condition_fingerprint(condition: &Condition) -> u64 {
    let mut hasher = DefaultHasher::new();
    condition.operator.hash(&mut hasher);
    condition.key.name.hash(&mut hasher);
    match &condition.test {
        Test::Addresses(listed) => listed.set.hash(&mut hasher),
        _ => condition
            .written
            .keys()
            .for_each(|value| value.hash(&mut hasher)),
    }
    hasher.finish()
}

/// Two Denys one of which always matches.
fn remark_together(policy: &Policy, problems: &mut Problems) {
    for (pair, part) in policy.rules.pairs.iter().filter_map(|pair| {
        let [_, (second, part)] = pair.statements;
        Some((pair, policy.rules.all.get(second)?.factors().nth(part)?))
    }) {
        let Factor::Condition(condition) = part else {
            continue;
        };
        let [(first, _), (second, _)] = pair.statements;
        let Some(rule) = policy.rules.all.get(second) else {
            continue;
        };
        let key = &condition.key.name;
        note(problems, second, &rule.statement, "together", || {
            Advice::new(format!(
                "together with statement {first} it denies whatever `{key}` is: a request has only one"
            ))
            .hint("put the values of both into one list, in one statement")
        });
    }
}

/// An Allow whose every source is denied for certain, at all times.
fn remark_shadowed(policy: &Policy, problems: &mut Problems) {
    let reaches = || {
        let rules = policy.rules.all.iter().enumerate();
        rules.filter_map(|(index, rule)| Some((index, &rule.statement, policy.reach(index)?)))
    };
    let denied = reaches()
        .filter(|(_, statement, _)| {
            statement.effect == Effect::Deny && statement.boundaries().next().is_none()
        })
        .map(|(_, _, reach)| reach.certain.clone())
        .collect();
    let denied = ipfilter_addresses::AddressSet::union_all(denied);
    let ranges = denied.v4.ranges_len() + denied.v6.ranges_len();
    if denied.is_empty() || ranges.saturating_mul(policy.statements_len()) > MOST_WORK {
        return;
    }
    for (index, statement, reach) in reaches() {
        let shadowed = statement.effect == Effect::Allow
            && !reach.possible.is_empty()
            && reach.possible.difference(&denied).is_empty();
        if shadowed {
            note(problems, index, statement, "shadowed", || {
                Advice::new("the statement has no effect: other statements deny all that it allows")
                    .hint("a Deny wins over any Allow, whatever their order")
            });
        }
    }
}
