//! The history of an instance's life: what happened, and who asked for it.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{EVERYONE, GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for};

/// Kinds and requesters, the oldest first.
fn events(lab: &Lab) -> Vec<(String, String)> {
    let status = lab.status();
    let events = status["events"].as_array().expect("a list").iter().rev();
    let text = |event: &Value, name: &str| event[name].as_str().expect("text").to_owned();
    let events = events.map(|event| (text(event, "kind"), text(event, "by")));
    events.collect()
}

fn last(lab: &Lab) -> Value {
    lab.status()["events"][0].clone()
}

fn done(lab: &Lab, arguments: &[&str]) {
    let (code, said) = lab.tell(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
}

#[test]
fn all_that_happens_is_noted_with_who_asked() {
    let lab = Lab::new("activity");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--watch"]);
    done(&lab, &["reload"]);
    assert_eq!(last(&lab)["what"], "nothing changes");
    assert_eq!(last(&lab)["uid"], 0);
    lab.write("policy.json", "{");
    wait_for("the broken file is noted", || {
        last(&lab)["kind"] == "failure"
    });
    let failure = last(&lab)["what"].as_str().expect("text").to_owned();
    assert!(
        failure.starts_with("reload of changed files: ") && failure.contains("policy.json:1:1"),
        "{failure}"
    );
    lab.write("policy.json", allow(&["0.0.0.0/0", "::/0"]));
    wait_for("the file is deployed", || statuses(&lab) == EVERYONE);
    done(&lab, &["rollback"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["block", "198.51.100.7", "--for", "1h"]);
    let added = last(&lab);
    assert!(
        added["what"]
            .as_str()
            .expect("text")
            .starts_with("198.51.100.7 block, override 1, until "),
        "{added}"
    );
    done(&lab, &["overrides", "remove", "1"]);
    done(&lab, &["allow", "203.0.113.9", "--for", "5s"]);
    wait_for("the override ends", || {
        last(&lab)["kind"] == "override_ended"
    });
    lab.reload(&filter);
    filter.signal(Signal::TERM).expect("it runs");
    wait_for("it ends", || last(&lab)["kind"] == "stop");
    drop(filter);
    done(
        &lab,
        &[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ],
    );
    done(&lab, &["detach"]);
    let expected = [
        ("start", "root"),
        ("reload", "root"),
        ("failure", "file watch"),
        ("reload", "file watch"),
        ("rollback", "root"),
        ("override_added", "root"),
        ("override_removed", "root"),
        ("override_added", "root"),
        ("override_ended", "clock"),
        ("reload", "signal"),
        ("stop", "signal"),
        ("deploy", "root"),
        ("detach", "root"),
    ];
    let expected = expected.map(|(kind, by)| (kind.to_owned(), by.to_owned()));
    assert_eq!(events(&lab), expected);
    // Half a line, as a power cut leaves it, costs no other.
    let file = lab
        .folder
        .join("state")
        .join(lab.key())
        .join("activity.jsonl");
    let mut bytes = fs::read(&file).expect("a file");
    bytes.truncate(bytes.len() - 9);
    fs::write(&file, bytes).expect("a file");
    done(
        &lab,
        &[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ],
    );
    assert_eq!(events(&lab).len(), expected.len());
    assert_eq!(last(&lab)["kind"], "deploy");
    done(&lab, &["detach"]);
    lab.assert_nothing_is_left();
}
