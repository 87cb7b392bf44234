//! `explain` as its users and scripts meet it.

use serde_json::{Value, json};

use super::commands::{exit, policy, run, stderr, stdout};

#[test]
fn explain_answers_machines_with_the_documented_fields() {
    let arguments = [
        "explain",
        "--policy",
        "allow-list.json",
        "--source",
        "198.51.100.10,203.0.113.10",
        "--source",
        "10.0.0.1",
    ];
    let output = run(&arguments, b"");
    assert_eq!(exit(&output), 0);
    let answers: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    assert_eq!(
        answers[1],
        json!({
            "source": "203.0.113.10", "decision": "deny", "explicit": true,
            "statements": [
                {"index": 0, "sid": "AnyoneMayCall", "effect": "Allow", "matches": "yes"},
                {"index": 1, "sid": "ButOnlyFromHere", "effect": "Deny", "matches": "yes"},
            ],
        })
    );
    let decisions: Vec<&Value> = answers.iter().map(|answer| &answer["decision"]).collect();
    assert_eq!(decisions, ["allow", "deny", "deny"]);
}

#[test]
fn explain_reads_sources_from_standard_input() {
    let sources = b"198.51.100.10\n\n 2001:db8:113::10 \r\n";
    let output = run(
        &[
            "explain",
            "--policy",
            "allow-list.json",
            "--source",
            "-",
            "--format",
            "text",
        ],
        sources,
    );
    let want = "198.51.100.10 allow (passes: every request is allowed): Allow `AnyoneMayCall` matches\n\
                2001:db8:113::10 deny (dropped: a Deny matches every request): Allow `AnyoneMayCall` matches, \
                Deny `ButOnlyFromHere` matches\n";
    assert_eq!(stdout(&output), want);
    let output = run(
        &["explain", "--policy", "allow-list.json", "--source", "-"],
        b"::1\nhost\n::2\n",
    );
    assert_eq!(exit(&output), 1);
    assert_eq!(stdout(&output).lines().count(), 1);
    assert_eq!(
        stderr(&output),
        "error: -:2: `host` is not an IPv4 or IPv6 address\n"
    );
}

#[test]
fn explain_asks_about_a_time() {
    let window =
        policy(", \"Condition\": {\"DateLessThan\": {\"aws:CurrentTime\": \"2026-01-01\"}}");
    for (time, want) in [
        ("2025-12-31T23:59:59Z", "allow"),
        ("2026-01-01T00:00:00Z", "deny"),
        ("1767225599", "allow"),
        ("-1", "allow"),
        ("1767225600", "deny"),
    ] {
        let output = run(
            &["explain", "--policy", "-", "--source", "::1", "--at", time],
            window.as_bytes(),
        );
        let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["decision"], want, "{time}");
    }
}

#[test]
fn explain_judges_whole_requests() {
    let text = json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "Read", "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
         "Resource": "execute-api:/prod/GET/*"},
        {"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
         "Condition": {"StringLike": {"aws:UserAgent": "*bot*"}}},
    ]});
    let path = std::env::temp_dir().join(format!("ipfilter-requests-{}.json", std::process::id()));
    std::fs::write(&path, text.to_string()).expect("a file");
    let file = path.to_str().expect("UTF-8");
    let requests = [
        r#"{"source": "192.0.2.1", "method": "GET", "stage": "prod", "path": "/pets"}"#,
        r#"{"source": "192.0.2.1", "method": "GET", "stage": "prod", "path": "/", "headers": {"user-agent": "a bot"}}"#,
        "",
        r#"{"source": "192.0.2.1", "method": "PUT", "stage": "prod", "path": "/pets"}"#,
        "not JSON",
        r#"{"source": "192.0.2.1", "method": "GET", "nonsense": 1}"#,
        r#"{"source": "host", "method": "GET"}"#,
        r#"{"source": "192.0.2.1"}"#,
        r#"{"source": "::1", "method": "GET", "stage": "prod", "path": "/"}"#,
    ]
    .join("\n");
    let arguments = [
        "explain",
        "--policy",
        file,
        "--allow-partial",
        "--request",
        "-",
    ];
    let output = run(&arguments, requests.as_bytes());
    assert_eq!(exit(&output), 1, "{}", stderr(&output));
    let answers: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    assert_eq!(
        answers[1],
        json!({
            "decision": "deny", "explicit": true, "interface": "pass",
            "statements": [
                {"index": 0, "sid": "Read", "effect": "Allow", "matches": "yes"},
                {"index": 1, "sid": null, "effect": "Deny", "matches": "yes"},
            ],
        })
    );
    let decisions: Vec<Option<&str>> = answers.iter().map(|one| one["decision"].as_str()).collect();
    let bad = None;
    let want = [
        Some("allow"),
        Some("deny"),
        Some("deny"),
        bad,
        bad,
        bad,
        bad,
        Some("allow"),
    ];
    assert_eq!(decisions, want);
    assert_eq!(answers[2]["explicit"], false);
    for (answer, number) in answers[3..7].iter().zip(5..) {
        let error = answer["error"].as_str().expect("an error");
        assert!(error.starts_with(&format!("line {number}")), "{error}");
        assert_eq!(answer["line"], number);
    }
    let last = requests.lines().last().expect("a line");
    for (options, want) in [
        (&[][..], 4),
        (&["--authorizer", "lambda", "--allow-partial"], 0),
    ] {
        let mut arguments = vec!["explain", "--policy", file, "--request", "-"];
        arguments.extend(options);
        assert_eq!(exit(&run(&arguments, last.as_bytes())), want, "{options:?}");
    }
    std::fs::remove_file(&path).expect("a file");
}
