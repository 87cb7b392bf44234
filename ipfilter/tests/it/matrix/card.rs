//! What depends on the network card.

use std::{collections::HashMap, io, net::UdpSocket, thread};

use testkit::netns::{ALLOWED, DENIED, HOST, Namespace, Network, ROUTER};

use super::*;
use crate::lab::inside;

#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn the_scene_is_set() {
    let types = fs::metadata("/sys/kernel/btf/vmlinux").unwrap();
    assert!(types.len() > 0);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(mounts.contains(" /sys/fs/bpf bpf "), "{mounts}");
}

/// On the card: attach, reload, outlive the daemon, detach.
#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn the_filter_attaches_and_detaches() {
    let nics = env::var("IPFILTER_TEST_NICS").unwrap();
    let card = nics.split(',').next().unwrap();
    run(&format!("ip link set {card} up"));
    attach_and_detach(card, "auto");
    assert_eq!(attach_and_detach(card, "tc"), tc_hook());
}

/// Datagrams that come from the other card: small ones, and such as fill a frame, of which a
/// driver may hand over the beginning in one piece and the rest in another.
#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn what_comes_in_is_judged() {
    let nics = env::var("IPFILTER_TEST_NICS").unwrap();
    let (card, peer) = nics.split_once(',').unwrap();
    let mut network = Network::new("card").unwrap();
    let other = network.add("other").unwrap();
    join(card, peer, &other);
    fs::write(POLICY, allow(&["198.51.100.0/24"])).unwrap();
    for mode in ["auto", "tc"] {
        let daemon = daemon(card, mode, &["--udp"]);
        let socket = UdpSocket::bind((HOST.v4, 80)).unwrap();
        thread::scope(|scope| inside(scope, &other, send).join().unwrap());
        let received = [ALLOWED, DENIED].map(|from| (from.v4.to_owned(), 0));
        let mut received = HashMap::from(received);
        let soon = Some(Duration::from_millis(200));
        socket.set_read_timeout(soon).unwrap();
        wait_until("all of it was judged", || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 2000]) {
                *received.get_mut(&from.ip().to_string()).unwrap() += 1;
            }
            received[ALLOWED.v4] >= DATAGRAMS && packets(&counters(), "denied") >= DATAGRAMS
        });
        let status = status().unwrap();
        assert_eq!(received[ALLOWED.v4], DATAGRAMS, "{mode} {status}");
        assert_eq!(received[DENIED.v4], 0, "{mode} {status}");
        assert_eq!(packets(&counters(), "denied"), DATAGRAMS, "{mode} {status}");
        assert_eq!(packets(&counters(), "malformed"), 0, "{mode} {status}");
        drop(daemon);
        run(&format!("{IPFILTER} --instance matrix detach"));
    }
}

fn counters() -> serde_json::Value {
    let status: serde_json::Value = serde_json::from_str(&status().unwrap()).unwrap();
    status["counters"].clone()
}

fn packets(counters: &serde_json::Value, reason: &str) -> u64 {
    let counters = counters.as_array().unwrap();
    let rows = counters.iter().filter(|row| row["reason"] == reason);
    rows.map(|row| row["packets"].as_u64().unwrap()).sum()
}

/// How many datagrams each client sends.
const DATAGRAMS: u64 = 40;

fn send() {
    for from in [ALLOWED.v4, DENIED.v4] {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        for number in 0..DATAGRAMS {
            let data = if number % 2 == 0 {
                &[0; 10][..]
            } else {
                &[0; 1400]
            };
            socket.send_to(data, (HOST.v4, 80)).unwrap();
            sleep(Duration::from_millis(5));
        }
    }
}

/// Moves `peer` to `other`, where both clients are, and waits until it hears the card.
fn join(card: &str, peer: &str, other: &Namespace) {
    run(&format!("ip link set {peer} netns {}", other.name()));
    let router = format!("{}/24", ROUTER.v4);
    for arguments in [
        &["addr", "add", ALLOWED.v4, "dev", "lo"][..],
        &["addr", "add", DENIED.v4, "dev", "lo"],
        &["addr", "add", &router, "dev", peer],
        &["link", "set", peer, "up"],
    ] {
        other.ip(arguments.iter().copied()).unwrap();
    }
    run(&format!("ip addr add {}/24 dev {card}", HOST.v4));
    run(&format!("ip link set {card} up"));
    for client in [ALLOWED.v4, DENIED.v4] {
        run(&format!("ip route add {client} via {}", ROUTER.v4));
    }
    let socket = UdpSocket::bind((HOST.v4, 81)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    wait_until("heard the other card", || {
        let say = || {
            let socket = UdpSocket::bind((ALLOWED.v4, 0)).unwrap();
            // No neighbour yet: nothing to do but to try again.
            let _: io::Result<usize> = socket.send_to(&[0], (HOST.v4, 81));
        };
        thread::scope(|scope| inside(scope, other, say).join().unwrap());
        socket.recv_from(&mut [0]).is_ok()
    });
}
