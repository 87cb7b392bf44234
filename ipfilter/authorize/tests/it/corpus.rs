//! Every request of the corpus that a proxy can make, through the HTTP interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};

use crate::service::{Answer, Service, ask};

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/corpus/requests.jsonl"
);

/// The API that the corpus is about.
const API: &str = "arn:aws:execute-api:us-east-1:123456789012:abcdef1234";

/// What became of the corpus.
#[derive(Debug, Default)]
struct Tally {
    asked: usize,
    /// Denied though the path as it was sent is allowed: another reading of it is not.
    ambiguous: usize,
    /// What no proxy can say in headers, by why.
    impossible: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

/// An endpoint, and the VPC that it is in.
type Endpoint<'c> = (Option<&'c str>, Option<&'c str>);

#[test]
fn a_proxy_gets_the_answers_of_the_corpus() {
    let corpus = fs::read_to_string(CORPUS).unwrap();
    let mut tally = Tally::default();
    for line in corpus.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let probes = case["probes"].as_array().unwrap();
        let text = |probe: &'_ Value, key| probe["request"][key].as_str().map(str::to_owned);
        let endpoints: BTreeSet<_> = probes
            .iter()
            .map(|probe| (text(probe, "vpce"), text(probe, "vpc")))
            .collect();
        for (vpce, vpc) in &endpoints {
            let endpoint = (vpce.as_deref(), vpc.as_deref());
            let probes = probes.iter().filter(|probe| {
                (text(probe, "vpce"), text(probe, "vpc")) == (vpce.clone(), vpc.clone())
            });
            try_all(&case, endpoint, &probes.collect::<Vec<_>>(), &mut tally);
        }
    }
    println!(
        "{} asked, {} of them denied for another reading of the path; no proxy can ask: {:?}",
        tally.asked, tally.ambiguous, tally.impossible
    );
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    // Most of the corpus can be asked, and is.
    let impossible: usize = tally.impossible.values().sum();
    assert!(tally.asked > 3_500 && impossible < 1_000, "{tally:?}");
}

fn try_all(case: &Value, (vpce, vpc): Endpoint<'_>, probes: &[&Value], tally: &mut Tally) {
    let mut possible = Vec::new();
    for &probe in probes {
        match impossible(case, probe) {
            Some(why) => *tally.impossible.entry(why).or_default() += 1,
            None => possible.push(probe),
        }
    }
    if possible.is_empty() {
        return;
    }
    let keys: BTreeSet<&String> = possible
        .iter()
        .filter_map(|probe| probe["request"]["context"].as_object())
        .flat_map(|context| context.keys())
        .collect();
    let headers: BTreeMap<&String, String> = keys
        .into_iter()
        .enumerate()
        .map(|(index, key)| (key, format!("X-Context-{index}")))
        .collect();
    let mut authorize = json!({
        "stage": {"from": "path"},
        "principal_header": "X-Principal",
    });
    if !headers.is_empty() {
        authorize["context_headers"] = json!(headers);
    }
    if let Some(vpce) = vpce {
        let sources: BTreeSet<String> = possible
            .iter()
            .map(|probe| probe["request"]["source"].as_str().unwrap())
            .map(|source| format!("{source}/{}", if source.contains(':') { 128 } else { 32 }))
            .collect();
        let mut endpoint = json!({"sources": sources});
        if let Some(vpc) = vpc {
            endpoint["vpc"] = json!(vpc);
        }
        authorize["endpoints"] = json!({vpce: endpoint});
    }
    let mut api = json!({"api_arn": API});
    if case["authorizer"].is_string() {
        api["authorizer"] = case["authorizer"].clone();
    }
    let service = Service::start(&case["policy"], &api, &authorize);
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    for probe in possible {
        let head = head(&probe["request"], &headers);
        let answer = ask(&mut stream, head.as_bytes()).unwrap();
        tally.asked += 1;
        judge(case, probe, &answer, tally);
    }
}

/// Why a proxy can't make this request, if it can't.
fn impossible(case: &Value, probe: &Value) -> Option<&'static str> {
    let request = &probe["request"];
    let text = request.to_string();
    let policy = case["policy"].to_string().to_ascii_lowercase();
    let is_clocked = policy.contains("aws:currenttime") || policy.contains("aws:epochtime");
    let path = request["path"].as_str().unwrap();
    let stage = request["stage"].as_str().unwrap();
    if is_clocked {
        Some("another time than now")
    } else if request["action"].is_string() {
        Some("another action than to invoke")
    } else if request["vpc"].is_string() && !request["vpce"].is_string() {
        Some("a VPC without an endpoint")
    } else if !text.is_ascii() || text.contains("\\u00") {
        Some("text that is not ASCII")
    } else if !path.starts_with('/') || stage.is_empty() || stage.contains('/') {
        Some("no path, or no stage, of a URL")
    } else if format!("{stage}{path}").contains(['?', '#']) {
        Some("a query in the path")
    } else if request["principal"].as_str().is_some_and(str::is_empty) {
        Some("a principal without a name")
    } else {
        None
    }
}

fn head(request: &Value, context: &BTreeMap<&String, String>) -> String {
    let text = |key: &str| request[key].as_str();
    let scheme = if request["secure"] == json!(true) {
        "https"
    } else {
        "http"
    };
    let mut head = format!(
        "GET / HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: {}\r\nX-Forwarded-Method: {}\r\n\
         X-Forwarded-Uri: /{}{}?a=b\r\nX-Forwarded-Proto: {scheme}\r\n",
        text("source").unwrap(),
        text("method").unwrap(),
        text("stage").unwrap(),
        text("path").unwrap(),
    );
    if let Some(principal) = text("principal") {
        write!(head, "X-Principal: {principal}\r\n").unwrap();
    }
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        write!(head, "{name}: {}\r\n", value.as_str().unwrap()).unwrap();
    }
    for (key, value) in request["context"].as_object().into_iter().flatten() {
        let values = match value {
            Value::Array(values) => values.clone(),
            value => vec![value.clone()],
        };
        for value in values {
            let value = value.as_str().unwrap();
            write!(head, "{}: {value}\r\n", context[key]).unwrap();
        }
    }
    head + "\r\n"
}

fn judge(case: &Value, probe: &Value, answer: &Answer, tally: &mut Tally) {
    let explicit = answer.body.contains("with an explicit deny");
    let right = match probe["expected"].as_str().unwrap() {
        "allow" if answer.status == 403 && is_ambiguous(probe) => {
            tally.ambiguous += 1;
            true
        }
        "allow" => answer.status == 200,
        _ if is_left_open(case, probe) => answer.status == 200 || is_ambiguous(probe),
        _ if is_ambiguous(probe) => answer.status == 403,
        _ => answer.status == 403 && explicit == (probe["kind"] == "explicit"),
    };
    if !right {
        tally
            .wrong
            .push(format!("{}: {probe}\n  got {answer:?}", case["name"]));
    }
}

/// Whether a path can be read in several ways.
fn is_ambiguous(probe: &Value) -> bool {
    let request = &probe["request"];
    let path = format!(
        "/{}{}",
        request["stage"].as_str().unwrap(),
        request["path"].as_str().unwrap()
    );
    path.contains(['%', ';', '\\']) || path.contains("//") || path.contains("/.")
}

/// Whether the policy leaves a request to the authorizer: IAM asks both accounts' policies about a caller of
/// another account, so to that one an implicit denial is final.
fn is_left_open(case: &Value, probe: &Value) -> bool {
    let principal = probe["request"]["principal"].as_str();
    let is_own = principal.is_none_or(|principal| {
        !principal.starts_with("arn:") || principal.contains(":123456789012:")
    });
    match case["authorizer"].as_str() {
        Some("iam") => probe["kind"] == "implicit" && is_own,
        Some("lambda") => probe["kind"] == "implicit",
        _ => false,
    }
}
