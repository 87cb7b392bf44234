//! `status --check`: who listens that the filter does not cover, and which ports nobody listens on.

use std::process::Stdio;

use serde_json::Value;
use testkit::{netns::HOST, process::Guard};

use crate::lab::{GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for};

/// What `status --check` says as JSON, with its exit code: each finding's kind, and what it is about.
fn check(lab: &Lab) -> (Option<i32>, Vec<String>) {
    let command = ["status", "--check", "--format", "json"];
    let output = lab.ipfilter(&command).output().expect("it starts");
    let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = status["check"]["findings"].as_array().expect("findings");
    let findings = findings.iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().map(str::to_owned);
        let about = text("interface").or(text("address"));
        let parts = [text("kind"), text("protocol"), text("ports"), about];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.join(" ")
    });
    let unseen = status["check"]["unseen"].as_array().map_or(0, Vec::len);
    assert!(unseen > 0, "{status}");
    (output.status.code(), findings.collect())
}

fn deploy(lab: &Lab, interfaces: &str, ports: &str, more: &[&str]) {
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = ["deploy", "--interface", interfaces, "--port", ports];
    let arguments = [&deploy[..], &["--policy", &policy], more].concat();
    let (code, said) = lab.tell(&arguments);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn ways_in_that_no_filter_covers_are_found() {
    let lab = Lab::new("exposure");
    let host = &lab.network.host;
    let ip = |arguments: &[&str]| drop(host.ip(arguments.iter().copied()).expect("it does"));
    deploy(&lab, "eth0", "80", &[]);
    assert_eq!(check(&lab), (Some(0), Vec::new()));
    let (code, said) = lab.tell(&["status", "--check"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("check       nothing is open"), "{said}");
    assert!(said.contains("not checked ports that NAT rules"), "{said}");

    // The other family: the denied client gets in, and the check says by which address.
    deploy(&lab, "eth0", "80", &["--address", HOST.v4]);
    assert_eq!(statuses(&lab), ["200", "200", "000", "200"]);
    let (code, findings) = check(&lab);
    assert_eq!(code, Some(1));
    let address = format!("address TCP 80 {}", HOST.v6);
    assert!(findings.contains(&address), "{findings:?}");
    assert!(!findings.concat().contains(HOST.v4), "{findings:?}");

    // Another interface, alone and behind a bridge.
    deploy(&lab, "eth0", "80", &[]);
    ip(&[
        "link", "add", "lan0", "up", "type", "veth", "peer", "name", "lan1",
    ]);
    assert_eq!(check(&lab), (Some(1), vec!["interface TCP 80 lan0".into()]));
    let (code, said) = lab.tell(&["status", "--check"]);
    assert_eq!(code, Some(1), "{said}");
    let advice = "TCP port 80 of `api` can be reached through `lan0`, which has no filter";
    assert!(said.contains(advice), "{said}");
    ip(&["link", "add", "br0", "up", "type", "bridge"]);
    ip(&["link", "set", "lan0", "master", "br0"]);
    assert_eq!(check(&lab), (Some(1), vec!["interface TCP 80 br0".into()]));
    // A filter at each port of a bridge, or at the bridge, sees all that comes in by it.
    for both in ["eth0,lan0", "eth0,br0"] {
        deploy(&lab, both, "80", &["--mode", "tc"]);
        assert_eq!(check(&lab), (Some(0), Vec::new()), "{both}");
    }
    // What rests on a filtered interface is seen there.
    ip(&[
        "link", "add", "mac0", "link", "eth0", "up", "type", "macvlan",
    ]);
    assert_eq!(check(&lab), (Some(0), Vec::new()));
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// A process that looks like the proxy which Docker starts for a published port, until it is dropped.
fn proxy(lab: &Lab, host: &str, container: &str) -> Guard {
    const PRETEND: &str = "exec -a /usr/bin/docker-proxy sh -c 'read wait' proxy \"$@\"";
    let arguments = format!(
        "-proto tcp -host-ip 0.0.0.0 -host-port {host} -container-ip 172.17.0.2 -container-port {container}"
    );
    let mut command = lab.network.host.command("bash");
    command.args(["-c", PRETEND, "bash"]);
    command.args(arguments.split(' '));
    command.stdin(Stdio::piped());
    Guard::spawn(&mut command).expect("bash")
}

#[test]
fn ports_that_nobody_listens_on_and_containers_beside_the_filter_are_found() {
    let lab = Lab::new("unused");
    deploy(&lab, "eth0", "80-82", &["--udp"]);
    let unused = ["no_listener TCP 81-82", "no_listener UDP 80-82"].map(str::to_owned);
    assert_eq!(check(&lab), (Some(1), unused.into()));
    // The container's port was given instead of the host's.
    let mistaken = proxy(&lab, "8081", "81");
    let published = |port: &str| format!("published TCP {port}");
    wait_for("the proxy", || check(&lab).1.contains(&published("8081")));
    drop(mistaken);
    // The container is published a second time.
    let _two = [proxy(&lab, "80", "3000"), proxy(&lab, "8080", "3000")];
    wait_for("the proxies", || check(&lab).1.contains(&published("8080")));
    lab.tell(&["detach"]);
    // Nothing is compared with nothing.
    let (code, said) = lab.tell(&["status", "--check"]);
    assert_eq!(code, Some(1), "{said}");
    lab.assert_nothing_is_left();
}
