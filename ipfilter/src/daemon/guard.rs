//! Refusing plans that would cut off whoever asks for them.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{
    failure::Failure,
    plan::{Api, Plan},
    policy::{Effect, Explanation, Source, StatementVerdict, Verdict, clip},
    prepare::Policies,
    session::Session,
};

/// Refuses a plan that would cut off one of `sessions` from the port that it uses. `texts` are those of
/// its policies.
pub(super) fn guard(
    sessions: &[Session],
    plan: &Plan,
    policies: &Policies,
    texts: &[Source],
    now: Timestamp,
) -> Result<(), Failure> {
    let mut sessions = sessions.iter();
    match sessions.find_map(|session| cut_off(session, plan, policies, texts, now)) {
        Some(message) => Err(Failure::Guarded(message)),
        None => Ok(()),
    }
}

/// How the plan would cut off a session, if it would.
fn cut_off(
    session: &Session,
    plan: &Plan,
    policies: &Policies,
    texts: &[Source],
    now: Timestamp,
) -> Option<String> {
    let at = session.at?;
    let from = session.from;
    if policies.spec().interfaces.is_empty()
        || !plan.addresses.is_empty() && !plan.addresses.contains(&at.ip())
    {
        return None;
    }
    let denies = |api: &Api| {
        api.enforces(from)
            && api.protocols.tcp
            && api.ports.contains(at.port())
            && !api.sources.contains(from)
    };
    let index = plan.apis.iter().position(denies)?;
    let name = &plan.apis.get(index)?.name;
    let why = match policies.overruled(index, from, now) {
        Some(one) => one.to_string(),
        None => reason(index, from, policies, texts.get(index), now)?,
    };
    Some(format!(
        "this would cut off {from}, {}, from port {}, which is the API `{name}`'s: {why}; let it in, or \
         give `--force`",
        session.known_by,
        at.port()
    ))
}

/// What in the policy denies the source, and where.
fn reason(
    api: usize,
    from: IpAddr,
    policies: &Policies,
    text: Option<&Source>,
    now: Timestamp,
) -> Option<String> {
    let file = &policies.spec().apis.get(api)?.policy;
    let explanation = policies.explain(api, from, now)?;
    let Some(deny) = deciding(&explanation) else {
        return Some(format!("{}: no Allow matches it", file.display()));
    };
    let offset = policies.policy(api).and_then(|it| it.offset(deny.index));
    let place = offset.zip(text).map_or_else(String::new, |(offset, text)| {
        let place = text.locate(offset);
        format!(":{}:{}", place.line, place.column)
    });
    let name = match deny.sid {
        Some(sid) => format!("Deny `{}`", clip(sid)),
        None => format!("the Deny of statement {}", deny.index),
    };
    Some(format!("{}{place}: {name} matches it", file.display()))
}

/// The Deny that decides, if one does.
fn deciding<'e, 'p>(explanation: &'e Explanation<'p>) -> Option<&'e StatementVerdict<'p>> {
    let denies = || {
        let statements = explanation.statements.iter();
        statements.filter(|one| one.effect == Effect::Deny)
    };
    let certain = denies().find(|one| one.matches == Verdict::Yes);
    // Several may share the requests between them.
    let one_of = || denies().find(|one| one.matches == Verdict::Maybe);
    certain.or_else(|| one_of().filter(|_| explanation.explicit))
}
