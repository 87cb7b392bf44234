//! What is legal in a policy but cannot be meant: statements that never matter.

use super::{
    Policy,
    problem::{Advice, Path, Problems, Severity},
    statement::{Effect, Statement},
    verdict::Verdict,
};

/// More instants in one statement are not searched for a contradiction.
const MOST_INSTANTS: usize = 256;

/// The work that searching for shadowed statements may take, in ranges looked at.
const MOST_WORK: usize = 50_000_000;

/// Notes the statements of `policy` that never matter.
pub(crate) fn remark(policy: &Policy, problems: &mut Problems) {
    let allows = |statement: &Statement| statement.effect == Effect::Allow;
    if !policy.statements.iter().any(allows) && policy.implicit_deny {
        let span = policy
            .statements
            .first()
            .map_or(0..1, |first| first.span.clone());
        problems.warn("no-allow", &(&Path::Root.name("Statement"), span), || {
            Advice::new("no statement allows anything: every source is denied")
                .hint("add a statement with \"Effect\": \"Allow\"")
        });
    }
    for (index, statement) in policy.statements.iter().enumerate() {
        if let Some(reason) = never_matches(policy, index, statement) {
            note(problems, index, statement, "never", || {
                Advice::new(format!("the statement never matches: {reason}"))
            });
        }
    }
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

fn never_matches(policy: &Policy, index: usize, statement: &Statement) -> Option<&'static str> {
    if !statement.action.is.invoke {
        return Some("its actions leave out `execute-api:Invoke`, which every call asks for");
    }
    if policy.resources.get(index) == Some(&Verdict::No) {
        return Some("its resources take in no call of this API");
    }
    if statement.principal.is.verdict() == Verdict::No {
        return Some("its principals take in nobody");
    }
    if policy
        .evaluation
        .reach(index)
        .is_some_and(|reach| reach.possible.is_empty())
    {
        return Some("no source fulfils all its conditions");
    }
    let times: Vec<_> = statement.boundaries().collect();
    let may_come = times.is_empty()
        || times.len() > MOST_INSTANTS
        || statement.is_active(jiff::Timestamp::MIN)
        || times.iter().any(|time| statement.is_active(*time));
    (!may_come).then_some("there is no time at which its conditions hold")
}

/// An Allow whose every source is denied for certain, at all times.
fn remark_shadowed(policy: &Policy, problems: &mut Problems) {
    let reaches = || {
        policy
            .statements
            .iter()
            .enumerate()
            .filter_map(|(index, statement)| {
                Some((index, statement, policy.evaluation.reach(index)?))
            })
    };
    let denied = reaches()
        .filter(|(_, statement, _)| {
            statement.effect == Effect::Deny && statement.boundaries().next().is_none()
        })
        .map(|(_, _, reach)| reach.certain.clone())
        .collect();
    let denied = ipfilter_addresses::AddressSet::union_all(denied);
    let ranges = denied.v4.ranges_len() + denied.v6.ranges_len();
    if denied.is_empty() || ranges.saturating_mul(policy.statements.len()) > MOST_WORK {
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
