//! The policy corpus: what documented policies mean for documented sources (see its README).
//!
//! Each line about sources is asked both ways: whole sets at once, and one address at a time.

use ipfilter_policy::{
    Authorizer, Decision, Decisions, Options, Parsed, Policy, Request, Severity, Source, parse,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::corpus::{Case, EXACT, INVALID, Invalid, PARTIAL, Pass, Probe, REQUESTS, TIME, lines};

/// The API the corpus is about.
const API: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234";

/// The API named, and the API taken from the policy: the corpus must read the same both ways.
fn options() -> [Options; 2] {
    [
        Options::default(),
        Options {
            api_arn: Some(API.parse().expect("it is an API's ARN")),
            ..Options::default()
        },
    ]
}

fn read(name: &str, text: &str, options: &Options) -> Parsed {
    parse(&Source::new(name, text.as_bytes()), options)
}

fn policy(name: &str, text: &str, options: &Options) -> Policy {
    let Parsed {
        policy, problems, ..
    } = read(name, text, options);
    policy.unwrap_or_else(|| panic!("{name}: {problems:#?}"))
}

fn check_probe(name: &str, policy: &Policy, probe: &Probe, decisions: &Decisions, now: Timestamp) {
    let Probe {
        source,
        expected,
        kind,
        ..
    } = probe;
    let explanation = policy.explain(*source, now);
    let (decision, explicit) = match (expected.as_str(), kind.as_deref()) {
        ("allow", None) => (Decision::Allow, true),
        ("deny", Some("explicit")) => (Decision::Deny, true),
        ("deny", Some("implicit")) => (Decision::Deny, false),
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(explanation.decision, decision, "{name} {source} {now}");
    assert_eq!(explanation.explicit, explicit, "{name} {source} {now}");
    let passes = decision == Decision::Allow;
    assert_eq!(
        decisions.may_pass.contains(*source),
        passes,
        "{name} {source} {now}"
    );
    assert_eq!(
        decisions.allowed.contains(*source),
        passes,
        "{name} {source} {now}"
    );
}

#[test]
fn exact_policies_are_decided_exactly() {
    let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    for options in options() {
        let mut probes = 0;
        for case in lines::<Case<'_>>(EXACT) {
            let policy = policy(case.name, case.policy.get(), &options);
            assert!(!policy.is_partial(), "{}: {:?}", case.name, policy.maybes());
            let decisions = policy.at(now);
            for probe in &case.probes {
                check_probe(case.name, &policy, probe, &decisions, now);
                probes += 1;
            }
        }
        assert_eq!(probes, 2511);
    }
}

#[test]
fn the_clock_is_honoured() {
    for options in options() {
        let mut probes = 0;
        for case in lines::<Case<'_>>(TIME) {
            let policy = policy(case.name, case.policy.get(), &options);
            assert!(!policy.is_partial(), "{}", case.name);
            for probe in &case.probes {
                let now = probe.time.expect("every probe of this file has its time");
                check_probe(case.name, &policy, probe, &policy.at(now), now);
                probes += 1;
            }
        }
        assert_eq!(probes, 204);
    }
}

#[test]
fn partial_policies_drop_what_is_surely_denied_and_nothing_else() {
    let now = Timestamp::now();
    for options in options() {
        for case in lines::<Case<'_>>(PARTIAL) {
            let policy = policy(case.name, case.policy.get(), &options);
            let may_pass = policy.at(now).may_pass;
            let denied = case.must_drop.iter().chain(&case.must_drop_relational);
            for source in denied {
                assert!(!may_pass.contains(*source), "{} {source}", case.name);
                let decision = policy.explain(*source, now).decision;
                assert_eq!(decision, Decision::Deny, "{} {source}", case.name);
            }
            for Pass { source } in &case.must_pass {
                assert!(may_pass.contains(*source), "{} {source}", case.name);
                let decision = policy.explain(*source, now).decision;
                assert_ne!(decision, Decision::Deny, "{} {source}", case.name);
            }
            assert_eq!(
                policy.is_partial(),
                case.name != "notresource-everything",
                "{}",
                case.name
            );
        }
    }
}

#[test]
fn invalid_policies_are_refused_where_they_are_wrong() {
    for options in options() {
        for Invalid {
            name,
            path,
            policy_text,
        } in lines::<Invalid>(INVALID)
        {
            let Parsed {
                policy, problems, ..
            } = read(&name, &policy_text, &options);
            assert!(policy.is_none(), "{name} was taken");
            let errors: Vec<&str> = problems
                .iter()
                .filter(|problem| problem.severity == Severity::Error)
                .map(|problem| problem.path.as_str())
                .collect();
            assert_eq!(
                errors.first(),
                Some(&path.as_str()),
                "{name}: {problems:#?}"
            );
            // An empty statement lacks four elements; everywhere else one thing is wrong.
            let count = if name == "statement-empty-object" {
                4
            } else {
                1
            };
            assert_eq!(errors.len(), count, "{name}: {problems:#?}");
        }
    }
}

#[derive(Deserialize)]
struct Asked<'c> {
    name: &'c str,
    #[serde(borrow)]
    policy: &'c RawValue,
    authorizer: Option<Authorizer>,
    probes: Vec<RequestProbe>,
}

#[derive(Deserialize)]
struct RequestProbe {
    request: Request,
    expected: String,
    kind: String,
}

#[test]
fn requests_are_decided_exactly() {
    let mut probes = 0;
    for case in lines::<Asked<'_>>(REQUESTS) {
        let options = Options {
            api_arn: Some(API.parse().expect("it is an API's ARN")),
            authorizer: case.authorizer.unwrap_or_default(),
            vpc_cidrs: None,
        };
        let policy = policy(case.name, case.policy.get(), &options);
        for probe in &case.probes {
            check_request(case.name, &policy, &options, probe);
            probes += 1;
        }
    }
    assert_eq!(probes, 4602);
}

fn check_request(name: &str, policy: &Policy, options: &Options, probe: &RequestProbe) {
    let RequestProbe {
        request,
        expected,
        kind,
    } = probe;
    let implicit = match options.authorizer {
        Authorizer::None | Authorizer::Cognito => Decision::Deny,
        Authorizer::Iam | Authorizer::Lambda => Decision::Depends,
    };
    let want = match kind.as_str() {
        "allowed" => (Decision::Allow, true),
        "explicit" => (Decision::Deny, true),
        "implicit" => (implicit, false),
        other => panic!("{name}: {other}"),
    };
    let explanation = policy.decide(request);
    let got = (explanation.decision, explanation.explicit);
    assert_eq!(got, want, "{name}: {request:?} {explanation:#?}");
    assert_eq!(*expected == "allow", want.0 == Decision::Allow, "{name}");
    // What an interface is certain of holds for each request, which it takes to ask for `Invoke`.
    if request
        .action
        .as_deref()
        .is_some_and(|action| action != "execute-api:Invoke")
    {
        return;
    }
    let time = request.time.expect("every request has its time");
    match policy.explain(request.source, time).decision {
        Decision::Deny => assert_ne!(want.0, Decision::Allow, "{name}: {request:?}"),
        Decision::Allow => assert_eq!(want.0, Decision::Allow, "{name}: {request:?}"),
        Decision::Depends => {}
    }
}
