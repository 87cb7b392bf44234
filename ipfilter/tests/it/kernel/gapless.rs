//! No packet is misjudged, whatever happens to a deployment: datagrams from an allowed and from a
//! denied client, counted at the sockets and by the filter.

use std::{
    fs,
    net::UdpSocket,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::SystemTime,
    time::{Duration, Instant},
};

use ipfilter::{
    addresses::AddressSet,
    kernel::{Filter, Interface, Mode},
    plan::{Api, Deny, Plan, Protocols, Response},
};
use ipfilter_ebpf::abi::Reason;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use testkit::netns::{ALLOWED, DENIED, HOST, Namespace};

use crate::lab::{Ended, Lab, PATIENCE, allow, inside, wait_for};

/// The clients' networks; the denied one is not among them.
const GOOD: [&str; 2] = ["198.51.100.0/24", "2001:db8:100::/48"];

/// The time between two datagrams of a client.
const PACE: Duration = Duration::from_millis(2);

/// How long it stays like that, whatever was just done, while datagrams come and go.
const WHILE: Duration = Duration::from_millis(500);

/// The receiver's buffer, in bytes: it must never be full, even if the receiver does not get to run.
const ROOM: usize = 256 << 20;

/// Datagrams of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Datagrams {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// Has both clients send to the host's port 80 while `work` is done. Tells of the allowed one's
/// datagrams, then of the denied one's.
pub(crate) fn under_traffic(lab: &Lab, work: impl FnOnce()) -> [Datagrams; 2] {
    let tally = Tally::default();
    let ready = Barrier::new(2);
    let network = &lab.network;
    thread::scope(|scope| {
        let _ended = [&tally.stop, &tally.deaf].map(Ended);
        let receiver = inside(scope, &network.host, || receive(&ready, &tally));
        ready.wait();
        let clients = [(&network.allowed, 0), (&network.denied, 1)];
        let senders = clients.map(|(client, number): (&Namespace, usize)| {
            let tally = &tally;
            inside(scope, client, move || {
                send(&tally.sent[number], &tally.stop);
            })
        });
        // Both are at it before, and after.
        tally.wait_for_more();
        work();
        tally.wait_for_more();
        tally.stop.store(true, Relaxed);
        for sender in senders {
            sender.join().expect("it counts");
        }
        tally.wait_for_the_last();
        tally.deaf.store(true, Relaxed);
        receiver.join().expect("it counts");
    });
    let [allowed, denied] = [0, 1].map(|number| Datagrams {
        sent: tally.sent[number].load(Relaxed),
        received: tally.received[number].load(Relaxed),
    });
    [allowed, denied]
}

/// What was sent and received so far, of the allowed client and of the denied one.
#[derive(Default)]
struct Tally {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    /// Nothing more is to be sent.
    stop: AtomicBool,
    /// Nor received.
    deaf: AtomicBool,
}

impl Tally {
    fn of(counters: &[AtomicU64; 2]) -> [u64; 2] {
        [0, 1].map(|number| counters[number].load(Relaxed))
    }

    /// Waits until each client has sent a hundred more.
    fn wait_for_more(&self) {
        let before = Self::of(&self.sent);
        wait_for("traffic", || {
            let now = Self::of(&self.sent);
            before
                .iter()
                .zip(now)
                .all(|(before, now)| now > before + 100)
        });
    }

    /// Waits until all that was sent is there; or all of the allowed client's, and for a while
    /// nothing more of the other's, which it may not reach the host with.
    fn wait_for_the_last(&self) {
        let sent = Self::of(&self.sent);
        let mut last = (Self::of(&self.received), Instant::now());
        let start = Instant::now();
        loop {
            let received = Self::of(&self.received);
            if received != last.0 {
                last = (received, Instant::now());
            }
            let quiet = received[0] >= sent[0] && last.1.elapsed() > WHILE;
            if received == sent || quiet || start.elapsed() > PATIENCE {
                return;
            }
            thread::sleep(PACE);
        }
    }
}

fn send(sent: &AtomicU64, stop: &AtomicBool) {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    while !stop.load(Relaxed) {
        let done = socket.send_to(b"a datagram", (HOST.v4, 80));
        sent.fetch_add(u64::from(done.is_ok()), Relaxed);
        thread::sleep(PACE);
    }
}

/// Counts what comes, by client.
fn receive(ready: &Barrier, tally: &Tally) {
    let socket = UdpSocket::bind((HOST.v4, 80)).expect("a socket");
    let soon = Some(Duration::from_millis(50));
    socket.set_read_timeout(soon).expect("a socket");
    set_socket_recv_buffer_size_force(&socket, ROOM).expect("root may have it");
    ready.wait();
    while !tally.deaf.load(Relaxed) {
        let Ok((_, from)) = socket.recv_from(&mut [0; 64]) else {
            continue;
        };
        let source = from.ip().to_string();
        let place = [ALLOWED.v4, DENIED.v4].iter().position(|it| *it == source);
        tally.received[place.expect("one of the clients")].fetch_add(1, Relaxed);
    }
}

/// All of the allowed client's came, and none of the other's.
pub(crate) fn assert_told_apart(told: [Datagrams; 2]) {
    let [allowed, denied] = told;
    assert_eq!(allowed.received, allowed.sent, "{told:?}");
    assert_eq!(denied.received, 0, "{told:?}");
}

/// With the real binary: reloads, the end of its process by force, another one, and the way off.
/// Returns the hook that it took.
pub(crate) fn with_the_binary(lab: &Lab, mode: &str, reloads: usize) -> String {
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = ["--policy", &policy, "--udp", "--mode", mode];
    let mut filter = Some(lab.filter(&arguments));
    let told = under_traffic(lab, || {
        for number in 0..reloads {
            // Another plan each time, which says the same of both clients.
            let other = format!("192.0.2.{number}/32");
            lab.write("policy.json", allow(&[GOOD[0], GOOD[1], &other]));
            lab.reload(filter.as_ref().expect("it runs"));
        }
        assert_eq!(lab.log("run").matches("reloaded: ").count(), reloads);
        // Dropping a guard is a kill -9.
        drop(filter.take());
        thread::sleep(WHILE);
        filter = Some(lab.filter(&arguments));
    });
    let interfaces = lab.status()["interfaces"].clone();
    assert_eq!(interfaces.as_array().map(Vec::len), Some(1));
    let hook = interfaces[0]["mode"].as_str().expect("a hook").to_owned();
    println!("{hook}: {told:?}");
    assert_told_apart(told);
    assert_eq!(denied_by_counters(lab), told[1].sent);
    lab.detach(filter.expect("it runs"));
    let [_, denied] = under_traffic(lab, || {});
    assert_eq!(denied.received, denied.sent, "{mode}");
    hook
}

fn denied_by_counters(lab: &Lab) -> u64 {
    let status = lab.status();
    let counters = status["counters"].as_array().expect("counters");
    let denied = counters.iter().filter(|it| it["reason"] == "denied");
    denied
        .map(|it| it["packets"].as_u64().expect("a number"))
        .sum()
}

#[test]
fn reloads_and_restarts_leave_no_gap() {
    let lab = Lab::empty("gapless");
    for (mode, hook) in [("native", "native"), ("tc", "tcx"), ("generic", "generic")] {
        assert_eq!(with_the_binary(&lab, mode, 10), hook);
    }
}

fn plan(number: u8) -> Plan {
    let other = format!("192.0.2.{number}/32");
    let networks = [GOOD[0], &other].map(|net| net.parse().expect("a network"));
    let api = Api {
        name: "api".into(),
        ports: "80".parse().expect("a port"),
        protocols: Protocols::BOTH,
        deny: Deny::Drop,
        enforce: ipfilter::plan::Share::ALL,
        response: Response::default(),
        sources: AddressSet::from_networks(networks),
    };
    Plan::new(vec![api], Vec::new()).expect("a plan")
}

/// Through the library, at a hook that the binary takes on older kernels only.
#[test]
fn clsact_leaves_no_gap_either() {
    let lab = Lab::empty("clsact");
    // An instance is one of the network namespace in which it is named.
    let filter = thread::scope(|scope| {
        let filter = || Filter::of(&lab.instance.parse().expect("a name"));
        inside(scope, &lab.network.host, filter).join()
    })
    .expect("a filter");
    let deploy = |number| {
        thread::scope(|scope| {
            let deployed = inside(scope, &lab.network.host, || {
                let eth0 = Interface::matching(&["eth0".into()], &[]).expect("interfaces");
                let eth0 = eth0.complete().expect("an interface");
                filter.deploy(&plan(number), &eth0, Mode::Clsact, SystemTime::now())
            });
            let deployed = deployed.join().expect("it deploys");
            deployed.unwrap_or_else(|error| panic!("{error}"))
        })
    };
    let mut deployment = Some(deploy(0));
    let told = under_traffic(&lab, || {
        for number in 1..=20 {
            deployment = Some(deploy(number));
        }
        drop(deployment.take());
        fs::remove_dir_all(lab.pins()).expect("pins");
        thread::sleep(WHILE);
        deployment = Some(deploy(21));
    });
    println!("clsact: {told:?}");
    assert_told_apart(told);
    let counted = filter.counters(1).expect("counters");
    let denied = counted.iter().filter(|it| it.reason == Reason::Denied);
    let denied: u64 = denied.map(|it| it.total.packets).sum();
    assert!(denied > 0 && denied < told[1].sent, "the pins were removed");
    assert_eq!(deployment.map(|it| it.attached().len()), Some(1));
    drop(lab.ipfilter(&["detach"]).output().expect("it comes off"));
    let [_, denied] = under_traffic(&lab, || {});
    assert_eq!(denied.received, denied.sent);
}
