//! Condition keys and values that cannot do what is meant.

use crate::{
    Policy,
    evaluate::{Class, Verdict},
    network::reach::Interface,
    syntax::{
        condition::{Condition, Offer, Test},
        time::Instant,
    },
    text::problem::{Advice, Problems, Severity, clip},
};

pub(super) fn remark(condition: &Condition, policy: &Policy, problems: &mut Problems) {
    let key = &condition.key;
    let mut note = |kind, span: &std::ops::Range<usize>, advice: &dyn Fn() -> Advice| {
        problems.add(Severity::Warning, kind, &condition.path, span, advice);
    };
    match key.offer {
        Offer::Iam if !policy.iam() => note("needs-iam", &condition.span, &|| {
            let advice = Advice::new(format!(
                "`{}` needs IAM authorization: under `--authorizer {}` no request has it, so the condition {} holds",
                key.name,
                policy.authorizer,
                if holds_always(condition) {
                    "always"
                } else {
                    "never"
                },
            ));
            advice.hint("if IAM authorizes the API's callers, say so with `--authorizer iam`")
        }),
        Offer::Unlisted => note("unlisted-key", &condition.span, &|| {
            Advice::new(format!(
                "`{}` is not among the keys that API Gateway offers to resource policies",
                key.name
            ))
            .hint("its requests may never have it: test the policy where it is attached")
        }),
        _ => {}
    }
    match &condition.test {
        Test::Instants(_, instants) => {
            let late = instants.iter().any(|one| one.looks_like_milliseconds());
            let values = condition.written.iter();
            for (text, span) in values.filter(|_| late) {
                let instant = Instant::from_date(text);
                if instant.is_ok_and(Instant::looks_like_milliseconds) {
                    note("milliseconds", span, &|| {
                        Advice::new(format!("`{}` is past the year 5000", clip(text)))
                            .hint("times are in seconds since 1970; this looks like milliseconds")
                    });
                }
            }
        }
        Test::Arns(_) => {
            let short = |text: &&String| text.split(':').count() < 6 && text.as_str() != "*";
            for text in condition.written.keys().filter(short) {
                let span = condition.written.get(text).unwrap_or(&condition.values);
                note("short-arn", span, &|| {
                    Advice::new(format!("`{}` is not an ARN: it matches none", clip(text))).hint(
                        "an ARN has six fields: write `arn:aws:iam::123456789012:role/*` or the like",
                    )
                });
            }
        }
        _ => {}
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
    crate::evaluate::Factor::Condition(condition).holds(&view) == Verdict::Yes
}
