//! Condition keys and values that cannot do what is meant.

use std::ops::Range;

use crate::{
    class::Class,
    evaluate::Factor,
    network::reach::Interface,
    policy::Policy,
    syntax::{
        condition::{Condition, Test},
        key::Offer,
        time::Instant,
    },
    text::problem::{Advice, Problems, Severity, clip},
    verdict::Verdict,
};

pub(super) fn remark(condition: &Condition, policy: &Policy, problems: &mut Problems) {
    let key = &condition.key.name;
    match condition.key.offer {
        Offer::Iam if !policy.iam() => {
            let holds = match holds_always(condition) {
                true => "always",
                false => "never",
            };
            let authorizer = policy.authorizer;
            note(condition, "needs-iam", &condition.span, problems, || {
                Advice::new(format!(
                    "`{key}` needs IAM authorization: under `--authorizer {authorizer}` no request has it, so the condition {holds} holds"
                ))
                .hint("if IAM authorizes the API's callers, say so with `--authorizer iam`")
            });
        }
        Offer::Unlisted => note(condition, "unlisted-key", &condition.span, problems, || {
            Advice::new(format!(
                "`{key}` is not among the keys that API Gateway offers to resource policies"
            ))
            .hint("requests may never have it: test the policy where it is attached")
        }),
        _ => {}
    }
    match &condition.test {
        Test::Instants(..) => remark_instants(condition, problems),
        Test::Arns(_) => remark_arns(condition, problems),
        _ => {}
    }
}

fn note(
    condition: &Condition,
    kind: &'static str,
    span: &Range<usize>,
    problems: &mut Problems,
    advice: impl FnOnce() -> Advice,
) {
    problems.add(Severity::Warning, kind, &condition.path, span, advice);
}

/// Times that are surely milliseconds.
fn remark_instants(condition: &Condition, problems: &mut Problems) {
    for (text, span) in &condition.written {
        if Instant::from_date(text).is_ok_and(Instant::looks_like_milliseconds) {
            note(condition, "milliseconds", span, problems, || {
                Advice::new(format!("`{}` is past the year 5000", clip(text)))
                    .hint("times are in seconds since 1970; this looks like milliseconds")
            });
        }
    }
}

/// What is compared with ARNs and is none.
fn remark_arns(condition: &Condition, problems: &mut Problems) {
    for (text, span) in &condition.written {
        if text.split(':').count() < 6 && text != "*" {
            note(condition, "short-arn", span, problems, || {
                Advice::new(format!("`{}` is not an ARN: it matches none", clip(text))).hint(
                    "an ARN has six fields: write `arn:aws:iam::123456789012:role/*` or the like",
                )
            });
        }
    }
}

/// Whether the condition holds for requests that lack its key.
fn holds_always(condition: &Condition) -> bool {
    let view = Interface {
        class: Class::Public,
        iam: false,
        now: None,
        sources: std::net::IpAddr::from([0, 0, 0, 0]),
    };
    Factor::Condition(condition).holds(&view) == Verdict::Yes
}
