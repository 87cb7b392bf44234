//! What must hold on every kernel that is supported, with every kind of network card: run by
//! `cargo xtask kernels`, in guests.
//!
//! The names of two cards of the same kind that hear each other are in `IPFILTER_TEST_NICS`,
//! separated by a comma.

use std::{env, fs, path::Path, process::Command};

/// The two cards.
fn nics() -> Vec<String> {
    let names = env::var("IPFILTER_TEST_NICS").unwrap();
    names.split(',').map(str::to_owned).collect()
}

/// Runs a command line of words without blanks, which must succeed.
fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}`: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Whether `address` answers to one of five pings from the namespace `from`: an e1000e needs seconds
/// to find its link.
fn reaches(from: &str, address: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", from, "ping", "-c5", "-W1", address]);
    command.status().unwrap().success()
}

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn the_scene_is_set() {
    let types = fs::metadata("/sys/kernel/btf/vmlinux").unwrap();
    assert!(types.len() > 0);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(mounts.contains(" /sys/fs/bpf bpf "), "{mounts}");
    assert!(run(concat!(env!("CARGO_BIN_EXE_ipfilter"), " --version")).contains("ipfilter"));
}

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn the_cards_hear_each_other() {
    let nics = nics();
    assert_eq!(nics.len(), 2);
    for (number, nic) in (1..).zip(&nics) {
        assert!(
            Path::new("/sys/class/net")
                .join(nic)
                .join("device")
                .exists()
        );
        run(&format!("ip netns add n{number}"));
        run(&format!("ip link set {nic} netns n{number}"));
        run(&format!(
            "ip -n n{number} addr add 192.0.2.{number}/24 dev {nic}"
        ));
        run(&format!("ip -n n{number} link set {nic} up"));
    }
    assert!(reaches("n1", "192.0.2.2"));
    for number in 1..=2 {
        run(&format!("ip netns del n{number}"));
    }
}

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn a_veth_pair_and_a_vlan_can_be_made() {
    run("ip link add left type veth peer name right");
    run("ip link add link left name left.7 type vlan id 7");
    run("ip link del left");
}
