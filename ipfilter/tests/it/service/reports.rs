//! Reports of denied packets: events, their limit, the top sources.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use ipfilter::{
    kernel::{Action, Denial, Follower, Kind, Reader, Trial},
    packet::Packet,
    plan::{Deny, Plan, Protocol, Protocols},
};
use ipfilter_ebpf::{
    abi::{Reason, TOP_SOURCES, TOP_SOURCES_RATE, TOP_SOURCES_WEIGHT},
    wire,
};
use rustix::{
    process::{Pid, Signal, kill_process},
    thread::{CpuSet, sched_getcpu, sched_setaffinity},
};
use testkit::netns::HOST;

use crate::{
    kernel::verdicts::equivalence::{self, api, blocks},
    lab::{Answer, GOOD, Lab, PATIENCE, allow, ask},
};

/// Two APIs, at ports 80 and 81: who is denied is dropped at one, and answered at the other.
fn plan(events: u32) -> Plan {
    let sources = || blocks(&["198.51.100.0/24", "2001:db8:100::/48"]);
    let apis = vec![
        api("dropping", "80", Protocols::BOTH, Deny::Drop, sources()),
        api("answering", "81", Protocols::TCP, Deny::Reject, sources()),
    ];
    let mut plan = Plan::new(apis, Vec::new()).expect("a plan");
    plan.events = events;
    plan
}

fn frame(source: IpAddr, protocol: Protocol, port: u16) -> Vec<u8> {
    let destination = match source {
        IpAddr::V4(_) => "192.0.2.2",
        IpAddr::V6(_) => "2001:db8:2::2",
    };
    let packet = Packet {
        mac: [2, 0, 0, 0, 0, 2],
        vlans: vec![7],
        source,
        destination: destination.parse().expect("an address"),
        protocol,
        port,
        fragment: None,
    };
    packet.frame().expect("a frame")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Runs `body` on a thread that stays on one CPU: limits are each CPU's own.
fn on_one_cpu<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut cpus = CpuSet::new();
            cpus.set(sched_getcpu());
            sched_setaffinity(None, &cpus).expect("a thread may choose its CPU");
            body()
        });
        thread.join().expect("it runs")
    })
}

fn follow(trial: &Trial, reader: Reader) -> Follower {
    trial.follow_denials(reader).expect("it can be followed")
}

fn all(follower: &mut Follower) -> Vec<Denial> {
    std::iter::from_fn(|| follower.next_denial()).collect()
}

#[test]
fn events_say_what_was_in_the_packet() {
    for kind in Kind::ALL {
        let trial = equivalence::load_one(&plan(1000), kind);
        let mut follower = follow(&trial, Reader::Anyone);
        let [four, six] = ["203.0.113.9", "2001:db8:113::9"].map(address);
        let mut cut_off = frame(four, Protocol::Tcp, 80);
        cut_off.truncate(14 + 4 + 20 + 6);
        let good = frame(address("198.51.100.1"), Protocol::Tcp, 80);
        let rows = [
            (
                frame(four, Protocol::Tcp, 80),
                Some(0),
                Reason::Denied,
                Some(four),
                Some(wire::Protocol::Tcp),
            ),
            (
                frame(six, Protocol::Udp, 80),
                Some(0),
                Reason::Denied,
                Some(six),
                Some(wire::Protocol::Udp),
            ),
            (
                frame(four, Protocol::Tcp, 81),
                Some(1),
                Reason::Reset,
                Some(four),
                Some(wire::Protocol::Tcp),
            ),
            (
                frame(six, Protocol::Tcp, 81),
                Some(1),
                Reason::Reset,
                Some(six),
                Some(wire::Protocol::Tcp),
            ),
            (cut_off, None, Reason::Malformed, Some(four), None),
        ];
        for (frame, api, reason, source, protocol) in &rows {
            trial.run(&good).expect("it passes, and is no event");
            trial.run(frame).expect("the kernel runs it");
            let told = all(&mut follower);
            let [denial] = told[..] else {
                panic!("{kind:?}: {told:?}")
            };
            assert_eq!(denial.api, *api, "{kind:?}: {denial:?}");
            assert_eq!(denial.reason, *reason, "{kind:?}: {denial:?}");
            assert_eq!(denial.source, *source, "{kind:?}: {denial:?}");
            assert_eq!(denial.protocol, *protocol, "{kind:?}: {denial:?}");
            if protocol.is_some() {
                let port = 80 + api.map_or(0, |api| u16::try_from(api).expect("small"));
                assert_eq!(
                    (denial.source_port, denial.port),
                    (50_000, port),
                    "{denial:?}"
                );
            }
            assert_eq!(denial.interface, 1, "test runs come in by the loopback");
        }
        assert_eq!(follower.unreported().expect("a count"), 0);
    }
}

#[test]
fn the_limit_limits_events_and_nothing_else() {
    const RATE: u32 = 5;
    const SENT: u64 = 1000;
    let trial = equivalence::load_one(&plan(RATE), Kind::Tc);
    let mut follower = follow(&trial, Reader::Anyone);
    let frame = frame(address("203.0.113.9"), Protocol::Tcp, 80);
    let took = on_one_cpu(|| {
        let start = Instant::now();
        for _ in 0..SENT {
            let (action, _) = trial.run(&frame).expect("the kernel runs it");
            assert_eq!(action, Action::Drop);
        }
        start.elapsed()
    });
    let told = all(&mut follower).len() as u64;
    let seconds = took.as_secs() + 2;
    assert!((5..=5 * seconds).contains(&told), "{told} in {took:?}");
    assert_eq!(told + follower.unreported().expect("a count"), SENT);
    assert_eq!(follower.unreported().expect("a count"), 0, "told once");
    let counted = equivalence::counters(&trial);
    let denied = counted
        .iter()
        .filter(|count| count.reason == Reason::Denied);
    assert_eq!(denied.map(|count| count.total.packets).sum::<u64>(), SENT);
}

#[test]
fn without_events_nothing_is_reported_or_remembered() {
    let trial = equivalence::load_one(&plan(0), Kind::Tc);
    let mut follower = follow(&trial, Reader::Anyone);
    let frame = frame(address("203.0.113.9"), Protocol::Tcp, 80);
    for _ in 0..10 {
        trial.run(&frame).expect("the kernel runs it");
    }
    assert_eq!(all(&mut follower), []);
    assert_eq!(follower.unreported().expect("a count"), 0);
    assert_eq!(trial.top_sources(10).expect("sources"), []);
}

/// A ring that is full costs events, which are counted, and no verdict; once it is read there are
/// events again.
#[test]
fn a_full_ring_loses_events_and_nothing_else() {
    const ROOM: usize = (256 << 10) / (48 + 8);
    const SENT: usize = ROOM + 1000;
    let mut plan = plan(u32::MAX);
    plan.log_denied = true;
    let trial = equivalence::load_one(&plan, Kind::Tc);
    let [mut anyone, mut log] = [Reader::Anyone, Reader::Log].map(|who| follow(&trial, who));
    let frame = frame(address("203.0.113.9"), Protocol::Tcp, 80);
    let mut logged = 0;
    for number in 0..SENT {
        let (action, _) = trial.run(&frame).expect("the kernel runs it");
        assert_eq!(action, Action::Drop);
        // One who reads gets all of them, whatever the other does.
        if number % 100 == 0 {
            logged += all(&mut log).len();
        }
    }
    logged += all(&mut log).len();
    assert_eq!(logged, SENT);
    assert_eq!(log.unreported().expect("a count"), 0);
    let told = all(&mut anyone).len();
    assert!((ROOM - 1..=ROOM).contains(&told), "{told}");
    assert_eq!(anyone.unreported().expect("a count"), (SENT - told) as u64);
    trial.run(&frame).expect("the kernel runs it");
    assert_eq!(all(&mut anyone).len(), 1);
}

#[test]
fn few_sources_are_counted_exactly() {
    let trial = equivalence::load_one(&plan(1), Kind::Tc);
    let sources = ["203.0.113.1", "203.0.113.2", "2001:db8:113::1"].map(address);
    let mut length = 0;
    for (source, times) in sources.into_iter().zip([10, 300, 20]) {
        let frame = frame(source, Protocol::Tcp, 80);
        length = frame.len() as u64;
        for _ in 0..times {
            trial.run(&frame).expect("the kernel runs it");
        }
    }
    const { assert!(330 < TOP_SOURCES_RATE) };
    let top_sources = trial.top_sources(usize::MAX).expect("sources");
    let told: Vec<_> = top_sources
        .iter()
        .map(|it| (it.source, it.packets))
        .collect();
    assert_eq!(
        told,
        [(sources[1], 300), (sources[2], 20), (sources[0], 10)]
    );
    assert_eq!(top_sources[1].bytes, 20 * length);
    assert_eq!((top_sources[0].api, top_sources[0].interface), (0, 1));
    assert_eq!(trial.top_sources(1).expect("sources").len(), 1);
}

/// Many times as many sources as are kept, each seen once, and one that sends a tenth of
/// it all.
#[test]
fn a_flood_of_sources_neither_grows_nor_hides_the_loud() {
    const SPOOFED: u32 = 300_000;
    let trial = equivalence::load_one(&plan(1), Kind::Tc);
    let loud = address("203.0.113.9");
    let of_loud = frame(loud, Protocol::Tcp, 80);
    let mut spoofed = frame(address("10.0.0.0"), Protocol::Tcp, 80);
    on_one_cpu(|| {
        for number in 0..SPOOFED {
            // Where the source is, behind the Ethernet header and a tag.
            spoofed[30..34].copy_from_slice(&Ipv4Addr::from(0x0a00_0000 + number).octets());
            trial.run(&spoofed).expect("the kernel runs it");
            if number % 9 == 0 {
                trial.run(&of_loud).expect("the kernel runs it");
            }
        }
    });
    let top_sources = trial.top_sources(usize::MAX).expect("sources");
    assert!(
        top_sources.len() <= TOP_SOURCES as usize,
        "{}",
        top_sources.len()
    );
    assert_eq!(top_sources[0].source, loud, "{:?}", &top_sources[..3]);
    let sent = f64::from(SPOOFED / 9);
    let estimated = top_sources[0].packets as f64;
    assert!(
        (0.5..2.0).contains(&(estimated / sent)),
        "{estimated} of {sent}"
    );
    assert!(
        top_sources[1].packets <= 3 * u64::from(TOP_SOURCES_WEIGHT),
        "{:?}",
        top_sources[1]
    );
}

/// `ipfilter events`, and what it prints, line by line.
struct Events {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Events {
    fn follow(lab: &Lab, arguments: &[&str]) -> Self {
        let mut command = lab.ipfilter(&[&["events", "--format", "json"], arguments].concat());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// Waits until it has the events, and listens: what it listens with comes last.
    fn wait(lab: &Lab, arguments: &[&str]) -> Self {
        let events = Self::follow(lab, arguments);
        let id = events.child.id();
        let listens = || {
            let open = fs::read_dir(format!("/proc/{id}/fd")).ok()?;
            let mut names = open
                .flatten()
                .filter_map(|fd| fs::read_link(fd.path()).ok());
            names.find(|name| name.as_os_str() == "anon_inode:[eventpoll]")
        };
        let start = Instant::now();
        while listens().is_none() {
            assert!(start.elapsed() < PATIENCE, "{:?}", events.end());
            thread::sleep(Duration::from_millis(10));
        }
        let (code, said) = lab.tell(&["events"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains(&format!("already go to process {id}")),
            "{said}"
        );
        events
    }

    fn next(&mut self) -> serde_json::Value {
        let line = self.lines.next().expect("a line").expect("UTF-8");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Its exit code, and what it says.
    fn end(self) -> (Option<i32>, String) {
        drop(self.lines);
        let output = self.child.wait_with_output().expect("it ends");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into(),
        )
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::INT).expect("it runs");
    }
}

fn knock(lab: &Lab) {
    assert_eq!(ask(&lab.network.denied, HOST.v4), Answer::Silence);
}

#[test]
fn events_are_followed_without_the_daemon() {
    let lab = Lab::new("events");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = |lab: &Lab| {
        let arguments = [
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ];
        let (code, said) = lab.tell(&arguments);
        assert_eq!(code, Some(0), "{said}");
    };
    let (code, said) = lab.tell(&["events"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing is deployed"), "{said}");
    deploy(&lab);
    // Older than the follower: not told.
    knock(&lab);
    let mut events = Events::wait(&lab, &["--source", "203.0.113.0/24", "--api", "api"]);
    for _ in 0..2 {
        knock(&lab);
        let event = events.next();
        assert_eq!(event["interface"], "eth0", "{event}");
        assert_eq!(
            (&event["api"], &event["protocol"]),
            (&"api".into(), &"tcp".into()),
            "{event}"
        );
        assert_eq!(
            (&event["verdict"], &event["reason"]),
            (&"drop".into(), &"denied".into())
        );
        assert_eq!(
            (&event["source"], &event["port"]),
            (&"203.0.113.10".into(), &80.into())
        );
        // Another deployment takes over: the ring is the same.
        lab.write("policy.json", allow(&[GOOD[0], GOOD[1], "192.0.2.77/32"]));
        deploy(&lab);
    }
    events.interrupt();
    let (code, said) = events.end();
    assert_eq!((code, said.as_str()), (Some(0), ""));

    // Who reads goes away.
    let events = Events::wait(&lab, &["--interface", "none"]);
    assert_eq!(events.end(), (Some(0), String::new()));

    // The filter goes away.
    let events = Events::wait(&lab, &[]);
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    let Events { child, lines } = events;
    let _held = lines;
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was detached"), "{said}");
}

#[test]
fn the_daemon_logs_what_is_denied_if_it_is_asked_to() {
    let lab = Lab::new("denied");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--log-denied"]);
    knock(&lab);
    lab.wait_log(
        "run",
        "denied: eth0 api drop denied tcp from 203.0.113.10:",
        1,
    );
    // A deployment that takes over has the same ring.
    lab.write("policy.json", allow(&[GOOD[0], GOOD[1], "192.0.2.77/32"]));
    lab.reload(&filter);
    let before = lab.log("run").matches("denied: eth0 ").count();
    knock(&lab);
    lab.wait_log("run", "denied: eth0 ", before + 1);
    // Beside it, whoever wants to follows too.
    let mut events = Events::wait(&lab, &[]);
    knock(&lab);
    assert_eq!(events.next()["source"], "203.0.113.10");
    drop(events.end());
    lab.detach(filter);
    let filter = lab.filter(&["--policy", &policy]);
    knock(&lab);
    assert!(!lab.log("run").contains("denied: "), "{}", lab.log("run"));
    lab.detach(filter);
}
