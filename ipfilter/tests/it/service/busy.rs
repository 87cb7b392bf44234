//! What does not wait while a daemon is busy: interfaces that appear, and boundaries of time.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use ipfilter::{packet::Packet, plan::Protocol};
use jiff::{SignedDuration, Timestamp};
use rustix::net::SendFlags;
use testkit::netns::{ALLOWED, DENIED, HOST};

use crate::{
    kernel::delivery::try_packet_socket,
    lab::{Ended, GOOD, Lab, PATIENCE, allow, inside, wait_for},
};

/// So many prefixes take seconds to read and load.
const MANY: u32 = 200_000;

/// A policy of so many single addresses beside these.
fn many(count: u32, seed: u32) -> String {
    let mut blocks: Vec<String> = GOOD.map(str::to_owned).into();
    blocks.extend((0..count).map(|number| {
        let [a, b, c, d] = (0x0b00_0000 + seed + number * 2).to_be_bytes();
        format!("{a}.{b}.{c}.{d}/32")
    }));
    let blocks: Vec<_> = blocks.iter().map(String::as_str).collect();
    allow(&blocks)
}

/// A denied sender at the other end of each interface that is made, and whoever it reaches.
#[derive(Default)]
struct Knocking {
    /// The number of the interface, and 1 more; 0 for none.
    number: AtomicU32,
    sent: AtomicU64,
    received: AtomicU64,
    done: AtomicBool,
}

impl Knocking {
    /// Sends a datagram after another, from the moment on at which there is an interface.
    fn send(&self) {
        let frame = Packet {
            // To everyone at the link: nobody there has to be asked first.
            mac: [0xff; 6],
            vlans: Vec::new(),
            source: DENIED.v4.parse().expect("an address"),
            destination: HOST.v4.parse().expect("an address"),
            protocol: Protocol::Udp,
            port: 80,
            fragment: None,
        };
        let frame = frame.frame().expect("a frame");
        while !self.done.load(Relaxed) {
            let number = self.number.load(Relaxed);
            let peer = format!("peer{}", number.wrapping_sub(1));
            let Some(socket) = try_packet_socket(&peer).filter(|_| number > 0) else {
                thread::sleep(KNOCK);
                continue;
            };
            while self.number.load(Relaxed) == number {
                let sent = rustix::net::send(&socket, &frame, SendFlags::empty());
                self.sent.fetch_add(u64::from(sent.is_ok()), Relaxed);
                thread::sleep(KNOCK);
            }
        }
    }

    fn receive(&self) {
        let socket = UdpSocket::bind("0.0.0.0:80").expect("a socket");
        let tick = Some(Duration::from_millis(10));
        socket.set_read_timeout(tick).expect("a timeout");
        while !self.done.load(Relaxed) {
            let received = socket.recv_from(&mut [0; 8]).is_ok();
            self.received.fetch_add(u64::from(received), Relaxed);
        }
    }
}

/// The time between two datagrams.
const KNOCK: Duration = Duration::from_micros(100);

/// While a reload of 200,000 prefixes goes on, an interface is made anew again and again. What a denied
/// sender gets through until it is filtered is counted: without a filter, all of it.
#[test]
fn interfaces_that_appear_do_not_wait_for_a_reload() {
    let lab = Lab::empty("appear");
    let policy = lab.write("policy.json", many(MANY, 0));
    let run = [
        "run",
        "--interface",
        "eth0,late*",
        "--port",
        "80",
        "--udp",
        "--policy",
        &policy,
    ];
    let knocking = Knocking::default();
    let done = AtomicBool::new(false);
    let mut waits: Vec<(Duration, u64)> = Vec::new();
    let mut during = 0;
    let (filter, took) = thread::scope(|scope| {
        let host = &lab.network.host;
        let _done = Ended(&knocking.done);
        inside(scope, host, || knocking.send());
        inside(scope, host, || knocking.receive());
        // Without a filter the interface is an open one.
        make(&lab, &knocking, 0);
        wait_for("an open interface", || knocking.received.load(Relaxed) > 10);
        remove(&lab, &knocking, 0);
        let filter = lab.run(&run, &[("NOTIFY_SOCKET", "/nowhere")]);
        lab.write("policy.json", many(MANY, 1));
        let reload = scope.spawn(|| {
            let _ended = Ended(&done);
            let start = Instant::now();
            let (code, said) = lab.tell(&["reload"]);
            assert_eq!(code, Some(0), "{said}");
            start.elapsed()
        });
        for number in 1.. {
            if number > 1 && done.load(Relaxed) {
                break;
            }
            waits.push(appear(&lab, &knocking, number));
            during += usize::from(!done.load(Relaxed));
        }
        (filter, reload.join().expect("it reloads"))
    });
    let passed: u64 = waits.iter().map(|(_, passed)| passed).sum();
    waits.sort_unstable();
    let median = waits[waits.len() / 2];
    println!(
        "a reload of {MANY} prefixes took {took:?}; {during} interfaces appeared during it; filtered \
         after {:?} (median), {:?} (longest); denied datagrams: {} sent, {passed} got through",
        median.0,
        waits[waits.len() - 1].0,
        knocking.sent.load(Relaxed),
    );
    let most: Vec<_> = waits.iter().map(|(_, passed)| passed).collect();
    println!("by interface: {most:?}");
    assert!(during > 1, "{took:?} {waits:?}");
    // At a quarter of them it is milliseconds, however busy the machine is, and however long other tests
    // that remove network namespaces hold the kernel's lock of network configuration.
    let mut most = most;
    most.sort_unstable();
    assert!(*most[most.len() / 4] < 200, "{waits:?}");
    // Half of them are filtered well before a reload would have ended, however busy the machine is.
    assert!(median.0 < took / 3, "{took:?} {waits:?}");
    lab.detach(filter);
}

fn make(lab: &Lab, knocking: &Knocking, number: u32) {
    let (name, peer) = (format!("late{number}"), format!("peer{number}"));
    knocking.number.store(number + 1, Relaxed);
    let batch = format!("link add {name} up type veth peer name {peer}\nlink set {peer} up\n");
    let batch = lab.write("make", batch);
    lab.network
        .host
        .ip(["-batch", &batch])
        .expect("an interface");
}

fn remove(lab: &Lab, knocking: &Knocking, number: u32) {
    knocking.number.store(0, Relaxed);
    let name = format!("late{number}");
    lab.network
        .host
        .ip(["link", "delete", &name])
        .expect("an interface");
}

/// Makes an interface, and returns how long it took until it was filtered, and how many denied datagrams
/// came in by then.
fn appear(lab: &Lab, knocking: &Knocking, number: u32) -> (Duration, u64) {
    let before = knocking.received.load(Relaxed);
    make(lab, knocking, number);
    let host = &lab.network.host;
    let start = Instant::now();
    let name = format!("late{number}");
    while !host
        .ip(["-details", "link", "show", &name])
        .expect("an interface")
        .contains("prog/xdp")
    {
        assert!(start.elapsed() < PATIENCE, "{}", lab.log("run"));
        thread::sleep(Duration::from_millis(1));
    }
    let took = start.elapsed();
    // Those that came in are counted a little later, and no more come.
    let sent = knocking.sent.load(Relaxed);
    wait_for("more knocking", || knocking.sent.load(Relaxed) > sent + 20);
    remove(lab, knocking, number);
    (took, knocking.received.load(Relaxed) - before)
}

/// A boundary of a policy so large that building its plan takes longer than a boundary may be late.
#[test]
fn a_boundary_of_time_is_met() {
    let lab = Lab::empty("boundary");
    // However slow the machine is now: time for a reload, for building ahead, and to spare.
    let start = Instant::now();
    let policy = lab.write("policy.json", many(MANY / 10, 1));
    let arguments = ["--policy", &policy, "--udp"];
    let filter = lab.filter(&arguments);
    let mut ahead = SignedDuration::try_from(start.elapsed() * 4).expect("a time");
    let opens = loop {
        ahead += SignedDuration::from_secs(8);
        let opens = (Timestamp::now() + ahead).as_second();
        let mut timed: serde_json::Value = serde_json::from_str(&many(MANY / 10, 0)).expect("JSON");
        let condition = &mut timed["Statement"]["Condition"];
        condition["NumericGreaterThanEquals"] = serde_json::json!({"aws:EpochTime": opens});
        lab.write("policy.json", timed.to_string());
        lab.reload(&filter);
        let opens = Timestamp::from_second(opens).expect("a time");
        // A reload that took too long left no time to build ahead: that is another case.
        if Timestamp::now() + ahead / 2 < opens {
            break opens;
        }
        ahead *= 2;
    };
    let done = AtomicBool::new(false);
    let first = thread::scope(|scope| {
        let receiver = inside(scope, &lab.network.host, || {
            let socket = UdpSocket::bind((HOST.v4, 80)).expect("a socket");
            socket
                .set_read_timeout(Some(PATIENCE * 4))
                .expect("a socket");
            socket.recv_from(&mut [0; 8]).expect("a datagram");
            Timestamp::now()
        });
        let done = &done;
        inside(scope, &lab.network.allowed, move || {
            let socket = UdpSocket::bind((ALLOWED.v4, 0)).expect("a socket");
            while !done.load(Relaxed) && Timestamp::now() < opens + SignedDuration::from_secs(90) {
                // The port is closed for the others.
                let _: std::io::Result<usize> = socket.send_to(b"?", (HOST.v4, 80));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let first = receiver.join().expect("it receives");
        done.store(true, Relaxed);
        first
    });
    let late = first.duration_since(opens);
    let mut told = String::new();
    write!(
        told,
        "the plan for its time let a packet pass {late:#} after it"
    )
    .expect("text");
    println!(
        "{told}\n{}",
        lab.log("run").lines().last().unwrap_or_default()
    );
    assert!(late >= SignedDuration::ZERO, "{told}");
    // A second, on a machine that others keep busy: to build it takes longer.
    assert!(late < SignedDuration::from_secs(1), "{told}");
    lab.detach(filter);
}

/// `deploy` leaves nobody who would follow the clock.
#[test]
fn time_that_nobody_follows_is_refused_or_frozen() {
    let lab = Lab::empty("frozen");
    let opens = Timestamp::now().as_second() + 3;
    let mut policy: serde_json::Value = serde_json::from_str(&allow(&GOOD)).expect("JSON");
    let condition = &mut policy["Statement"]["Condition"];
    condition["NumericLessThan"] = serde_json::json!({"aws:EpochTime": opens});
    let policy = lab.write("policy.json", policy.to_string());
    let deploy = [
        "deploy",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--policy",
        &policy,
    ];
    let boundary = Timestamp::from_second(opens).expect("a time").to_string();
    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains(&boundary) && said.contains("--freeze-time"),
        "{said}"
    );
    lab.assert_nothing_is_left();
    let (code, said) = lab.tell(&[&deploy[..], &["--freeze-time"]].concat());
    assert_eq!(code, Some(0), "{said}");
    let start = Instant::now();
    while lab.status()["overdue"] != true {
        assert!(start.elapsed() < PATIENCE, "{}", lab.status());
        thread::sleep(Duration::from_millis(50));
    }
    let (_, said) = lab.tell(&["status"]);
    assert!(
        said.contains(&format!("overdue     since {boundary}")),
        "{said}"
    );
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    // A time that no clock reaches is no boundary.
    let never = allow(&GOOD).replace(
        "\"IpAddress\"",
        "\"DateLessThan\": {\"aws:CurrentTime\": \"9999-12-31T23:59:59Z\"}, \"IpAddress\"",
    );
    lab.write("policy.json", never);
    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lab.status()["overdue"], false);
}

/// What is not logged one by one is counted within seconds, though nothing more is denied.
#[test]
fn what_is_not_logged_is_counted_soon() {
    let lab = Lab::empty("count");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&[
        "--policy",
        &policy,
        "--udp",
        "--log-denied",
        "--events",
        "10",
    ]);
    thread::scope(|scope| {
        inside(scope, &lab.network.denied, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            for _ in 0..500 {
                let _: std::io::Result<usize> = socket.send_to(b"?", (HOST.v4, 80));
            }
        });
    });
    lab.wait_log("run", "more, not logged one by one", 1);
    lab.detach(filter);
}
