//! Statements taken together.
//!
//! A Deny that is certain of nothing alone may still take back all that an Allow gives: *allow Alice,
//! deny Alice from here* lets nobody in from here. A request that matches the Allow is known to fulfil
//! the Allow's parts; the Deny's parts that follow from those hold too. And of two Denys one may match
//! whenever the other does not: *deny all but through this endpoint*, and *deny all but through that one*.

use std::collections::BTreeSet;

use crate::{
    evaluate::{Cover, Factor, Findings, Pair, Reach, Rule, Rules},
    syntax::{
        condition::{Condition, Test, TextMatch},
        principal::Principal,
        resource::{Form, Pattern, Resource},
        statement::Effect,
    },
    text::pattern,
};

/// Pairs of statements that are looked at; beyond it only single statements are.
const MOST_PAIRS: usize = 1_000;

/// The work that looking at pairs may take, in ranges of addresses.
const MOST_WORK: usize = 50_000_000;

/// Finds which statements decide together what none of them decides alone.
pub(crate) fn find(rules: &mut Rules, found: &Findings<Reach>, implicit_deny: bool) {
    let denies = uncertain(rules, found, Effect::Deny);
    let allows = uncertain(rules, found, Effect::Allow);
    let ranges = |index: &usize| {
        let found = found.statements.get(*index);
        found.map_or(0, |found| found.answer.ranges_len())
    };
    let ranges: usize = denies.iter().map(ranges).sum();
    let affordable = |statements: usize| {
        statements.saturating_mul(denies.len()) <= MOST_PAIRS
            && statements.saturating_mul(ranges) <= MOST_WORK
    };
    if affordable(denies.len()) {
        rules.pairs = exhaustive_pairs(rules, &denies);
    }
    if implicit_deny && affordable(allows.len()) {
        rules.covers = covers(rules, &allows, &denies);
    }
}

/// The statements of that effect that are uncertain of some source.
fn uncertain(rules: &Rules, found: &Findings<Reach>, effect: Effect) -> Vec<usize> {
    let statements = rules.all.iter().zip(&found.statements).enumerate();
    statements
        .filter(|(_, (rule, found))| rule.statement.effect == effect && !found.answer.is_certain())
        .map(|(index, _)| index)
        .collect()
}

fn covers(rules: &Rules, allows: &[usize], denies: &[usize]) -> Vec<Cover> {
    let rule = |index: &usize| Some((*index, rules.all.get(*index)?));
    let mut covers = Vec::new();
    for (allow, given) in allows.iter().filter_map(rule) {
        let given: Vec<Factor<'_>> = given.factors().collect();
        for (deny, rule) in denies.iter().filter_map(rule) {
            let parts = rule.factors().enumerate();
            let open = parts.filter(|(_, part)| !implied(part, &given));
            let open: Vec<usize> = open.map(|(index, _)| index).collect();
            if open.len() < rule.factors().count() {
                covers.push(Cover { allow, deny, open });
            }
        }
    }
    covers
}

fn exhaustive_pairs(rules: &Rules, denies: &[usize]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (nth, first) in denies.iter().enumerate() {
        for second in denies.iter().skip(nth + 1) {
            let both = rules.all.get(*first).zip(rules.all.get(*second));
            let parts = both.and_then(|(one, other)| exhaustive_parts(one, other));
            if let Some((part, other)) = parts {
                pairs.push(Pair {
                    statements: [(*first, part), (*second, other)],
                });
            }
        }
    }
    pairs
}

/// A part of each of which one holds whatever the request.
fn exhaustive_parts(one: &Rule, other: &Rule) -> Option<(usize, usize)> {
    one.factors().enumerate().find_map(|(index, part)| {
        let mut others = other.factors().enumerate();
        let (other, _) = others.find(|(_, other)| match (&part, other) {
            (Factor::Condition(one), Factor::Condition(other)) => one_of_both(one, other),
            _ => false,
        })?;
        Some((index, other))
    })
}

/// Whether one of two conditions holds whatever the request. May say no where yes is true.
fn one_of_both(one: &Condition, other: &Condition) -> bool {
    if one.key != other.key || one.key.many != Some(false) {
        return false;
    }
    match (
        one.operator.negated,
        other.operator.negated,
        &one.test,
        &other.test,
    ) {
        (
            _,
            _,
            Test::Presence { absent, present },
            Test::Presence {
                absent: other_absent,
                present: other_present,
            },
        ) => (*absent || *other_absent) && (*present || *other_present),
        (true, true, Test::Texts(one), Test::Texts(other)) => {
            let exact = |how| matches!(how, TextMatch::Exact | TextMatch::Wildcards);
            exact(one.how)
                && exact(other.how)
                && one.templates.is_empty()
                && other.templates.is_empty()
                && one.exact.is_disjoint(&other.exact)
        }
        // What the negated one excepts, the other names.
        (true, false, Test::Texts(_), Test::Texts(_)) => excepts_what_is_named(one, other),
        (false, true, Test::Texts(_), Test::Texts(_)) => excepts_what_is_named(other, one),
        _ => false,
    }
}

fn excepts_what_is_named(negated: &Condition, positive: &Condition) -> bool {
    let plain = |name: &str| name.replacen("Not", "", 1);
    plain(negated.operator.name) == positive.operator.name
        && negated.written.len() <= MOST_VALUES
        && negated
            .written
            .keys()
            .all(|text| positive.written.contains_key(text))
}

/// Whether `factor` holds for every request that fulfils all of `given`. May say no where yes is true.
pub(crate) fn implied(factor: &Factor<'_>, given: &[Factor<'_>]) -> bool {
    given.iter().any(|given| match (factor, given) {
        (Factor::Principal(wide), Factor::Principal(narrow)) => {
            principal_covers(&wide.is, &narrow.is)
        }
        (Factor::Resource(wide, _), Factor::Resource(narrow, _)) => {
            resource_covers(&wide.is, &narrow.is)
        }
        (Factor::Condition(wide), Factor::Condition(narrow)) => condition_covers(wide, narrow),
        _ => false,
    })
}

fn principal_covers(wide: &Principal, narrow: &Principal) -> bool {
    match (wide.except, narrow.except) {
        (false, false) => {
            wide.everyone || (!narrow.everyone && narrow.named.is_subset(&wide.named))
        }
        (true, true) => narrow.everyone || (!wide.everyone && wide.named.is_subset(&narrow.named)),
        _ => false,
    }
}

fn resource_covers(wide: &Resource, narrow: &Resource) -> bool {
    let within = |wide: &[Pattern], narrow: &[Pattern]| {
        const MOST: usize = 64;
        wide.len().max(narrow.len()) <= MOST
            && narrow
                .iter()
                .all(|narrow| wide.iter().any(|wide| pattern_covers(wide, narrow)))
    };
    match (wide.except, narrow.except) {
        (false, false) => within(&wide.patterns, &narrow.patterns),
        (true, true) => within(&narrow.patterns, &wide.patterns),
        _ => false,
    }
}

fn pattern_covers(wide: &Pattern, narrow: &Pattern) -> bool {
    if wide.form == Form::Everything || wide.written == narrow.written {
        return true;
    }
    if let (Some(wide), Some(narrow)) = (wide.short(), narrow.short()) {
        return pattern::covers(wide, narrow);
    }
    match (wide.fields(), narrow.fields()) {
        (Some(wide), Some(narrow)) => {
            pattern::covers(wide.partition, narrow.partition)
                && pattern::covers(wide.region, narrow.region)
                && pattern::covers(wide.account, narrow.account)
                && pattern::covers(wide.rest, narrow.rest)
        }
        _ => false,
    }
}

/// Longer lists of values are not compared.
const MOST_VALUES: usize = 4096;

fn condition_covers(wide: &Condition, narrow: &Condition) -> bool {
    let same = wide.operator.name == narrow.operator.name
        && wide.operator.quantifier == narrow.operator.quantifier
        && wide.key == narrow.key;
    let missing = wide.operator.holds_without_key() || !narrow.operator.holds_without_key();
    let subset = |inner: &Condition, outer: &Condition| {
        let values = |condition: &Condition| condition.written.keys().cloned().collect();
        let (inner, outer): (BTreeSet<String>, BTreeSet<String>) = (values(inner), values(outer));
        inner.is_subset(&outer)
    };
    // Policy variables in the values have the same value in both: it is one request.
    let values = match (&wide.test, &narrow.test) {
        (
            Test::Presence { absent, present },
            Test::Presence {
                absent: given_absent,
                present: given_present,
            },
        ) => (*absent || !given_absent) && (*present || !given_present),
        (Test::Addresses(_), _) | (_, Test::Addresses(_)) => false,
        _ if wide.is_clock() || wide.written.len().max(narrow.written.len()) > MOST_VALUES => false,
        _ if wide.operator.negated => subset(wide, narrow),
        _ => subset(narrow, wide),
    };
    same && missing && values
}

#[cfg(test)]
mod tests {
    use crate::{Decision, Options, Source, parse};

    /// Whether what an Allow with `given` allows is taken back whole by a Deny with `taken`.
    fn taken_back(given: &str, taken: &str) -> bool {
        let statement = |effect: &str, changes: &str| {
            let mut text = format!("\"Effect\": \"{effect}\", \"Action\": \"*\"");
            for name in ["Principal", "Resource"] {
                if !changes.contains(&format!("{name}\"")) {
                    text = format!("{text}, \"{name}\": \"*\"");
                }
            }
            format!("{{{text}, {changes}}}")
        };
        let text = format!(
            "{{\"Statement\": [{}, {}]}}",
            statement("Allow", given),
            statement("Deny", taken)
        );
        let policy = parse(&Source::new("pair", text.as_str()), &Options::default())
            .policy
            .unwrap();
        let (source, now) = ("203.0.113.7".parse().unwrap(), jiff::Timestamp::UNIX_EPOCH);
        let denied = policy.explain(source, now).decision == Decision::Deny;
        assert_eq!(policy.at(now).may_pass.contains(source), !denied, "{text}");
        denied
    }

    #[test]
    fn a_missing_key_tells_operators_apart() {
        let condition =
            |operator: &str| condition(&format!(r#""{operator}": {{"aws:CalledVia": "a"}}"#));
        let (plain, with_missing) = (
            condition("ForAnyValue:StringNotEquals"),
            condition("ForAnyValue:StringNotEqualsIfExists"),
        );
        assert!(taken_back(&plain, &with_missing));
        assert!(!taken_back(&with_missing, &plain));
    }

    fn condition(text: &str) -> String {
        format!("\"Condition\": {{{text}}}")
    }

    #[test]
    fn the_wider_takes_back_the_narrower() {
        let arn =
            |rest: &str| format!("\"Resource\": \"arn:aws:execute-api:*:*:abcdef1234/{rest}\"");
        let short = |rest: &str| format!("\"Resource\": \"execute-api:/{rest}\"");
        let aws = |names: &str| format!("\"Principal\": {{\"AWS\": [{names}]}}");
        let but = |names: &str| format!("\"NotPrincipal\": {{\"AWS\": [{names}]}}");
        let (one, two) = ("\"111122223333\"", "\"111122223333\", \"444455556666\"");
        for (narrow, wide) in [
            (arn("prod/GET/*"), arn("prod/*")),
            (short("prod/GET/pets"), short("*/GET/*")),
            (short("prod/GET/pets"), short("prod/GET/*")),
            (aws(one), aws(two)),
            (but(two), but(one)),
            (
                condition(r#""StringEquals": {"aws:UserAgent": "a"}"#),
                condition(r#""StringEquals": {"aws:useragent": ["a", "b"]}"#),
            ),
            (
                condition(r#""StringNotLike": {"aws:UserAgent": ["a", "b"]}"#),
                condition(r#""StringNotLike": {"aws:UserAgent": "a"}"#),
            ),
            (
                condition(r#""Bool": {"aws:SecureTransport": "false"}"#),
                condition(r#""BoolIfExists": {"aws:SecureTransport": "false"}"#),
            ),
            (
                condition(
                    r#""Null": {"aws:Referer": "true"}, "StringLike": {"aws:UserAgent": "a"}"#,
                ),
                condition(r#""Null": {"aws:Referer": "true"}"#),
            ),
        ] {
            assert!(taken_back(&narrow, &wide), "{narrow} {wide}");
            assert!(taken_back(&narrow, &narrow), "{narrow}");
            assert!(!taken_back(&wide, &narrow), "{wide} {narrow}");
        }
    }

    #[test]
    fn what_differs_takes_nothing_back() {
        for (given, taken) in [
            (
                r#""StringEquals": {"aws:UserAgent": "a"}"#,
                r#""StringLike": {"aws:UserAgent": "a"}"#,
            ),
            (
                r#""StringEquals": {"aws:UserAgent": "a"}"#,
                r#""StringEquals": {"aws:Referer": "a"}"#,
            ),
            (
                r#""StringEquals": {"aws:UserAgent": "a"}"#,
                r#""StringNotEquals": {"aws:UserAgent": "a"}"#,
            ),
            (
                r#""Null": {"aws:Referer": "true"}"#,
                r#""Null": {"aws:Referer": "false"}"#,
            ),
        ] {
            assert!(
                !taken_back(&condition(given), &condition(taken)),
                "{given} {taken}"
            );
        }
    }
}
