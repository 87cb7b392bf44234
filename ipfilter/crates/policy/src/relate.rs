//! The parts a statement's match is made of, and when one follows from another statement's.
//!
//! A Deny that is certain of nothing alone may still take back all that an Allow gives: *allow Alice,
//! deny Alice from here* lets nobody in from here. A request that matches the Allow is known to fulfil
//! the Allow's factors; the Deny's factors that follow from those hold too.

use super::{
    action::Action,
    condition::{Condition, Test},
    pattern,
    principal::Principal,
    resource::{Form, Pattern, Resource},
    statement::{Element, Statement},
    verdict::Verdict,
};

/// One part of a statement's match; all must hold.
#[derive(Clone, Copy)]
pub(crate) enum Factor<'s> {
    Principal(&'s Element<Principal>),
    Action(&'s Element<Action>),
    /// With what it comes to for this API.
    Resource(&'s Element<Resource>, Verdict),
    Condition(&'s Condition),
}

impl Statement {
    /// The parts of its match; `resource` is what the resources come to.
    pub(crate) fn factors(&self, resource: Verdict) -> Vec<Factor<'_>> {
        let mut factors = vec![
            Factor::Principal(&self.principal),
            Factor::Action(&self.action),
            Factor::Resource(&self.resource, resource),
        ];
        factors.extend(self.conditions.iter().map(Factor::Condition));
        factors
    }
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
            && narrow.iter().all(|narrow| {
                wide.iter()
                    .any(|wide| form_covers(&wide.form, &narrow.form))
            })
    };
    match (wide.except, narrow.except) {
        (false, false) => within(&wide.patterns, &narrow.patterns),
        (true, true) => within(&narrow.patterns, &wide.patterns),
        _ => false,
    }
}

fn form_covers(wide: &Form, narrow: &Form) -> bool {
    match (wide, narrow) {
        (Form::Everything, _) => true,
        (Form::Short(wide), Form::Short(narrow)) => pattern::covers(wide, narrow),
        (Form::Arn(wide), Form::Arn(narrow)) => {
            pattern::covers(&wide.partition, &narrow.partition)
                && pattern::covers(&wide.region, &narrow.region)
                && pattern::covers(&wide.account, &narrow.account)
                && pattern::covers(&wide.rest, &narrow.rest)
        }
        _ => false,
    }
}

/// Longer lists of values are not compared.
const MOST_VALUES: usize = 4096;

fn condition_covers(wide: &Condition, narrow: &Condition) -> bool {
    let same = wide.operator.name == narrow.operator.name && wide.key == narrow.key;
    // `…IfExists` also holds for want of the key; the plain operator does not follow from it.
    let missing = wide.operator.if_exists || !narrow.operator.if_exists || wide.operator.negated;
    // Policy variables in the values stand for the same in both: it is one request.
    let values = match (&wide.test, &narrow.test) {
        (Test::Unseen(wide), Test::Unseen(narrow))
            if wide.len().max(narrow.len()) > MOST_VALUES =>
        {
            false
        }
        (Test::Unseen(wide_values), Test::Unseen(narrow_values)) if wide.operator.negated => {
            wide_values.is_subset(narrow_values)
        }
        (Test::Unseen(wide), Test::Unseen(narrow)) => narrow.is_subset(wide),
        (
            Test::Presence { absent, present },
            Test::Presence {
                absent: given_absent,
                present: given_present,
            },
        ) => (*absent || !given_absent) && (*present || !given_present),
        _ => false,
    };
    same && missing && values
}

#[cfg(test)]
mod tests {
    use super::super::{Decision, Options, Source, parse};

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
