//! The namespaces for real: needs root, as the live tests that use them do.

use std::{fs, process::Command, time::Duration};

use testkit::{
    netns::{ALLOWED, Addresses, DENIED, HOST, Namespace, Network, Playground},
    process::output,
};

/// What goes wrong on the way from a namespace to an address, if anything.
fn obstacle(from: &Namespace, to: &str) -> Option<String> {
    // TCP rather than ICMP, because ping is not installed everywhere: a refused connection proves
    // the way there and back as well as an answer does, and bash is always there.
    let attempt = format!("exec 3<>/dev/tcp/{to}/9");
    let tried = from
        .command("timeout")
        .args(["5", "bash", "-c", &attempt])
        .output();
    let said = match tried {
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let refused = said.contains("Connection refused");
    (!refused).then(|| format!("{} -> {to}: {said}", from.name()))
}

fn obstacles(from: &Namespace, to: Addresses) -> Vec<String> {
    [to.v4, to.v6]
        .into_iter()
        .filter_map(|address| obstacle(from, address))
        .collect()
}

#[test]
fn everyone_in_the_playground_reaches_the_host_and_back() {
    const NONE: [&str; 0] = [];
    let playground = Playground::new("reach").unwrap();
    assert_eq!(obstacles(&playground.allowed, HOST), NONE);
    assert_eq!(obstacles(&playground.denied, HOST), NONE);
    assert_eq!(obstacles(&playground.host, ALLOWED), NONE);
    assert_eq!(obstacles(&playground.host, DENIED), NONE);
}

#[test]
fn nothing_is_left_when_a_network_is_dropped() {
    let mut network = Network::new("gone").unwrap();
    let lonely = network.add("lonely").unwrap();
    let path = lonely.path();
    assert!(path.exists());
    // A program nobody has ended must not keep the namespace alive.
    let mut stray = lonely.spawn(lonely.command("sleep").arg("60")).unwrap();
    let id = stray.id().to_string();
    while !output(Command::new("ip").args(["netns", "pids", lonely.name()]))
        .unwrap()
        .lines()
        .any(|line| line == id)
    {
        assert!(stray.ended().unwrap().is_none());
    }
    drop(network);
    assert!(!path.exists());
    let status = stray.wait(Duration::from_secs(5)).unwrap();
    assert!(!status.unwrap().success());
}

#[test]
fn leftovers_of_dead_owners_are_swept() {
    // Process ids end at 2^22 (PID_MAX_LIMIT), so this owner can't be alive.
    const LEFT: &str = "ipf-4999999-0-left-host";
    // The sweep comes with a process's first network, so this test asks another process for one:
    // itself, told to do just that.
    if std::env::var_os("SWEEP_NOW").is_some() {
        Network::new("sweep").unwrap();
        return;
    }
    output(Command::new("ip").args(["netns", "add", LEFT])).unwrap();
    output(
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leftovers_of_dead_owners_are_swept"])
            .env("SWEEP_NOW", "1"),
    )
    .unwrap();
    assert!(!fs::exists(format!("/run/netns/{LEFT}")).unwrap());
}

#[test]
fn the_bpf_file_system_is_the_same_inside() {
    let mut network = Network::new("mounts").unwrap();
    let inside = network.add("inside").unwrap();
    // Others come and go meanwhile: each network namespace with a name is one.
    let mounts = |command: &mut Command| {
        let all = output(command.args(["/proc/self/mountinfo"])).unwrap();
        let bpf = all.lines().filter(|line| line.contains(" - bpf "));
        bpf.map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!mounts(&mut Command::new("cat")).is_empty());
    assert_eq!(
        mounts(&mut inside.command("cat")),
        mounts(&mut Command::new("cat"))
    );
}
