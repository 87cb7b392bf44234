//! Hostile documents: corpus policies mutated as text and as JSON, and shapes made to be slow.
//!
//! A bounded run is part of the tests; `IPFILTER_FUZZ_CASES` asks for more.

use std::time::Duration;

use ipfilter::{
    policy::{Options, Parsed, Severity, Source, parse},
    view::diagnostics,
};
use proptest::{prelude::*, sample::Index, test_runner::Config};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::equivalence::assert_equivalent;
use crate::{
    corpus::{EXACT, INVALID, PARTIAL, TIME},
    generate,
};

/// Seeds longer than this only slow the search down.
const LONGEST_SEED: usize = 4096;

fn config() -> Config {
    let cases = std::env::var("IPFILTER_FUZZ_CASES").ok();
    Config {
        cases: cases.map_or(2000, |cases| cases.parse().expect("a number of cases")),
        ..Config::default()
    }
}

fn seeds() -> Vec<String> {
    let corpus = [EXACT, TIME, PARTIAL, INVALID];
    let lines = corpus.iter().flat_map(|text| text.lines());
    let policies = lines.map(|line| {
        let case: Value = serde_json::from_str(line).expect("the corpus is JSON Lines");
        match &case["policy_text"] {
            Value::String(text) => text.clone(),
            _ => case["policy"].to_string(),
        }
    });
    policies.filter(|text| text.len() <= LONGEST_SEED).collect()
}

/// What this thread has computed: the clock on the wall counts what others do, too.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a time")
}

/// What must hold of any document, legal or not.
fn check(bytes: &[u8]) {
    let source = Source::new("fuzz", bytes);
    let begun = cpu_time();
    let Parsed {
        policy, problems, ..
    } = parse(&source, &Options::default());
    let took = cpu_time() - begun;
    assert!(took < Duration::from_secs(5), "took {took:?}");
    let errors = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    assert_eq!(policy.is_none(), errors, "{problems:#?}");
    for problem in &problems {
        assert!(problem.line > 0 && problem.column > 0, "{problem:?}");
        assert!(problem.path.starts_with('$'), "{problem:?}");
        assert!(problem.span.start <= source.text().len(), "{problem:?}");
        let shown =
            anstream::adapter::strip_str(&diagnostics::render(&source, problem)).to_string();
        for text in [&shown, &problem.path, &problem.message] {
            assert!(
                !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text:?} {problem:?}"
            );
        }
    }
    if let Some(policy) = policy {
        for now in generate::times() {
            assert_equivalent(&policy, now);
        }
    }
}

/// Pieces that mean something to the parser.
const TOKENS: &[&str] = &[
    "\"",
    "\\",
    "\\u0041",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "1e999",
    "-0",
    "\u{0}",
    "\u{FEFF}",
    "é",
    "\"Effect\":\"Deny\",",
    "\"Condition\":{}",
    "IfExists",
    "ForAnyValue:",
    "NotIpAddress",
    "aws:VpcSourceIp",
    "0.0.0.0/0",
    "::/0",
    "::ffff:1.2.3.4",
    "/33",
    "*",
    "?",
    "${aws:SourceIp}",
    "$",
    "2026-01-01",
    "9999-12-31T23:59:59Z",
    "-62135596801",
    "execute-api:/",
    "arn:aws:execute-api:",
    "[[[[[[[[",
];

#[derive(Clone, Debug)]
enum Edit {
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, &'static str),
    Byte(Index, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..200_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        (any::<Index>(), prop::sample::select(TOKENS))
            .prop_map(|(at, token)| Edit::Insert(at, token)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ]
}

fn apply(bytes: &mut Vec<u8>, edit: &Edit) {
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match edit {
        Edit::Remove(at, length) => {
            let start = place(at, bytes);
            bytes.drain(start..(start + length).min(bytes.len()));
        }
        Edit::Repeat(at, length) => {
            let start = place(at, bytes);
            let piece = bytes[start..(start + length).min(bytes.len())].to_vec();
            bytes.splice(start..start, piece);
        }
        Edit::Insert(at, token) => {
            let start = place(at, bytes);
            bytes.splice(start..start, token.bytes());
        }
        Edit::Byte(at, byte) => {
            let start = place(at, bytes);
            bytes.splice(start..(start + 1).min(bytes.len()), [*byte]);
        }
    }
}

/// All values in a document, so that one can be chosen.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                places(value, &format!("{path}/{index}"), found);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{path}/{name}"), found);
            }
        }
        _ => {}
    }
}

/// Puts `graft` in place of one value of `policy`.
fn graft(policy: &mut Value, at: Index, graft: Value) {
    let mut found = Vec::new();
    places(policy, "", &mut found);
    let chosen: &String = at.get(&found);
    if let Some(place) = policy.pointer_mut(chosen) {
        *place = graft;
    }
}

fn small_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(TOKENS).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            (prop::sample::select(TOKENS), inner).prop_map(|(name, value)| json!({name: value})),
        ]
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutated_text_is_read_or_refused(
        seed in prop::sample::select(seeds()),
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        let mut bytes = seed.into_bytes();
        for edit in &edits {
            apply(&mut bytes, edit);
        }
        check(&bytes);
    }

    #[test]
    fn mutated_policies_are_read_or_refused(
        mut policy in generate::policy(),
        grafts in prop::collection::vec((any::<Index>(), small_value()), 1..3),
        wraps in 0..3_usize,
    ) {
        for (at, value) in grafts {
            graft(&mut policy, at, value);
        }
        let mut text = policy.to_string();
        for _ in 0..wraps {
            text = json!({"id": "x", "policy": text}).to_string();
        }
        check(text.as_bytes());
    }
}

/// A policy of one Deny with this condition.
fn with_condition(condition: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
        "Condition": condition,
    }]})
    .to_string()
}

fn statements(count: usize, statement: impl Fn(usize) -> Value) -> String {
    json!({"Statement": (0..count).map(statement).collect::<Vec<_>>()}).to_string()
}

fn statement(effect: &str, condition: &Value) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": "*", "Resource": "*", "Condition": condition})
}

fn block(index: usize) -> String {
    format!(
        "{}.{}.{}.0/24",
        11 + index / 65_536,
        index / 256 % 256,
        index % 256
    )
}

/// Members whose names are almost `name`.
fn numbered(count: usize, name: &str, value: &str) -> String {
    let members: Vec<String> = (0..count)
        .map(|at| format!("\"{name}{at}\":{value}"))
        .collect();
    members.join(",")
}

/// Documents made to be slow or deep; unoptimised, each must be done within [`check`]'s bound.
#[test]
fn hostile_shapes_are_read_in_bounded_time() {
    let depth = 200_000;
    let many = 3_000;
    let shapes = [
        "[".repeat(depth),
        format!("{}{}", "{\"Statement\":".repeat(depth), "}".repeat(depth)),
        format!(
            "{{\"Statement\":{}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        ),
        format!("{{\"policy\":\"{}", "\\\"".repeat(depth)),
        format!("{{{}\"a\":1}}", "\"a\":1,".repeat(depth / 4)),
        format!("{{\"{}\":1}}", "x".repeat(1_000_000)),
        format!(
            "{{\"Statement\":{{{}}}}}",
            numbered(depth / 4, "Efect", "1")
        ),
        with_condition(
            &serde_json::from_str(&format!("{{{}}}", numbered(depth / 4, "IpAdress", "1")))
                .expect("JSON"),
        ),
        with_condition(
            &json!({"IpAddress": serde_json::from_str::<Value>(&format!("{{{}}}", numbered(depth / 4, "aws:SourceIps", "\"::1\""))).expect("JSON")}),
        ),
        with_condition(&json!({"IpAddress": {"aws:SourceIp": vec!["nonsense"; 50_000]}})),
        with_condition(&json!({"IpAddress": {"aws:SourceIp": vec!["10.0.0.1/8"; 50_000]}})),
        with_condition(
            &json!({"DateLessThan": {"aws:CurrentTime": (0..20_000).collect::<Vec<_>>()}}),
        ),
        with_condition(&json!({"StringLike": {"aws:UserAgent": "*a".repeat(100_000)}})),
        json!({"Statement": [{"Effect": "Allow", "Principal": "*", "Resource": "*",
            "Action": format!("execute-api:{}", "*a".repeat(20_000))}]})
        .to_string(),
        json!({"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*",
            "Resource": format!("arn:aws:execute-api:*:*:{}/*", "*a".repeat(20_000))}]})
        .to_string(),
        statements(many, |at| {
            statement("Allow", &json!({"IpAddress": {"aws:SourceIp": block(at)}}))
        }),
        statements(many, |at| {
            let effect = if at % 2 == 0 { "Allow" } else { "Deny" };
            statement(
                effect,
                &json!({
                    "IpAddress": {"aws:SourceIp": block(at)},
                    "StringLike": {"aws:UserAgent": format!("a{at}")},
                }),
            )
        }),
        statements(many, |at| {
            statement(
                "Allow",
                &json!({
                    "DateGreaterThan": {"aws:CurrentTime": 1_700_000_000 + at},
                    "StringLike": {"aws:UserAgent": "a"},
                }),
            )
        }),
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let begun = cpu_time();
        let source = Source::new("hostile", shape.as_bytes());
        let parsed = parse(&source, &Options::default());
        let elapsed = cpu_time() - begun;
        assert!(
            elapsed < Duration::from_secs(10),
            "shape {number} took {elapsed:?}"
        );
        assert!(parsed.problems.len() < 500, "shape {number}");
    }
}
