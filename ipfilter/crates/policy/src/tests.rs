//! What each element means, in tables.

use super::*;

const PUBLIC: &str = "203.0.113.7";
const OTHER: &str = "198.51.100.7";
const PRIVATE: &str = "10.1.2.3";
const NOW: &str = "2026-06-01T12:00:00.9Z";

fn read(text: &str, options: &Options) -> Parsed {
    parse(&Source::new("policy", text), options)
}

fn decisions(text: &str, options: &Options) -> [Decision; 3] {
    let parsed = read(text, options);
    let policy = parsed
        .policy
        .unwrap_or_else(|| panic!("{text}: {:#?}", parsed.problems));
    let now = NOW.parse().unwrap();
    [PUBLIC, OTHER, PRIVATE].map(|source| policy.explain(source.parse().unwrap(), now).decision)
}

fn statement(effect: &str, changes: &str) -> String {
    let mut members = format!("\"Effect\": \"{effect}\"");
    for (name, value) in [
        ("Principal", "\"*\""),
        ("Action", "\"execute-api:Invoke\""),
        ("Resource", "\"execute-api:/*\""),
    ] {
        if !changes.contains(&format!("{name}\"")) {
            members = format!("{members}, \"{name}\": {value}");
        }
    }
    let comma = if changes.is_empty() { "" } else { ", " };
    format!("{{{members}{comma}{changes}}}")
}

fn policy(statements: &[String]) -> String {
    format!(
        "{{\"Version\": \"2012-10-17\", \"Statement\": [{}]}}",
        statements.join(", ")
    )
}

use Decision::{Allow as A, Deny as D, Depends as M};

#[test]
fn one_allow_reaches_as_far_as_documented() {
    for (changes, want) in [
        ("", [A, A, A]),
        (
            r#""Principal": {"AWS": ["arn:aws:iam::123456789012:user/A", "*"]}"#,
            [A, A, A],
        ),
        (r#""Principal": {"AWS": "123456789012"}"#, [M, M, M]),
        (
            r#""Principal": {"Service": "apigateway.amazonaws.com"}"#,
            [M, M, M],
        ),
        (r#""NotPrincipal": {"AWS": "123456789012"}"#, [M, M, M]),
        (r#""NotPrincipal": "*""#, [D, D, D]),
        (r#""NotAction": "execute-api:ManageConnections""#, [A, A, A]),
        (r#""NotAction": "*""#, [D, D, D]),
        (r#""NotResource": "execute-api:/prod/*""#, [M, M, M]),
        (r#""Resource": ["execute-api:/prod/*", "*"]"#, [A, A, A]),
    ] {
        let text = policy(&[statement("Allow", changes)]);
        assert_eq!(decisions(&text, &Options::default()), want, "{changes}");
    }
}

#[test]
fn one_condition_reaches_as_far_as_documented() {
    for (condition, want) in [
        (
            r#""IpAddress": {"aws:SourceIp": "203.0.113.0/24"}"#,
            [A, D, D],
        ),
        (
            r#""NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}"#,
            [D, A, A],
        ),
        (
            r#""IpAddressIfExists": {"aws:SourceIp": "203.0.113.0/24"}"#,
            [A, D, A],
        ),
        (
            r#""NotIpAddressIfExists": {"aws:VpcSourceIp": "10.0.0.0/8"}"#,
            [A, A, D],
        ),
        (
            r#""IpAddress": {"aws:SourceIp": "203.0.113.7", "aws:VpcSourceIp": "10.1.2.3"}"#,
            [D, D, D],
        ),
        (r#""Null": {"aws:SourceIp": true}"#, [D, D, A]),
        (r#""Null": {"aws:SourceVpce": "false"}"#, [D, D, A]),
        (r#""Null": {"aws:SourceIp": ["true", "false"]}"#, [A, A, A]),
        (r#""Null": {"aws:CurrentTime": "true"}"#, [D, D, D]),
        (r#""Null": {"aws:UserAgent": "true"}"#, [M, M, M]),
        (r#""StringEquals": {"aws:SourceVpce": "vpce-1"}"#, [D, D, M]),
        (
            r#""StringNotEquals": {"aws:SourceVpc": "vpc-1"}"#,
            [A, A, M],
        ),
        (
            r#""StringEqualsIfExists": {"aws:SourceVpc": "vpc-1"}"#,
            [A, A, M],
        ),
        (
            r#""StringEquals": {"aws:VpceAccount": "123456789012"}"#,
            [D, D, M],
        ),
        (r#""StringLike": {"aws:SourceIp": "203.*"}"#, [M, M, D]),
        (r#""Bool": {"aws:SecureTransport": true}"#, [M, M, M]),
        (r#""StringEquals": {"sts:ExternalId": "x"}"#, [M, M, M]),
        (
            r#""DateEquals": {"aws:CurrentTime": "2026-06-01T12:00Z"}"#,
            [A, A, A],
        ),
        (
            r#""DateNotEquals": {"aws:EpochTime": ["2026-06-01T12:00Z", 5]}"#,
            [D, D, D],
        ),
        (
            r#""NumericLessThan": {"aws:EpochTime": 1780315201}"#,
            [A, A, A],
        ),
        (
            r#""NumericLessThan": {"aws:EpochTime": "1780315200"}"#,
            [D, D, D],
        ),
    ] {
        let text = policy(&[statement(
            "Allow",
            &format!("\"Condition\": {{{condition}}}"),
        )]);
        assert_eq!(decisions(&text, &Options::default()), want, "{condition}");
    }
}

#[test]
fn under_an_authorizer_only_an_explicit_deny_is_final() {
    let listed = r#""Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#;
    let text = policy(&[statement("Deny", listed)]);
    let alice = r#""Principal": {"AWS": "123456789012"}"#;
    let taken_back = policy(&[statement("Allow", alice), statement("Deny", alice)]);
    for (authorizer, want, want_back) in [
        (Authorizer::None, [D, D, D], [D, D, D]),
        (Authorizer::Cognito, [D, D, D], [D, D, D]),
        (Authorizer::Iam, [D, M, M], [M, M, M]),
        (Authorizer::Lambda, [D, M, M], [M, M, M]),
    ] {
        let options = Options {
            authorizer,
            ..Options::default()
        };
        assert_eq!(decisions(&text, &options), want, "{authorizer}");
        assert_eq!(decisions(&taken_back, &options), want_back, "{authorizer}");
        let partial = read(&text, &options).policy.unwrap().is_partial();
        assert_eq!(partial, want.contains(&M), "{authorizer}");
    }
}

#[test]
fn keys_that_need_iam_are_missing_without_it() {
    for (condition, plain, iam) in [
        (r#""StringEquals": {"aws:PrincipalOrgID": "o-1"}"#, D, M),
        (
            r#""StringNotEquals": {"aws:PrincipalTag/team": "red"}"#,
            A,
            M,
        ),
        (r#""Null": {"aws:PrincipalArn": "true"}"#, A, M),
        (
            r#""ForAllValues:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}"#,
            A,
            M,
        ),
        (
            r#""ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}"#,
            D,
            M,
        ),
    ] {
        let text = policy(&[statement(
            "Allow",
            &format!("\"Condition\": {{{condition}}}"),
        )]);
        for (authorizer, want) in [(Authorizer::Cognito, plain), (Authorizer::Iam, iam)] {
            let options = Options {
                authorizer,
                ..Options::default()
            };
            assert_eq!(
                decisions(&text, &options),
                [want; 3],
                "{condition} {authorizer}"
            );
        }
    }
}

#[test]
fn the_sources_behind_an_endpoint_can_be_named() {
    let text = policy(&[statement(
        "Allow",
        r#""Condition": {"Null": {"aws:SourceIp": "true"}}"#,
    )]);
    let options = Options {
        vpc_cidrs: Some(vec!["198.51.100.0/24".parse().unwrap()]),
        ..Options::default()
    };
    assert_eq!(decisions(&text, &options), [D, A, D]);
}

#[test]
fn the_api_is_the_one_named() {
    let arn = |region: &str, api: &str| format!("arn:aws:execute-api:{region}:123456789012:{api}");
    let of = |resources: &[String]| {
        policy(&[statement(
            "Allow",
            &format!("\"Resource\": {}", serde_json::json!(resources)),
        )])
    };
    let one = of(&[format!("{}/*", arn("us-east-1", "abcdef1234"))]);
    assert_eq!(decisions(&one, &Options::default()), [A, A, A]);
    for (named, want) in [("abcdef1234", [A, A, A]), ("other", [D, D, D])] {
        let api_arn = Some(arn("us-east-1", named).parse().unwrap());
        assert_eq!(
            decisions(
                &one,
                &Options {
                    api_arn,
                    ..Options::default()
                }
            ),
            want
        );
    }
    for other in [
        arn("us-east-1", "zyx/*"),
        arn("eu-*", "abcdef1234/*"),
        arn("us-east-1", "z*"),
    ] {
        let two = of(&[
            format!("{}/*", arn("us-east-1", "abcdef1234")),
            other.clone(),
        ]);
        let problems = read(&two, &Options::default()).problems;
        assert_eq!(problems[0].path, "$.Statement[0].Resource[1]", "{other}");
        assert!(problems[0].hint.as_ref().unwrap().contains("--api-arn"));
        let api_arn = Some(arn("us-east-1", "abcdef1234").parse().unwrap());
        assert_eq!(
            decisions(
                &two,
                &Options {
                    api_arn,
                    ..Options::default()
                }
            ),
            [A, A, A],
            "{other}"
        );
    }
}

#[test]
fn what_cannot_be_meant_is_remarked_on() {
    let listed = |key: &str, value: &str| {
        let condition = format!("\"Condition\": {{\"IpAddress\": {{\"{key}\": {value}}}}}");
        policy(&[statement("Allow", &condition)])
    };
    let when = |value: &str| {
        let condition =
            format!("\"Condition\": {{\"DateLessThan\": {{\"aws:CurrentTime\": {value}}}}}");
        policy(&[statement("Allow", &condition)])
    };
    let long = format!("{}{}", " ".repeat(9000), policy(&[statement("Allow", "")]));
    for (text, kinds) in [
        (
            listed("aws:SourceIp", "\"10.0.0.0/8\""),
            &["never", "unreachable"][..],
        ),
        (
            listed("aws:VpcSourceIp", "[\"203.0.113.0/24\", \"10.0.0.0/8\"]"),
            &["unreachable"],
        ),
        (listed("aws:SourceIp", "\"203.0.113.7/24\""), &["host-bits"]),
        (
            listed("aws:SourceIp", "\"::ffff:203.0.113.7\""),
            &["mapped"],
        ),
        (listed("aws:SourceIp", "\"0.0.0.0/0\""), &["one-family"]),
        (listed("aws:SourceIp", "[\"0.0.0.0/0\", \"::/0\"]"), &[]),
        (when("1767225600000"), &["milliseconds"]),
        (long, &["quota"]),
        (policy(&[statement("Deny", "")]), &["no-allow"]),
        (
            policy(&[statement("Allow", ""), statement("Deny", "")]),
            &["shadowed"],
        ),
        (
            policy(&[statement(
                "Allow",
                "\"Action\": \"execute-api:InvalidateCache\"",
            )]),
            &["never"],
        ),
    ] {
        let parsed = read(&text, &Options::default());
        let mut told: Vec<&str> = parsed.problems.iter().map(|problem| problem.kind).collect();
        told.sort_unstable();
        assert_eq!(told, kinds, "{text}");
        assert!(parsed.policy.is_some());
    }
}

/// What public policies get wrong: each is named, with what to write.
#[test]
fn mistakes_of_public_policies_are_named_with_what_to_write() {
    let when = |condition: &str| statement("Allow", &format!("\"Condition\": {{{condition}}}"));
    let sources = |list: &str| when(&format!("\"IpAddress\": {{\"aws:SourceIp\": {list}}}"));
    for (statements, kind, message, hint) in [
        (
            vec![sources("\"::\"")],
            "bare-zero",
            "`::` is one address, which no client has",
            "`::/0`, which is everyone",
        ),
        (
            vec![
                sources("[\"192.0.2.1\", \"198.51.100.0/24\"]"),
                sources("[\"198.51.100.0/24\", \"192.0.2.1/32\"]"),
            ],
            "repeated",
            "says what statement 0 says already",
            "remove one of them",
        ),
        (
            vec![when(
                "\"StringEquals\": {\"aws:RequestedRegion\": \"eu-west-1\"}",
            )],
            "unlisted-key",
            "`aws:RequestedRegion` is not among the keys that API Gateway offers",
            "test the policy where it is attached",
        ),
        (
            vec![
                sources("\"192.0.2.1\""),
                statement(
                    "Deny",
                    "\"Condition\": {\"DateLessThan\": {\"aws:CurrentTime\": \"2020-01-01T00:00:00Z\"}}",
                ),
            ],
            "expired",
            "the Deny's time is over since 2020-01-01T00:00:00Z",
            "remove the statement",
        ),
    ] {
        let text = policy(&statements);
        let problems = read(&text, &Options::default()).problems;
        let is_named = problems.iter().any(|problem| {
            problem.kind == kind
                && problem.message.contains(message)
                && problem
                    .hint
                    .as_ref()
                    .is_some_and(|said| said.contains(hint))
        });
        assert!(is_named, "{text}: {problems:#?}");
    }
}

#[test]
fn private_addresses_under_the_wrong_key_name_the_right_one() {
    let text = policy(&[statement(
        "Allow",
        r#""Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}"#,
    )]);
    let problems = read(&text, &Options::default()).problems;
    let unreachable = problems
        .iter()
        .find(|problem| problem.kind == "unreachable")
        .unwrap();
    assert!(
        unreachable
            .hint
            .as_ref()
            .unwrap()
            .contains("`aws:VpcSourceIp`")
    );
}

#[test]
fn grammar_is_kept() {
    let bad = |changes: &str| policy(&[statement("Allow", changes)]);
    for (text, path) in [
        (bad(r#""effect": "Deny""#), "$.Statement[0].effect"),
        (bad(r#""\u0045ffect": "Deny""#), "$.Statement[0].Effect"),
        (bad(r#""Sid": 7"#), "$.Statement[0].Sid"),
        (bad(r#""Sid": "\ud800""#), "$.Statement[0].Sid"),
        (bad(r#""Principal": {}"#), "$.Statement[0].Principal"),
        (
            bad(r#""Principal": {"AWS": []}"#),
            "$.Statement[0].Principal.AWS",
        ),
        (
            bad(r#""Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}"#),
            "$.Statement[0].Principal.AWS",
        ),
        (
            bad(r#""Principal": {"aws": "*"}"#),
            "$.Statement[0].Principal.aws",
        ),
        (
            bad(r#""Action": "execute-api:Invok""#),
            "$.Statement[0].Action",
        ),
        (bad(r#""Condition": {}"#), "$.Statement[0].Condition"),
        (
            bad(r#""Condition": {"ForAnyValue:StringLike": {"aws:UserAgent": "x"}}"#),
            "$.Statement[0].Condition[\"ForAnyValue:StringLike\"][\"aws:UserAgent\"]",
        ),
        (
            bad(r#""Condition": {"IpAddress": {"aws:SourceIp": "::1", "AWS:sourceip": "::2"}}"#),
            "$.Statement[0].Condition.IpAddress[\"AWS:sourceip\"]",
        ),
        (
            bad(r#""Condition": {"Null": {"aws:SourceIp": "True"}}"#),
            "$.Statement[0].Condition.Null[\"aws:SourceIp\"]",
        ),
        (
            bad(r#""Condition": {"NumericLessThan": {"aws:CurrentTime": 5}}"#),
            "$.Statement[0].Condition.NumericLessThan[\"aws:CurrentTime\"]",
        ),
        (
            "{\"Statement\": [], \"Version\": \"2012-10-17\"}".to_owned(),
            "$.Statement",
        ),
        (
            "{\"Version\": \"2012-10-18\", \"Statement\": {}}".to_owned(),
            "$.Version",
        ),
        ("{}".to_owned(), "$.Statement"),
    ] {
        let Parsed {
            policy, problems, ..
        } = read(&text, &Options::default());
        assert!(policy.is_none(), "{text}");
        let error = problems
            .iter()
            .find(|problem| problem.severity == Severity::Error)
            .unwrap();
        assert_eq!(error.path, path, "{text}");
    }
}

#[test]
fn each_maybe_says_what_it_lets_through() {
    let text = policy(&[
        statement(
            "Allow",
            r#""Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}"#,
        ),
        statement(
            "Deny",
            r#""Sid": "Bots", "Condition": {"StringLike": {"aws:UserAgent": "*Bot*"}}"#,
        ),
        statement(
            "Deny",
            r#""Principal": {"AWS": "123456789012"}, "Resource": "execute-api:/dev/*""#,
        ),
    ]);
    let policy = read(&text, &Options::default()).policy.unwrap();
    let paths: Vec<&str> = policy
        .maybes()
        .iter()
        .map(|maybe| maybe.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "$.Statement[1].Condition.StringLike[\"aws:UserAgent\"]",
            "$.Statement[2].Principal",
            "$.Statement[2].Resource",
        ]
    );
    for maybe in policy.maybes() {
        assert!(
            maybe
                .hint
                .as_ref()
                .unwrap()
                .contains("`203.0.113.0/24` pass"),
            "{maybe:?}"
        );
    }
    assert_eq!(
        policy.maybes()[0]
            .statement
            .as_ref()
            .unwrap()
            .sid
            .as_deref(),
        Some("Bots")
    );
}

#[test]
fn a_document_over_the_limit_is_refused() {
    let text = " ".repeat(SIZE_LIMIT + 1);
    let problems = read(&text, &Options::default()).problems;
    assert_eq!(problems[0].kind, "size");
}
