//! `check` and `compile` as their users and scripts meet them.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

pub(super) fn run(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ipfilter"))
        .args(arguments)
        .current_dir(policies())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ipfilter starts");
    // It may well end before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("ipfilter ends")
}

pub(super) fn exit(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

pub(super) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

pub(super) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

/// A policy of one statement that allows everyone, with `extra` in the statement.
pub(super) fn policy(extra: &str) -> String {
    format!(
        "{{\"Version\": \"2012-10-17\", \"Statement\": [{{\"Effect\": \"Allow\", \"Principal\": \"*\",\n \
         \"Action\": \"execute-api:Invoke\", \"Resource\": \"execute-api:/*\"{extra}}}]}}"
    )
}

const PARTIAL: &str = ", \"Condition\": {\"StringLike\": {\"aws:UserAgent\": \"*Bot*\"}}";

/// Shipped policies that take the authorization service.
const BEHIND_A_PROXY: [&str; 5] = [
    "acme-challenges.json",
    "behind-a-cdn.json",
    "behind-a-load-balancer.json",
    "health-check.json",
    "methods-by-source.json",
];

#[test]
fn shipped_policies_for_a_proxy_are_whole_with_the_service() {
    for name in BEHIND_A_PROXY {
        let folder = std::env::temp_dir().join(format!("ipfilter-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let config = serde_json::json!({
            "interfaces": ["eth0"],
            "apis": [{"name": "api", "ports": [80], "policy": policies().join(name)}],
            "authorize": {"listen": "9478", "stage": "prod"},
        });
        let file = folder.join("config.json");
        std::fs::write(&file, config.to_string()).expect("a file");
        let output = run(&["check", "--config", &file.display().to_string()], b"");
        std::fs::remove_dir_all(&folder).expect("it goes");
        assert_eq!(exit(&output), 0, "{}", stdout(&output));
        assert!(
            stdout(&output).contains("whole: interface and authorization service together"),
            "{}",
            stdout(&output)
        );
        assert_eq!(exit(&run(&["check", name], b"")), 4, "{name}");
    }
}

#[test]
fn shipped_policies_are_exact() {
    let names: Vec<String> = std::fs::read_dir(policies())
        .expect("policies/")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| !BEHIND_A_PROXY.contains(&name.as_str()))
        .collect();
    assert!(names.len() >= 6, "{names:?}");
    let arguments: Vec<&str> = ["check"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let output = run(&arguments, b"");
    assert_eq!(exit(&output), 0, "{}", stdout(&output));
    let lines: Vec<&str> = stdout(&output).lines().collect();
    assert_eq!(lines.len(), names.len(), "a remark is made: {lines:#?}");
    assert!(
        lines.iter().all(|line| line.contains(": exact, ")),
        "{lines:#?}"
    );
}

#[test]
fn a_summary_says_who_may_call() {
    let output = run(&["check", "allow-list.json"], b"");
    let want = "allow-list.json: exact, 2 statements; may call: 256 IPv4 addresses in 1 network, 1 IPv6 network\n";
    assert_eq!(stdout(&output), want);
}

#[test]
fn problems_are_reported_with_their_place() {
    let bad =
        policy(", \"Condition\": {\"IpAddress\": {\"aws:SourceIp\": [\"10.0.0.0/33\", \"\"]}}");
    let output = run(&["check", "-"], bad.as_bytes());
    assert_eq!(exit(&output), 3);
    let text = stdout(&output);
    assert!(
        text.starts_with("error: -:2:109: `10.0.0.0/33` is not an address"),
        "{text}"
    );
    assert!(
        text.contains("$.Statement[0].Condition.IpAddress[\"aws:SourceIp\"][1]"),
        "{text}"
    );
    assert!(
        text.ends_with("-: invalid, 2 errors, 0 warnings\n"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colour in a pipe: {text}");
}

#[test]
fn check_answers_machines_with_the_documented_fields() {
    let output = run(
        &["check", "--format", "json", "-", "no-such-file", "."],
        policy(PARTIAL).as_bytes(),
    );
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let file = &report["files"][0];
    assert_eq!(file["file"], "-");
    assert_eq!(file["verdict"], "partial");
    let problem = file["problems"][0].as_object().expect("a problem");
    let fields: Vec<&str> = problem.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        ["column", "hint", "line", "message", "path", "severity"]
    );
    assert_eq!(problem["severity"], "maybe");
    assert_eq!(
        problem["path"],
        "$.Statement[0].Condition.StringLike[\"aws:UserAgent\"]"
    );
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&json!(2), &json!(93))
    );
    assert_eq!(report["files"].as_array().map(Vec::len), Some(3));
    assert_eq!(exit(&output), 1);
    assert!(
        stderr(&output).contains("no-such-file: cannot read"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn exit_codes_follow_the_worst_file() {
    let partial = policy(PARTIAL);
    for (arguments, input, want) in [
        (&["check", "-"][..], policy(""), 0),
        (&["check", "-"][..], partial.clone(), 4),
        (&["check", "--allow-partial", "-"][..], partial.clone(), 0),
        (&["check", "-", "no-such-file"][..], partial.clone(), 1),
        (&["check", "no-such-file", "-"][..], "{".to_owned(), 3),
        (&["check", "--authorizer", "iam", "-"][..], policy(""), 0),
        (&["check"][..], String::new(), 2),
        (&["check", "--api-arn", "x", "-"][..], String::new(), 2),
        (
            &["check", "--vpc-cidr", "10.0.0.0/33", "-"][..],
            String::new(),
            2,
        ),
        (
            &["explain", "--policy", "-", "--source", "192.0.2.1"][..],
            "{}".to_owned(),
            3,
        ),
        (
            &["explain", "--policy", "-", "--source", "192.0.2.1"][..],
            partial.clone(),
            4,
        ),
        (
            &[
                "explain",
                "--policy",
                "no-such-file",
                "--source",
                "192.0.2.1",
            ][..],
            String::new(),
            1,
        ),
        (
            &["explain", "--policy", "-", "--source", "192.0.2.1/24"][..],
            String::new(),
            2,
        ),
        (
            &["explain", "--policy", "-", "--source", "-"][..],
            partial.clone(),
            1,
        ),
        (
            &["explain", "--policy", "-", "--source", "::", "--at", "soon"][..],
            partial.clone(),
            2,
        ),
    ] {
        let output = run(arguments, input.as_bytes());
        assert_eq!(
            exit(&output),
            want,
            "{arguments:?}: {} {}",
            stdout(&output),
            stderr(&output)
        );
    }
}

#[test]
fn what_cannot_be_a_policy_is_refused_in_one_sentence() {
    for (input, message) in [
        (&b""[..], "-:1:1: the document is empty"),
        (b"\n \t", "-:1:1: the document is empty"),
        (
            b"{\"Version\": \"2012-10-17\",\n",
            "the document ends too early",
        ),
        (b"\xff\xfe{\0", "-:1:1: the file is not UTF-8"),
        (
            b"{\"Statement\": \"\xff\"}",
            "-:1:16: the file is not UTF-8",
        ),
        (b"{} {}", "trailing characters"),
        (b"[1,]", "comma too many"),
    ] {
        let output = run(&["check", "-"], input);
        assert_eq!(exit(&output), 3);
        let text = stdout(&output);
        assert!(text.contains(message), "{text}");
        assert_eq!(text.matches("error: ").count(), 1, "{text}");
    }
}

#[test]
fn what_the_aws_command_prints_is_taken() {
    let bad = policy("").replace("Invoke", "Invok");
    let once = json!({"id": "abcdef1234", "name": "pets", "policy": bad}).to_string();
    let escaped = json!(bad).to_string().replace('/', "\\/");
    let inner = escaped.trim_matches('"');
    let twice = json!({"id": "abcdef1234", "policy": inner}).to_string();
    for text in [once, twice, inner.to_owned(), escaped] {
        let output = run(&["check", "--format", "json", "-"], text.as_bytes());
        assert_eq!(exit(&output), 3, "{text}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let problem = &report["files"][0]["problems"][0];
        assert_eq!(problem["path"], "$.Statement[0].Action");
        // The place is that in the file as it is, escapes and all.
        let column = usize::try_from(problem["column"].as_u64().expect("a column")).expect("small");
        assert!(
            text[column - 1..]
                .trim_start_matches(['\\', '"'])
                .starts_with("execute-api:"),
            "{text}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ipfilter"))
        .args(["explain", "--policy", "allow-list.json", "--source", "-"])
        .current_dir(policies())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ipfilter starts");
    drop(child.stdout.take());
    let _ = child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(&b"192.0.2.1\n".repeat(1000));
    let output = child.wait_with_output().expect("ipfilter ends");
    assert_eq!(exit(&output), 0, "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn a_map_is_drawn_of_who_may_pass() {
    let path = std::env::temp_dir().join(format!("ipfilter-map-{}.svg", std::process::id()));
    let file = path.to_str().expect("UTF-8");
    let output = run(
        &["compile", "--policy", "allow-list.json", "--map", file],
        b"",
    );
    assert_eq!(exit(&output), 0, "{}", stderr(&output));
    let map = std::fs::read_to_string(&path).expect("a map");
    std::fs::remove_file(&path).expect("a map");
    assert!(
        map.starts_with("<svg ") && map.ends_with("</svg>\n"),
        "{map}"
    );
    for part in [
        "allow-list.json</text>",
        "256 IPv4 addresses may pass (less than 0.01 %), at 2",
        " 1  198.51.100.0/24     passes<",
        "<path class=\"pass\" ",
    ] {
        assert!(map.contains(part), "{part}: {map}");
    }
    let output = run(
        &[
            "compile",
            "--policy",
            "allow-list.json",
            "--map",
            "/nowhere/map.svg",
        ],
        b"",
    );
    assert_eq!(exit(&output), 1);
    assert!(stderr(&output).contains("cannot write `/nowhere/map.svg`"));
}
