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
