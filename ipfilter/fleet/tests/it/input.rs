//! Bad input: one sentence each, and nothing changed.

use std::{fs, process::Command};

use crate::group::{Group, config, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ipfilter-fleet");

#[test]
fn what_is_no_group_is_refused_before_anything_is_asked() {
    for (url, told) in [
        ("http://127.0.0.1/web", "`http` is not a scheme"),
        ("127.0.0.1/web", "this is not where a group is"),
        ("etcd://127.0.0.1", "the group is missing"),
        ("etcd://127.0.0.1/we b", "a group's name is"),
        ("etcd://127.0.0.1/../x", "a group's name is"),
        ("etcd://127.0.0.1:99999/web", "`99999` is not a port"),
        ("etcd://me:secret@127.0.0.1/web", "--password-file"),
    ] {
        for command in ["status", "history", "agent"] {
            let option = if command == "agent" {
                "--follow"
            } else {
                "--to"
            };
            let (code, said) = said(Command::new(PROGRAM).args([command, option, url]));
            assert_eq!(code, Some(2), "{url}: {said}");
            assert!(said.contains(told), "{url}: {said}");
        }
    }
}

#[test]
fn bad_input_is_refused_in_a_sentence_and_changes_nothing() {
    let group = Group::new("input", 1);
    let (code, text) = group.publish(&["198.51.100.0/24"], &["--no-wait"]);
    assert_eq!(code, Some(0), "{text}");
    let kept = || {
        let all = group
            .etcd
            .ctl(&["get", "--prefix", "/", "-w", "json"])
            .unwrap();
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        all["kvs"].clone()
    };
    let before = kept();
    assert!(before.is_array());

    let folder = group.folder.path();
    let path = |name: &str| folder.join(name).display().to_string();
    let file = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        path(name)
    };
    let good = config(folder, &["203.0.113.0/24"]).display().to_string();
    let outside = file(
        "outside.json",
        r#"{"interfaces": ["eth0"], "apis": [{"name": "a", "ports": [80], "policy": "/etc/hostname"}]}"#,
    );
    fs::create_dir_all(folder.join("far")).unwrap();
    let policy = fs::read_to_string(folder.join("config/policy.json")).unwrap();
    file("far.json", &policy);
    let far = file(
        "far/c.json",
        r#"{"interfaces": ["eth0"], "apis": [{"name": "a", "ports": [80], "policy": "../far.json"}]}"#,
    );
    let invalid = file("config/invalid.json", r#"{"Statement": []}"#);
    let broken = file(
        "config/broken.json",
        r#"{"interfaces": ["eth0"], "apis": [{"name": "a", "ports": [80], "policy": "invalid.json"}]}"#,
    );
    assert!(invalid.ends_with("invalid.json"));
    let no_key = file("no-key", "nonsense");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["publish", "--config", &good], 2, "give `--yes`"),
        (
            &["publish", "--yes", "--config", &path("none.json")],
            2,
            "none.json",
        ),
        (
            &["publish", "--yes", "--config", &broken],
            3,
            "nothing is published",
        ),
        (
            &["publish", "--yes", "--config", &outside],
            3,
            "nothing is published",
        ),
        (
            &["publish", "--yes", "--config", &far],
            2,
            "can't be in a bundle",
        ),
        (
            &["publish", "--yes", "--config", &good, "--canary", "0"],
            2,
            "names no hosts",
        ),
        (
            &["publish", "--yes", "--config", &good, "--canary", "120%"],
            2,
            "names no hosts",
        ),
        (
            &["publish", "--yes", "--config", &good, "--canary", "1"],
            1,
            "no host of the group reports",
        ),
        (
            &["publish", "--yes", "--config", &good, "--soak", "soon"],
            2,
            "is not a time",
        ),
        (
            &[
                "publish",
                "--yes",
                "--config",
                &good,
                "--max-denied-change",
                "x",
            ],
            2,
            "is not a percentage",
        ),
        (
            &["publish", "--yes", "--config", &good, "--sign-key", &no_key],
            2,
            "a key is `ed25519:`",
        ),
        (
            &[
                "publish",
                "--yes",
                "--config",
                &good,
                "--ca",
                &path("none.pem"),
            ],
            2,
            "can't read",
        ),
        (&["rollback", "--yes"], 1, "there is no earlier bundle"),
        (
            &["rollback", "--yes", "--to-generation", "77"],
            1,
            "generation 77 is not kept",
        ),
        (&["allow", "0.0.0.0/0", "--for", "1h"], 2, "let everyone in"),
        (
            &["block", "203.0.113.7/24", "--for", "1h"],
            2,
            "bits set behind its prefix",
        ),
        (&["block", "203.0.113.7"], 2, "--forever"),
        (
            &["overrides", "--remove", "203.0.113.7"],
            1,
            "no override of `203.0.113.7`",
        ),
        (&["forget", "nobody"], 1, "knows no host `nobody`"),
    ];
    for (arguments, expected, told) in cases {
        let (code, text) = group.run(arguments);
        assert_eq!(code, Some(*expected), "{arguments:?}: {text}");
        assert!(text.contains(told), "{arguments:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    // A group that is not there is no new one.
    for command in [
        &["status"][..],
        &["history"],
        &["rollback", "--yes"],
        &["block", "203.0.113.7", "--for", "1h"],
        &["publish", "--yes", "--config", &good],
    ] {
        let mut other = group.desk.namespace.command(PROGRAM);
        let url = group.url().replace("/web", "/wbe");
        let (code, text) = said(other.args(command).args(["--to", &url]));
        assert_eq!(code, Some(1), "{command:?}: {text}");
        assert!(
            text.contains("there is no group `wbe`"),
            "{command:?}: {text}"
        );
    }
    // Nobody listens there.
    let mut away = group.desk.namespace.command(PROGRAM);
    let (code, text) = said(away.args(["status", "--to", "etcd://10.77.2.2:1/web"]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("etcd can't be reached at 10.77.2.2:1"),
        "{text}"
    );
    assert_eq!(text.trim().lines().count(), 1, "{text}");
    let (code, text) = said(Command::new(PROGRAM).args(["keygen", &no_key]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("can't create"), "{text}");
    assert_eq!(fs::read_to_string(&no_key).unwrap(), "nonsense");

    assert!(before == kept(), "something was changed");
}
