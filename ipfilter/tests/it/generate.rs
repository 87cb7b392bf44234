//! Policies at random, and the sources and times at which they could go wrong.

use std::net::IpAddr;

use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json};

/// The API the policies are attached to.
pub(crate) const API: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234";

const BLOCKS: &[&str] = &[
    "203.0.113.0/24",
    "203.0.113.128/25",
    "203.0.113.7",
    "198.51.100.0/24",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.168.1.20/32",
    "128.0.0.0/1",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8:1::/48",
    "2001:db8:1::9",
    "fd00:aaaa::/32",
    "::/0",
];

const SOURCES: &[&str] = &[
    "203.0.113.0",
    "203.0.113.7",
    "203.0.113.127",
    "203.0.113.128",
    "203.0.114.0",
    "198.51.100.255",
    "8.8.8.8",
    "10.0.255.255",
    "10.1.0.0",
    "192.168.1.20",
    "0.0.0.0",
    "255.255.255.255",
    "2001:db8:1::9",
    "2001:db8:2::",
    "2001:db9::",
    "fd00:aaaa::1",
    "fd00:aaab::",
    "::",
];

const INSTANTS: &[&str] = &[
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:01Z",
    "2026-07-01T12:00:00+02:00",
    "2027-01-01T00:00:00Z",
];

const TIMES: &[&str] = &[
    "2025-12-31T23:59:59Z",
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:01Z",
    "2026-01-01T00:00:02Z",
    "2026-07-01T10:00:00Z",
    "2026-12-31T23:59:59Z",
    "2030-01-01T00:00:00Z",
];

/// Sources on both sides of every block's ends.
pub(crate) fn sources() -> impl Iterator<Item = IpAddr> {
    SOURCES
        .iter()
        .map(|source| source.parse().expect("an address"))
}

/// Times on both sides of every instant.
pub(crate) fn times() -> impl Iterator<Item = Timestamp> {
    TIMES.iter().map(|time| time.parse().expect("a time"))
}

fn one_or_list(values: &'static [&'static str], most: usize) -> impl Strategy<Value = Value> {
    prop_oneof![
        select(values).prop_map(Value::from),
        prop::collection::vec(select(values), 1..=most).prop_map(Value::from),
    ]
}

fn principal() -> impl Strategy<Value = (&'static str, Value)> {
    const NAMED: &[&str] = &[
        "arn:aws:iam::123456789012:user/Alice",
        "arn:aws:iam::123456789012:user/Bob",
    ];
    prop_oneof![
        6 => Just(("Principal", json!("*"))),
        1 => Just(("Principal", json!({"AWS": "*"}))),
        2 => one_or_list(NAMED, 2).prop_map(|names| ("Principal", json!({"AWS": names}))),
        1 => select(NAMED).prop_map(|name| ("NotPrincipal", json!({"AWS": name}))),
    ]
}

fn action() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        6 => Just(("Action", json!("execute-api:Invoke"))),
        1 => Just(("Action", json!(["execute-api:InvalidateCache", "execute-api:I*"]))),
        1 => Just(("Action", json!("execute-api:ManageConnections"))),
        1 => Just(("NotAction", json!("execute-api:InvalidateCache"))),
    ]
}

fn resource() -> impl Strategy<Value = (&'static str, Value)> {
    const RESOURCES: &[&str] = &[
        "execute-api:/*",
        "execute-api:/*/*/*",
        "execute-api:/prod/*",
        "execute-api:/*/GET/*",
        "execute-api:/prod/GET/*",
        "execute-api:/*/*/public/?",
        "arn:aws:execute-api:us-east-1:123456789012:abcdef1234/prod/GET/pets",
        "arn:aws:execute-api:*:*:*",
    ];
    prop_oneof![
        4 => Just(("Resource", json!("execute-api:/*"))),
        3 => one_or_list(RESOURCES, 2).prop_map(|value| ("Resource", value)),
        1 => one_or_list(RESOURCES, 2).prop_map(|value| ("NotResource", value)),
    ]
}

/// An operator, a key and values that fit.
fn condition() -> impl Strategy<Value = (String, String, Value)> {
    let if_exists = prop_oneof![3 => Just(""), 1 => Just("IfExists")];
    let address = (
        select(&["IpAddress", "NotIpAddress"][..]),
        select(&["aws:SourceIp", "aws:VpcSourceIp"][..]),
        one_or_list(BLOCKS, 4),
    );
    let text = (
        select(
            &[
                "StringEquals",
                "StringNotEquals",
                "StringLike",
                "StringNotLike",
            ][..],
        ),
        select(&["aws:UserAgent", "aws:Referer", "aws:SourceVpc"][..]),
        one_or_list(&["curl", "bot", "vpc-a"], 2),
    );
    let flag = (
        Just("Bool"),
        Just("aws:SecureTransport"),
        select(&["true", "false"][..]).prop_map(Value::from),
    );
    let date = (
        select(
            &[
                "DateEquals",
                "DateNotEquals",
                "DateLessThan",
                "DateLessThanEquals",
                "DateGreaterThan",
                "DateGreaterThanEquals",
            ][..],
        ),
        select(&["aws:CurrentTime", "aws:EpochTime"][..]),
        one_or_list(INSTANTS, 2),
    );
    let number = (
        select(
            &[
                "NumericLessThan",
                "NumericGreaterThanEquals",
                "NumericNotEquals",
            ][..],
        ),
        Just("aws:EpochTime"),
        one_or_list(&["1767225600", "1767225601", "1798761600"], 2),
    );
    let testing = prop_oneof![6 => address, 3 => text, 1 => flag, 2 => date, 1 => number];
    let presence = (
        Just("Null"),
        select(
            &[
                "aws:SourceIp",
                "aws:VpcSourceIp",
                "aws:SourceVpc",
                "aws:Referer",
            ][..],
        ),
        select(&["true", "false"][..]).prop_map(Value::from),
    );
    prop_oneof![
        7 => (testing, if_exists).prop_map(|((operator, key, values), suffix)| {
            (format!("{operator}{suffix}"), key.to_owned(), values)
        }),
        1 => presence.prop_map(|(operator, key, value)| (operator.to_owned(), key.to_owned(), value)),
    ]
}

fn statement() -> impl Strategy<Value = Value> {
    let effect = select(&["Allow", "Deny"][..]);
    let conditions = prop::collection::vec(condition(), 0..3);
    (effect, principal(), action(), resource(), conditions).prop_map(
        |(effect, principal, action, resource, conditions)| {
            let mut statement = Map::new();
            statement.insert("Effect".to_owned(), json!(effect));
            for (name, value) in [principal, action, resource] {
                statement.insert(name.to_owned(), value);
            }
            let mut block = Map::new();
            for (operator, key, values) in conditions {
                let keys = block.entry(operator).or_insert_with(|| json!({}));
                keys[key] = values;
            }
            if !block.is_empty() {
                statement.insert("Condition".to_owned(), block.into());
            }
            statement.into()
        },
    )
}

/// The same statement with the other effect and perhaps a further condition: statements that take back
/// what another gives are too rare by chance.
fn twin(statement: &Value, condition: Option<(String, String, Value)>) -> Value {
    let mut twin = statement.clone();
    let allows = twin["Effect"] == "Allow";
    twin["Effect"] = if allows { "Deny" } else { "Allow" }.into();
    if let Some((operator, key, values)) = condition {
        if twin["Condition"].is_null() {
            twin["Condition"] = json!({});
        }
        if twin["Condition"][&operator].is_null() {
            twin["Condition"][&operator] = json!({});
        }
        twin["Condition"][operator][key] = values;
    }
    twin
}

/// A legal policy.
pub(crate) fn policy() -> impl Strategy<Value = Value> {
    let statements = prop::collection::vec(statement(), 1..5);
    let twins = prop::option::of(prop::option::of(condition()));
    (statements, twins).prop_map(|(mut statements, condition)| {
        if let Some(condition) = condition {
            statements.push(twin(&statements[0], condition));
        }
        json!({"Version": "2012-10-17", "Statement": statements})
    })
}
