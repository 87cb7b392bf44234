//! Changing the overrides of what is in force.

use jiff::Timestamp;

use super::{Answer, Ending};
use crate::{
    addresses::words::count,
    config::Config,
    overrides::{Change, Changed, Override, Overrides, Rule, shown},
    prepare::Policies,
};

/// The overrides above `policies` once these changes are made, and the answer to each change. One
/// that is refused keeps no other from being made.
pub(super) fn override_with(policies: &Policies, changes: &[Change]) -> (Overrides, Vec<Answer>) {
    let now = Timestamp::now();
    let mut overrides = Overrides::clone(policies.overrides());
    let answers =
        changes.iter().map(
            |change| match checked(policies.spec(), &mut overrides, change, now) {
                Ok(changed) => done(changed),
                Err(message) => Answer {
                    result: Ending::Failed,
                    message,
                    overrides: Vec::new(),
                },
            },
        );
    let answers = answers.collect();
    overrides.forget_ended(now);
    (overrides, answers)
}

fn checked(
    spec: &Config,
    overrides: &mut Overrides,
    change: &Change,
    now: Timestamp,
) -> Result<Changed, String> {
    match change {
        Change::Add(rule) => check_apis(spec, [rule])?,
        Change::Group(rules) => check_apis(spec, rules)?,
        Change::Remove(_) | Change::Lift { .. } | Change::LiftReason(_) => {}
    }
    let changed = overrides.change(change, now);
    changed.map_err(|refused| refused.to_string())
}

/// Checks that there is an API of each name.
fn check_apis<'r>(spec: &Config, rules: impl IntoIterator<Item = &'r Rule>) -> Result<(), String> {
    let is_there = |name: &&String| spec.apis.iter().any(|api| api.name == **name);
    let mut named = rules.into_iter().filter_map(|rule| rule.api.as_ref());
    let Some(name) = named.find(|name| !is_there(name)) else {
        return Ok(());
    };
    let names = spec.apis.iter().map(|api| format!("`{}`", api.name));
    let names: Vec<_> = names.collect();
    Err(format!("no API `{name}`: there are {}", names.join(", ")))
}

fn done(changed: Changed) -> Answer {
    let (message, overrides) = match changed {
        Changed::Added(one) => (describe(&one), vec![one]),
        Changed::Renewed(one, before) => {
            let before = before.map_or_else(
                || "without an end".to_owned(),
                |before| format!("until {before}"),
            );
            (format!("{} (before: {before})", describe(&one)), vec![one])
        }
        Changed::Group(all) => (
            format!(
                "in force: {}",
                count(all.len(), "override of the group", "overrides of the group")
            ),
            all,
        ),
        Changed::Removed(none) if none.is_empty() => (
            "no override has this reason: none is removed".to_owned(),
            none,
        ),
        Changed::Removed(all) => {
            let removed = all
                .iter()
                .map(|one| format!("removed: {} {}", shown(one.rule.source), one));
            (removed.collect::<Vec<_>>().join("\n"), all)
        }
    };
    Answer {
        result: Ending::Done,
        message,
        overrides,
    }
}

/// An override that is in force.
fn describe(one: &Override) -> String {
    format!("in force: {} {one}", shown(one.rule.source))
}
