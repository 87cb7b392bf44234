//! The views of a policy agree: what an interface is certain of holds for every request.

use ipfilter_policy::{Authorizer, Decision, Options, Policy, Request, Source, parse};
use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::Value;

use crate::generate;

fn read(policy: &Value, authorizer: Authorizer) -> Policy {
    let options = Options {
        api_arn: Some(generate::API.parse().expect("an API's ARN")),
        authorizer,
        ..Options::default()
    };
    let parsed = parse(&Source::new("policy", policy.to_string()), &options);
    parsed
        .policy
        .unwrap_or_else(|| panic!("{policy}: {:#?}", parsed.problems))
}

/// What an interface does not see of a request.
#[derive(Clone, Debug)]
struct Unseen {
    principal: Option<&'static str>,
    call: (&'static str, &'static str, &'static str),
    agent: Option<&'static str>,
    referer: Option<&'static str>,
    vpc: &'static str,
    secure: bool,
}

fn unseen() -> impl Strategy<Value = Unseen> {
    let texts = || select(&[None, Some("curl"), Some("bot"), Some("vpc-a")][..]);
    (
        select(
            &[
                None,
                Some("arn:aws:iam::123456789012:user/Alice"),
                Some("arn:aws:iam::123456789012:user/Bob"),
                Some("arn:aws:sts::123456789012:assumed-role/Alice/x"),
            ][..],
        ),
        select(
            &[
                ("prod", "GET", "/pets"),
                ("prod", "GET", "/"),
                ("dev", "POST", "/a/b:c"),
                ("dev", "GET", "public/x"),
                ("prod", "DELETE", ""),
            ][..],
        ),
        texts(),
        texts(),
        select(&["vpc-a", "vpc-b"][..]),
        any::<bool>(),
    )
        .prop_map(|(principal, call, agent, referer, vpc, secure)| Unseen {
            principal,
            call,
            agent,
            referer,
            vpc,
            secure,
        })
}

fn request(source: std::net::IpAddr, time: Timestamp, unseen: &Unseen) -> Request {
    let (stage, method, path) = unseen.call;
    let mut request = Request::new(source, method);
    request.stage = stage.to_owned();
    request.path = path.to_owned();
    request.time = Some(time);
    request.secure = Some(unseen.secure);
    request.principal = unseen.principal.map(str::to_owned);
    request.vpc = Some(unseen.vpc.to_owned());
    for (name, value) in [("User-Agent", unseen.agent), ("referer", unseen.referer)] {
        if let Some(value) = value {
            request.headers.insert(name.to_owned(), value.to_owned());
        }
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_interface_is_only_certain_of_what_holds_for_every_request(
        policy in generate::policy(),
        unseen in prop::collection::vec(unseen(), 8),
        iam in any::<bool>(),
        time in select(generate::times().collect::<Vec<_>>()),
    ) {
        let policy = read(&policy, if iam { Authorizer::Iam } else { Authorizer::None });
        for source in generate::sources() {
            let seen = policy.explain(source, time);
            for unseen in &unseen {
                let whole = policy.decide(&request(source, time, unseen));
                let agrees = match seen.decision {
                    Decision::Deny => whole.decision == Decision::Deny,
                    Decision::Allow => whole.decision == Decision::Allow,
                    Decision::Depends => true,
                };
                prop_assert!(agrees, "{source} {time} {unseen:?}: {seen:#?} {whole:#?}");
                let pairs = seen.statements.iter().zip(&whole.statements);
                for (seen, whole) in pairs {
                    // What is yes or no to an interface is so for each request.
                    let held = seen.matches == whole.matches || seen.matches == ipfilter_policy::Verdict::Maybe;
                    prop_assert!(held, "{source} {time} {unseen:?}: {seen:?} {whole:?}");
                }
            }
        }
    }
}
