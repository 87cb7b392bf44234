//! A filter follows its interface, whatever that is called.

use std::{fs, path::Path, thread, time::Instant};

use testkit::process::TICK;

use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses};

fn rename(lab: &Lab, from: &str, to: &str) {
    let host = &lab.network.host;
    host.ip(["link", "set", from, "name", to])
        .expect("an interface");
}

fn interfaces(lab: &Lab) -> String {
    let status = lab.status();
    let names = status["interfaces"].as_array().expect("interfaces").iter();
    let names: Vec<_> = names
        .map(|it| it["name"].as_str().expect("a name"))
        .collect();
    names.join(" ")
}

/// With a daemon: one warning that says what is followed, through reloads and restarts.
#[test]
fn a_rename_keeps_the_filter() {
    let lab = Lab::new("rename");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = ["--policy", &policy, "--deny", "reject", "--udp"];
    let filter = lab.filter(&arguments);
    rename(&lab, "eth0", "lan0");
    lab.wait_log("run", "`eth0` is called `lan0` now", 1);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(interfaces(&lab), "lan0");
    assert_eq!(lab.status()["waiting"].as_array().map(Vec::len), Some(0));
    lab.reload(&filter);
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let log = lab.log("run");
    assert_eq!(log.matches("is called `lan0` now").count(), 1, "{log}");
    assert!(!log.contains("is gone"), "{log}");
    // Dropping a guard is a kill -9. A service manager starts it again, and a person too.
    drop(filter);
    let run = ["run", "--interface", "eth0", "--port", "80"];
    let run = [&run[..], &arguments].concat();
    for service in [&[("NOTIFY_SOCKET", "/nowhere")][..], &[]] {
        let filter = lab.run(&run, service);
        assert_eq!(statuses(&lab), ONLY_GOOD);
        assert_eq!(interfaces(&lab), "lan0");
        drop(filter);
    }
    // Without a daemon as well.
    let (code, said) = lab.tell(&[&["deploy"], &run[1..]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`eth0` is called `lan0` now"), "{said}");
    rename(&lab, "lan0", "wan0");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    rename(&lab, "wan0", "eth0");
    let filter = lab.filter(&arguments);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// What was of a pattern stays filtered, and another interface that takes a name is filtered too.
#[test]
fn a_name_that_is_taken_by_another_filters_both() {
    let lab = Lab::empty("taken");
    let policy = lab.write("policy.json", allow(&GOOD));
    let host = &lab.network.host;
    let add = |name: &str, peer: &str| {
        host.ip(["link", "add", name, "type", "veth", "peer", "name", peer])
            .expect("an interface");
    };
    add("lan0", "peer0");
    let run = [
        "run",
        "--interface",
        "eth0,lan0",
        "--port",
        "80",
        "--policy",
        &policy,
    ];
    let filter = lab.run(&run, &[]);
    rename(&lab, "lan0", "old0");
    lab.wait_log("run", "`lan0` is called `old0` now", 1);
    add("lan0", "peer1");
    let start = Instant::now();
    while interfaces(&lab).split(' ').count() < 3 {
        assert!(start.elapsed() < PATIENCE, "{}", interfaces(&lab));
        thread::sleep(TICK);
    }
    let mut names: Vec<_> = interfaces(&lab).split(' ').map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["eth0", "lan0", "old0"]);
    lab.detach(filter);
}

#[test]
fn alternative_names_are_accepted_everywhere() {
    let lab = Lab::new("altname");
    let policy = lab.write("policy.json", allow(&GOOD));
    let host = &lab.network.host;
    let name = "a-name-longer-than-the-kernel-s-fifteen";
    host.ip(["link", "property", "add", "dev", "eth0", "altname", name])
        .expect("an alternative name");
    let run = [
        "run",
        "--interface",
        name,
        "--port",
        "80",
        "--policy",
        &policy,
        "--deny",
        "reject",
    ];
    let filter = lab.run(&run, &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    rename(&lab, "eth0", "lan0");
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    rename(&lab, "lan0", "eth0");
    lab.detach(filter);
}

/// What is in the state is what nobody else may change.
#[test]
fn the_state_remembers_which_interface_is_meant() {
    let lab = Lab::empty("bound");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let record = lab.folder.join("state").join(lab.key());
    let record = fs::read_to_string(Path::new(&record).join("deployment.json")).expect("a record");
    assert!(record.contains("\"wanted\": \"eth0\""), "{record}");
    lab.detach(filter);
}
