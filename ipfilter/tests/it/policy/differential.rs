//! What the interface decides, against an independent evaluator of full requests.
//!
//! `iam-rs` sees everything of a request: who, what, when, from where. The interface sees the source
//! and the clock; so whatever it denies `iam-rs` must deny for every request, and whatever it calls
//! allowed `iam-rs` must allow for every request. A whole request both must decide alike.
//!
//! Where the two are known to differ the documentation is followed, and the evaluator is spared:
//! - it wants `Version` (added below);
//! - it does not know the short form `execute-api:/…` (expanded below);
//! - it looks only at the first value of `Null` (one value is generated);
//! - it refuses dates without a time (none is generated, and the corpus has none).

use std::net::IpAddr;

use iam_rs::{
    Arn, Context, Decision as Other, IAMPolicy, IAMRequest, PolicyEvaluator, Principal, PrincipalId,
};
use ipfilter::policy::{Authorizer, Decision, Options, Policy, Request, Source, parse};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::Value;

use crate::{
    corpus::{EXACT, TIME},
    generate,
};

/// What the interface does not see of a request.
#[derive(Clone, Debug)]
struct Unseen {
    principal: &'static str,
    call: &'static str,
    user_agent: Option<&'static str>,
    referer: Option<&'static str>,
    vpc: &'static str,
    tls: bool,
}

fn unseen() -> impl Strategy<Value = Unseen> {
    (
        select(&["user/Alice", "user/Bob", "user/Carol"][..]),
        select(
            &[
                "/prod/GET/pets",
                "/prod/GET/",
                "/dev/POST/a/b/c",
                "/dev/GET/public/x",
                "/prod/DELETE/x",
            ][..],
        ),
        select(&[None, Some("curl"), Some("bot")][..]),
        select(&[None, Some("curl"), Some("vpc-a")][..]),
        select(&["vpc-a", "vpc-b"][..]),
        any::<bool>(),
    )
        .prop_map(|(principal, call, user_agent, referer, vpc, tls)| Unseen {
            principal,
            call,
            user_agent,
            referer,
            vpc,
            tls,
        })
}

fn is_private(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => source.is_private(),
        IpAddr::V6(source) => source.is_unique_local(),
    }
}

fn request(source: IpAddr, now: Timestamp, unseen: &Unseen) -> IAMRequest {
    #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
    let epoch = now.as_second() as f64;
    let mut context = Context::new()
        .with_string("aws:CurrentTime", now.to_string())
        .with_number("aws:EpochTime", epoch)
        .with_boolean("aws:SecureTransport", unseen.tls);
    let address = source.to_string();
    if is_private(source) {
        context = context
            .with_string("aws:VpcSourceIp", address)
            .with_string("aws:SourceVpc", unseen.vpc);
    } else {
        context = context.with_string("aws:SourceIp", address);
    }
    if let Some(agent) = unseen.user_agent {
        context = context.with_string("aws:UserAgent", agent);
    }
    if let Some(referer) = unseen.referer {
        context = context.with_string("aws:Referer", referer);
    }
    let principal = format!("arn:aws:iam::123456789012:{}", unseen.principal);
    IAMRequest::new_with_context(
        Principal::Aws(PrincipalId::String(principal)),
        "execute-api:Invoke",
        Arn::parse(&format!("{}{}", generate::API, unseen.call)).expect("an ARN"),
        context,
    )
}

/// The policy as the other evaluator takes it.
fn expand(mut policy: Value) -> Value {
    policy["Version"] = "2012-10-17".into();
    let statements = match policy["Statement"].take() {
        Value::Array(statements) => statements,
        statement => vec![statement],
    };
    let statements = statements.into_iter().map(|mut statement| {
        for element in ["Resource", "NotResource"] {
            if let Some(resource) = statement.get_mut(element) {
                expand_resource(resource);
            }
        }
        statement
    });
    policy["Statement"] = statements.collect();
    policy
}

fn expand_resource(resource: &mut Value) {
    match resource {
        Value::String(text) => {
            if let Some(call) = text.strip_prefix("execute-api:") {
                *text = format!("{}{call}", generate::API);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(expand_resource),
        _ => {}
    }
}

fn other(policy: &Value) -> PolicyEvaluator {
    let policy = expand(policy.clone());
    let parsed: IAMPolicy =
        serde_json::from_value(policy.clone()).unwrap_or_else(|error| panic!("{error}: {policy}"));
    PolicyEvaluator::with_policies(vec![parsed])
}

fn decide(other: &PolicyEvaluator, request: &IAMRequest) -> Other {
    match other.evaluate(request) {
        Ok(result) => result.decision,
        Err(error) => panic!("{error}: {request:?}"),
    }
}

/// The same request as we take it.
fn our_request(source: IpAddr, now: Timestamp, unseen: &Unseen) -> Request {
    let mut parts = unseen.call.trim_start_matches('/').splitn(3, '/');
    let mut part = || parts.next().expect("stage, method and path").to_owned();
    let (stage, method, path) = (part(), part(), part());
    let mut request = Request::new(source, method);
    request.stage = stage;
    request.path = path;
    request.time = Some(now);
    request.secure = Some(unseen.tls);
    request.principal = Some(format!("arn:aws:iam::123456789012:{}", unseen.principal));
    request.vpc = Some(unseen.vpc.to_owned());
    for (name, value) in [
        ("user-agent", unseen.user_agent),
        ("referer", unseen.referer),
    ] {
        if let Some(value) = value {
            request.headers.insert(name.to_owned(), value.to_owned());
        }
    }
    request
}

fn ours(policy: &Value, authorizer: Authorizer) -> Policy {
    let options = Options {
        authorizer,
        api_arn: Some(generate::API.parse().expect("an API's ARN")),
        ..Options::default()
    };
    let parsed = parse(&Source::new("policy", policy.to_string()), &options);
    parsed
        .policy
        .unwrap_or_else(|| panic!("{policy}: {:#?}", parsed.problems))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_request_is_decided_wrongly(
        policy in generate::policy(),
        requests in prop::collection::vec(unseen(), 12),
        time in select(generate::times().collect::<Vec<_>>()),
    ) {
        let (seen, ours) = (ours(&policy, Authorizer::None), ours(&policy, Authorizer::Iam));
        let other = other(&policy);
        for source in generate::sources() {
            let explanation = seen.explain(source, time);
            for unseen in &requests {
                let decision = decide(&other, &request(source, time, unseen));
                let whole = ours.decide(&our_request(source, time, unseen));
                let want = match decision {
                    Other::Allow => (Decision::Allow, true),
                    Other::Deny => (Decision::Deny, true),
                    Other::NotApplicable => (Decision::Depends, false),
                };
                let decided = (whole.decision, whole.explicit);
                prop_assert!(decided == want, "{} {} {:?}: {:?} but {:?}", source, time, unseen, whole, decision);
                let agrees = match (explanation.decision, explanation.explicit) {
                    (Decision::Deny, true) => decision == Other::Deny,
                    (Decision::Deny, false) => decision != Other::Allow,
                    (Decision::Allow, _) => decision == Other::Allow,
                    (Decision::Depends, _) => true,
                };
                prop_assert!(agrees, "{} {} {:?}: {:?} but {:?}", source, time, unseen, explanation, decision);
            }
        }
    }
}

#[test]
fn the_corpus_is_decided_alike() {
    let unseen = Unseen {
        principal: "user/Alice",
        call: "/prod/GET/pets",
        user_agent: None,
        referer: None,
        vpc: "vpc-a",
        tls: true,
    };
    let corpus = [EXACT, TIME];
    let mut probes = 0;
    for line in corpus.iter().flat_map(|text| text.lines()) {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON Lines");
        let other = other(&case["policy"]);
        for probe in case["probes"].as_array().expect("probes") {
            let text = |name: &str| probe[name].as_str();
            let source = text("source")
                .expect("a source")
                .parse()
                .expect("an address");
            let now = text("time")
                .unwrap_or("2026-06-01T00:00:00Z")
                .parse()
                .expect("a time");
            let want = match (text("expected"), text("kind")) {
                (Some("allow"), _) => Other::Allow,
                (_, Some("explicit")) => Other::Deny,
                _ => Other::NotApplicable,
            };
            let decision = decide(&other, &request(source, now, &unseen));
            assert_eq!(decision, want, "{} {source} {now}", case["name"]);
            probes += 1;
        }
    }
    assert_eq!(probes, 2511 + 204);
}
