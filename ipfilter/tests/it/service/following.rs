//! Interfaces that come, go and get other names, and pins that vanish, while `ipfilter run` is running.

use std::fs;

use testkit::process::Guard;

use super::daemon::run;
use crate::lab::{GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for};

/// Interfaces that are not there at the start of a service, come, get another name, and go.
#[test]
fn interfaces_are_followed() {
    let lab = Lab::new("follow");
    let policy = lab.write("policy.json", allow(&GOOD));
    let mut arguments = run(&policy, &[]);
    arguments[2] = "eth0,late0,port*";
    let (code, said) = lab.tell(&arguments);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no interface `late0`"), "{said}");
    let service = [("NOTIFY_SOCKET", "/nowhere")];
    let filter = lab.run(&arguments, &service);
    let names = |status: &serde_json::Value, field: &str| -> Vec<String> {
        let list = status[field].as_array().expect("a list").iter();
        let mut names: Vec<_> = list
            .map(|item| {
                item["name"]
                    .as_str()
                    .or(item.as_str())
                    .expect("a name")
                    .to_owned()
            })
            .collect();
        names.sort();
        names
    };
    let follows = |interfaces: &[&str], waiting: &[&str]| {
        wait_for(&format!("{interfaces:?}"), || {
            let status = lab.status();
            names(&status, "interfaces") == interfaces && names(&status, "waiting") == waiting
        });
    };
    follows(&["eth0"], &["late0", "port*"]);
    let ip = |arguments: &[&str]| {
        lab.network
            .host
            .ip(arguments.iter().copied())
            .expect("it does")
    };
    ip(&[
        "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ]);
    follows(&["eth0", "late0"], &["port*"]);
    ip(&["link", "set", "late1", "name", "port1"]);
    follows(&["eth0", "late0", "port1"], &[]);
    ip(&["link", "delete", "late0"]);
    follows(&["eth0"], &["late0", "port*"]);
    ip(&[
        "link", "add", "late0", "type", "veth", "peer", "name", "other",
    ]);
    follows(&["eth0", "late0"], &["port*"]);
    // A name that was away is no reason to refuse a reload, one that is new is.
    ip(&["link", "delete", "late0"]);
    follows(&["eth0"], &["late0", "port*"]);
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// A typo in the configuration must not detach the filter.
#[test]
fn a_new_name_that_is_not_there_is_refused() {
    let lab = Lab::new("slip");
    lab.write("policy.json", allow(&GOOD));
    let config = |interface: &str| {
        let text = format!(
            r#"{{"interfaces": ["{interface}"], "apis": [{{"name": "api", "ports": [80],
                "policy": "policy.json", "deny": "reject"}}]}}"#
        );
        lab.write("ipfilter.json", text)
    };
    let path = config("eth0");
    let filter = lab.run(&["run", "--config", &path], &[]);
    config("eht0");
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no interface `eht0`"), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

fn links(lab: &Lab) -> usize {
    let entries = fs::read_dir(lab.pins()).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("link_")).count()
}

/// What others remove, the process puts back; and while it is gone, nobody gets in.
#[test]
fn pins_that_are_removed_come_back() {
    let lab = Lab::new("pins");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &[]), &[]);
    for entry in fs::read_dir(lab.pins()).expect("pins") {
        fs::remove_file(entry.expect("a pin").path()).expect("a pin");
    }
    assert_eq!(statuses(&lab), ONLY_GOOD);
    wait_for("the pins", || links(&lab) == 1);
    fs::remove_dir_all(lab.pins())
        .or_else(|_| fs::remove_dir_all(lab.pins()))
        .expect("pins");
    wait_for("the folder", || links(&lab) == 1);
    lab.wait_log("run", "WARN", 1);
    kill(filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let filter = lab.run(&run(&policy, &[]), &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// Dropping a guard is a kill -9.
fn kill(guard: Guard) {
    drop(guard);
}
