//! What is legal in a policy but cannot be meant.

mod addresses;
mod keys;
mod resources;
mod statements;

use jiff::Timestamp;

use crate::{
    options::Options,
    policy::Policy,
    syntax::{
        action::{INVOKE, MANAGE_CONNECTIONS, Named},
        statement::Statement,
    },
    text::problem::{Advice, Problems, Severity, clip},
};

/// Notes what is remarkable in `policy`; `now` is the time by which statements have expired.
pub(crate) fn remark(policy: &Policy, options: &Options, now: Timestamp, problems: &mut Problems) {
    for (index, rule) in policy.rules.all.iter().enumerate() {
        let statement = &rule.statement;
        problems.statement = Some(statement.id(index));
        remark_actions(statement, problems);
        resources::remark(statement, policy, options, problems);
        for condition in &statement.conditions {
            keys::remark(condition, policy, problems);
            addresses::remark(condition, &policy.classes, problems);
        }
    }
    problems.statement = None;
    statements::remark(policy, now, problems);
}

/// Actions that no call of a REST API asks for.
fn remark_actions(statement: &Statement, problems: &mut Problems) {
    let action = &statement.action;
    let alone = |named: &&Named| named.covers(MANAGE_CONNECTIONS) && !named.covers(INVOKE);
    for named in action.is.named.iter().filter(alone) {
        problems.add(
            Severity::Warning,
            "action",
            &action.path,
            &named.span,
            || {
                Advice::new(format!("no call asks for `{}`", clip(&named.written)))
                    .hint("it belongs to WebSocket APIs, which take no resource policy: remove it")
            },
        );
    }
}
