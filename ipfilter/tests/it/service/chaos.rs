//! Everything that may happen to a filter, under continuous traffic: reloads, kills, restarts, another
//! version of the program, overrides, changes on trial, an interface that goes down, gets another name or is lent to
//! another network namespace, pins that vanish, system calls that fail. Not a packet may be misjudged.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Barrier, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use ipfilter::{packet::Packet, plan::Protocol};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recvfrom, sendto,
    socket, socket_with, sockopt::set_socket_recv_buffer_size_force,
};
use testkit::{
    netns::{HOST, ROUTER},
    process::{Guard, TICK},
};

use super::faults::with_fault;
use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, inside, statuses, wait_for};

/// How long the denied client waits for an answer, which it must not get.
const SHORT: Duration = Duration::from_millis(900);

/// The receiver's buffer, in bytes: for minutes.
const ROOM: usize = 256 << 20;

/// The length of an Ethernet header without tags.
const ETHERNET: usize = 14;

/// What was sent and what arrived.
#[derive(Debug, Default)]
struct Tally {
    /// Connections of the allowed client.
    up: AtomicU64,
    down: AtomicU64,
    /// Its datagrams.
    sent: AtomicU64,
    received: AtomicU64,
    /// Connections of the denied client.
    denied_up: AtomicU64,
    denied_down: AtomicU64,
    /// Packets made by hand, from all over its network.
    denied_sent: AtomicU64,
    /// Packets of its network that the host has seen, of whatever kind.
    denied_seen: AtomicU64,
}

impl Tally {
    /// Whether there was enough of everything to say something.
    fn is_telling(&self) -> bool {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        count(&self.up) > 100
            && count(&self.sent) > 1000
            && count(&self.denied_down) > 100
            && count(&self.denied_sent) > 1000
    }
}

/// What controls the clients.
#[derive(Default)]
struct Signals {
    stop: AtomicBool,
    /// The link is down: the allowed client's packets can't arrive.
    pause: AtomicBool,
    /// All that was sent is there.
    deaf: AtomicBool,
    /// How many of its threads are in the middle of something.
    busy: AtomicU64,
}

impl Signals {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Does `what`, unless there is a pause.
    fn unless_paused(&self, what: impl FnOnce()) {
        self.busy.fetch_add(1, Relaxed);
        if !self.pause.load(Relaxed) {
            what();
        }
        self.busy.fetch_sub(1, Relaxed);
        thread::sleep(Duration::from_millis(1));
    }

    fn pause(&self) {
        self.pause.store(true, Relaxed);
        let start = Instant::now();
        while self.busy.load(Relaxed) > 0 {
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn connect(host: &str, limit: Duration, up: &AtomicU64, down: &AtomicU64) {
    let host = SocketAddr::new(host.parse().expect("an address"), 80);
    match TcpStream::connect_timeout(&host, limit) {
        Ok(_) => up.fetch_add(1, Relaxed),
        Err(_) => down.fetch_add(1, Relaxed),
    };
}

/// Sends datagrams one by one.
fn datagrams(host: &str, signals: &Signals, sent: &AtomicU64) {
    let any = if host.contains(':') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket
        .connect(SocketAddr::new(host.parse().expect("an address"), 80))
        .expect("a route");
    while !signals.stopped() {
        signals.unless_paused(|| {
            socket.send(b"allowed").expect("it is sent");
            sent.fetch_add(1, Relaxed);
        });
    }
}

/// Receives them. The mock has no use for port 80 of UDP.
fn receive(signals: &Signals, ready: &Barrier, received: &AtomicU64) {
    let socket = UdpSocket::bind("[::]:80").expect("a socket");
    let tick = Some(Duration::from_millis(10));
    socket.set_read_timeout(tick).expect("a timeout");
    // A receiver that does not get to run must not lose any.
    set_socket_recv_buffer_size_force(&socket, ROOM).expect("root may have it");
    ready.wait();
    while !signals.deaf.load(Relaxed) {
        match socket.recv_from(&mut [0; 64]) {
            Ok((_, from)) if is_denied(from.ip()) => {}
            Ok(_) => drop(received.fetch_add(1, Relaxed)),
            Err(error) => assert!(matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut
            )),
        }
    }
}

fn is_denied(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets().starts_with(&[203, 0, 113]),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => is_denied(address.into()),
            None => address.octets().starts_with(&[0x20, 1, 0xd, 0xb8, 1, 0x13]),
        },
    }
}

/// Sends packets from every address of the denied network, TCP and UDP in turn, made by hand.
fn forge(signals: &Signals, sent: &AtomicU64) {
    let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).expect("a socket");
    let host: Ipv4Addr = HOST.v4.parse().expect("an address");
    while !signals.stopped() {
        for last in 1..=254 {
            let protocol = [Protocol::Tcp, Protocol::Udp][usize::from(last % 2)];
            let frame = Packet {
                mac: [0; 6],
                vlans: Vec::new(),
                source: Ipv4Addr::new(203, 0, 113, last).into(),
                destination: host.into(),
                protocol,
                port: 80,
                fragment: None,
            }
            .frame()
            .expect("a frame");
            // While the link is down there may be no way.
            if sendto(
                &raw,
                &frame[ETHERNET..],
                SendFlags::empty(),
                &SocketAddrV4::new(host, 0),
            )
            .is_ok()
            {
                sent.fetch_add(1, Relaxed);
            }
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Counts the packets of the denied network that get past the filter: raw sockets see all of a
/// protocol ("raw(7)").
fn witness(signals: &Signals, seen: &AtomicU64) {
    let families = [AddressFamily::INET, AddressFamily::INET6];
    let sockets: Vec<OwnedFd> = families
        .into_iter()
        .flat_map(|family| {
            [ipproto::TCP, ipproto::UDP].map(|protocol| {
                socket_with(
                    family,
                    SocketType::RAW,
                    SocketFlags::NONBLOCK,
                    Some(protocol),
                )
                .expect("a socket")
            })
        })
        .collect();
    while !signals.stopped() {
        for socket in &sockets {
            let mut buffer = [0_u8; 64];
            while let Ok((_, _, Some(from))) = recvfrom(socket, &mut buffer[..], RecvFlags::empty())
            {
                let from = SocketAddr::try_from(from).expect("an address");
                seen.fetch_add(u64::from(is_denied(from.ip())), Relaxed);
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// This program as of another ABI.
fn next() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let target = temporary.join("next-abi");
        let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--package", "ipfilter", "--bin", "ipfilter"])
            .args(["--features", "next-abi", "--quiet", "--target-dir"])
            .arg(&target)
            // What it has in common with this build need not be built again; a cargo that does not
            // know of this yet builds all of it.
            .envs(
                temporary
                    .parent()
                    .map(|build| ("CARGO_BUILD_BUILD_DIR", build)),
            )
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo");
        assert!(status.success());
        target.join("debug/ipfilter")
    })
}

/// How often each thing happens.
#[derive(Clone, Copy)]
struct Doses {
    reloads: usize,
    kills: usize,
    restarts: usize,
    upgrades: usize,
    flaps: usize,
    renames: usize,
    moves: usize,
    losses: usize,
    overrides: usize,
    trials: usize,
    faults: usize,
}

/// What fails under a reload, and with what.
const FAULTS: [(&str, &str); 4] = [
    ("bpf", "ENOMEM"),
    ("openat", "EMFILE"),
    ("recvfrom", "ENOBUFS"),
    ("bpf", "EPERM"),
];

struct Operator<'l> {
    lab: &'l Lab,
    signals: &'l Signals,
    tally: &'l Tally,
    arguments: Vec<&'l str>,
    running: Option<Guard>,
    counter: usize,
}

impl Operator<'_> {
    fn act(&mut self, doses: Doses) {
        for _ in 0..doses.reloads {
            self.reload();
            self.saw_nothing("a reload");
        }
        for _ in 0..doses.kills {
            self.change();
            // Dropping a guard is a kill -9.
            self.running = None;
            self.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
            self.saw_nothing("a kill");
        }
        for _ in 0..doses.restarts {
            self.stop();
            self.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
            self.saw_nothing("a restart");
        }
        for _ in 0..doses.upgrades {
            for binary in [next(), Path::new(env!("CARGO_BIN_EXE_ipfilter"))] {
                self.stop();
                self.start(binary);
                self.saw_nothing("another version");
            }
        }
        for _ in 0..doses.flaps {
            self.flap();
            self.saw_nothing("a flap");
        }
        for _ in 0..doses.renames {
            self.rename();
            self.saw_nothing("a rename");
        }
        for round in 0..doses.moves {
            self.lend(round % 2 == 0);
            self.saw_nothing("a loan");
        }
        for _ in 0..doses.losses {
            self.lose_pins();
            self.saw_nothing("a loss");
        }
        for _ in 0..doses.overrides {
            self.overrule();
            self.saw_nothing("an override");
        }
        for round in 0..doses.trials {
            self.try_out(round);
            self.saw_nothing("a trial");
        }
        for (call, error) in FAULTS.iter().take(doses.faults) {
            self.fail(call, error);
            self.saw_nothing("a fault");
        }
        self.stop();
    }

    /// Names what let the denied client in, if something has.
    fn saw_nothing(&self, after: &str) {
        let seen = self.tally.denied_seen.load(Relaxed);
        assert_eq!(seen, 0, "after {after}:\n{}", self.lab.log("run"));
    }

    fn reload(&mut self) {
        self.change();
        let (code, said) = self.lab.tell(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Another plan, which says the same of both clients.
    fn change(&mut self) {
        self.counter += 1;
        let other = format!("192.0.{}.{}/32", self.counter / 256, self.counter % 256);
        let policy = allow(&[GOOD[0], GOOD[1], &other]);
        self.lab.write("policy.json", policy);
    }

    fn start(&mut self, binary: &Path) {
        let command = self.lab.other(binary, &self.arguments);
        self.running = Some(self.lab.ready(command));
    }

    fn stop(&mut self) {
        let ended = self.running.take().map(|guard| guard.stop(PATIENCE));
        assert!(ended.is_some_and(|ended| ended.is_ok_and(|status| status.success())));
    }

    fn ip(&self, arguments: &[&str]) {
        let host = &self.lab.network.host;
        host.ip(arguments.iter().copied()).expect("it does");
    }

    /// Takes the link down and up again. What the allowed client sends meanwhile is lost to the
    /// link; what the denied one sends must not come through once it is up.
    fn flap(&self) {
        self.signals.pause();
        self.ip(&["link", "set", "eth0", "down"]);
        self.bring_up();
    }

    fn bring_up(&self) {
        self.ip(&["link", "set", "eth0", "up"]);
        // Linux forgets IPv6 addresses, and all routes, with the link.
        let [v4, v6] = [format!("{}/24", HOST.v4), format!("{}/48", HOST.v6)];
        self.ip(&["address", "replace", &v4, "dev", "eth0"]);
        self.ip(&["address", "replace", &v6, "dev", "eth0", "nodad"]);
        for gateway in [ROUTER.v4, ROUTER.v6] {
            self.ip(&["route", "replace", "default", "via", gateway]);
        }
        wait_for("the way", || statuses(self.lab) == ONLY_GOOD);
        self.signals.pause.store(false, Relaxed);
    }

    /// Gives the interface another name, under traffic, and back.
    fn rename(&mut self) {
        for (from, to) in [("eth0", "lan0"), ("lan0", "eth0")] {
            self.ip(&["link", "set", from, "name", to]);
            self.reload();
        }
    }

    /// Lends the interface to another network namespace, where it keeps its number or gets another.
    /// Once it is back, the filter is back before it is up.
    fn lend(&mut self, keeps_number: bool) {
        self.signals.pause();
        let mut borrower = Command::new("unshare");
        borrower.args(["--net", "cat"]).stdin(Stdio::piped());
        let borrower = Guard::spawn(&mut borrower).expect("unshare");
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let pid = borrower.id().to_string();
        wait_for("it is apart", || namespace(&pid) != namespace("self"));
        let at = format!("--net=/proc/{pid}/ns/net");
        let there = |arguments: &[&str]| {
            let mut ip = Command::new("nsenter");
            ip.args([&at, "ip"]).args(arguments);
            let done = ip.status().expect("nsenter");
            assert!(done.success(), "{arguments:?}");
        };
        if !keeps_number {
            for pair in ["pair0", "pair1", "pair2", "pair3"] {
                there(&["link", "add", pair, "type", "veth"]);
            }
        }
        self.ip(&["link", "set", "eth0", "netns", &pid]);
        wait_for("it is away", || !self.is_attached());
        there(&["link", "set", "eth0", "netns", self.lab.network.host.name()]);
        wait_for("it is back", || self.is_attached());
        self.bring_up();
        self.reload();
    }

    /// Whether the filter is at the interface, and that here.
    fn is_attached(&self) -> bool {
        let status = self.lab.status();
        let interfaces = status["interfaces"].as_array().expect("interfaces").iter();
        interfaces.clone().any(|it| it["name"] == "eth0")
    }

    /// Removes the pins, as unmounting the BPF file system does: the process pins anew what it holds, and
    /// is killed then.
    fn lose_pins(&mut self) {
        let pins = self.lab.pins();
        let links = || {
            let entries = fs::read_dir(&pins).into_iter().flatten().flatten();
            let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.starts_with("link_")).count()
        };
        fs::remove_dir_all(&pins)
            .or_else(|_| fs::remove_dir_all(&pins))
            .expect("pins");
        wait_for("the pins", || links() == 1);
        // Pinned last, so that the rest is there.
        wait_for("all of them", || self.is_attached());
        self.running = None;
        self.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
    }

    /// Overrules the policy, by what it says anyway, and takes that back.
    fn overrule(&self) {
        for command in [
            ["block", "203.0.113.0/24", "--for", "1h"],
            ["allow", "198.51.100.0/24", "--for", "1h"],
        ] {
            let (code, said) = self.lab.tell(&command);
            assert_eq!(code, Some(0), "{said}");
        }
        let status = self.lab.status();
        let overrides = status["overrides"].as_array().expect("overrides");
        let ids: Vec<_> = overrides.iter().map(|it| it["id"].to_string()).collect();
        let ids = ids.iter().map(String::as_str);
        let remove: Vec<_> = ["overrides", "remove"].into_iter().chain(ids).collect();
        let (code, said) = self.lab.tell(&remove);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Has changes confirmed, taken back at their deadline, and killed: amid the change, before the deadline and
    /// past it. The process that comes next keeps what was confirmed and nothing else.
    fn try_out(&mut self, round: usize) {
        let lab = self.lab;
        let state = lab.folder.join("state").join(lab.key());
        let is_over = || !state.join("trial.json").exists();
        let tries = |lasts: &str| {
            let (code, said) = lab.tell(&["reload", "--confirm", lasts]);
            assert_eq!(code, Some(0), "{said}");
        };
        let plan = || lab.status()["digest"].clone();
        self.reload();
        let before = plan();
        // Taken.
        self.change();
        tries("10m");
        let (code, said) = lab.tell(&["confirm"]);
        assert_eq!(code, Some(0), "{said}");
        let confirmed = plan();
        assert_ne!(confirmed, before);
        // Missed.
        self.change();
        tries("300ms");
        wait_for("it is taken back", || is_over() && plan() == confirmed);
        // Killed while it is on trial, and started again past its time, or before.
        for lasts in ["200ms", "2s"] {
            self.change();
            tries(lasts);
            self.running = None;
            if lasts == "200ms" {
                wait_for("its time is over", || {
                    lab.status()["trial"]["overdue"] == true
                });
            }
            self.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
            wait_for("it is taken back", || is_over() && plan() == confirmed);
        }
        // Killed at some instant of the change.
        self.change();
        thread::scope(|scope| {
            scope.spawn(|| lab.tell(&["reload", "--confirm", "200ms"]));
            thread::sleep(Duration::from_millis(40 * round as u64));
            self.running = None;
        });
        self.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
        wait_for("nothing is on trial", is_over);
        self.reload();
    }

    /// Has a reload meet system calls that fail. It may fail itself; the next one does not.
    fn fail(&mut self, call: &str, error: &str) {
        let pid = self.running.as_ref().expect("it runs").id();
        let fault = format!("{call}:error={error}:when=2..4");
        self.change();
        with_fault(self.lab, pid, call, &fault, || {
            drop(self.lab.tell(&["reload"]));
        });
        wait_for("a reload", || self.lab.tell(&["reload"]).0 == Some(0));
    }
}

fn endure(tag: &str, mode: &str, doses: Doses) {
    let lab = Lab::new(tag);
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = [
        "run",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--udp",
        "--deny",
        "reject",
        "--mode",
        mode,
        "--policy",
        &policy,
    ];
    if doses.upgrades > 0 {
        next();
    }
    let signals = Signals::default();
    let tally = Tally::default();
    let ready = Barrier::new(2);
    let mut operator = Operator {
        lab: &lab,
        signals: &signals,
        tally: &tally,
        arguments: arguments.to_vec(),
        running: None,
        counter: 0,
    };
    operator.start(Path::new(env!("CARGO_BIN_EXE_ipfilter")));
    let start = Instant::now();
    thread::scope(|scope| {
        let (host, allowed, denied) =
            (&lab.network.host, &lab.network.allowed, &lab.network.denied);
        let (signals, tally) = (&signals, &tally);
        inside(scope, host, || witness(signals, &tally.denied_seen));
        inside(scope, host, || receive(signals, &ready, &tally.received));
        // Before that, the host answers senders that the port is closed.
        ready.wait();
        let mut senders = Vec::new();
        for address in [HOST.v4, HOST.v6] {
            let send = || datagrams(address, signals, &tally.sent);
            senders.push(inside(scope, allowed, send));
            inside(scope, allowed, || {
                while !signals.stopped() {
                    signals.unless_paused(|| connect(address, PATIENCE, &tally.up, &tally.down));
                }
            });
            inside(scope, denied, || {
                while !signals.stopped() {
                    connect(address, SHORT, &tally.denied_up, &tally.denied_down);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        inside(scope, denied, || forge(signals, &tally.denied_sent));
        // The clients stop whatever happens to the operator.
        let acted = scope
            .spawn(|| {
                operator.act(doses);
                wait_for("enough of everything", || tally.is_telling());
            })
            .join();
        signals.stop.store(true, Relaxed);
        signals.pause.store(false, Relaxed);
        for sender in senders {
            sender.join().expect("it sends");
        }
        let start = Instant::now();
        let all = || tally.received.load(Relaxed) >= tally.sent.load(Relaxed);
        while !all() && start.elapsed() < PATIENCE {
            thread::sleep(TICK);
        }
        signals.deaf.store(true, Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    println!("{mode}, {:.1} s: {tally:?}", start.elapsed().as_secs_f64());
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    assert_eq!(count(&tally.down), 0, "{tally:?}");
    assert_eq!(count(&tally.sent), count(&tally.received), "{tally:?}");
    assert_eq!(count(&tally.denied_up), 0, "{tally:?}");
    assert_eq!(count(&tally.denied_seen), 0, "{tally:?}");
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    lab.assert_nothing_is_left();
}

/// The witness is no use if it sees nothing at all.
#[test]
fn the_witness_sees_what_no_filter_stops() {
    let lab = Lab::new("witness");
    let signals = Signals::default();
    let tally = Tally::default();
    thread::scope(|scope| {
        let (signals, tally) = (&signals, &tally);
        inside(scope, &lab.network.host, || {
            witness(signals, &tally.denied_seen);
        });
        inside(scope, &lab.network.denied, || {
            forge(signals, &tally.denied_sent);
        });
        let start = Instant::now();
        while tally.denied_seen.load(Relaxed) < 100 && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(10));
        }
        signals.stop.store(true, Relaxed);
    });
    assert!(tally.denied_seen.load(Relaxed) >= 100, "{tally:?}");
}

#[test]
fn nothing_that_happens_to_a_native_filter_misjudges_a_packet() {
    let doses = Doses {
        reloads: 100,
        kills: 15,
        restarts: 4,
        upgrades: 2,
        flaps: 3,
        renames: 6,
        moves: 2,
        losses: 3,
        overrides: 2,
        trials: 2,
        faults: 4,
    };
    endure("native", "native", doses);
}

#[test]
fn nothing_that_happens_to_a_filter_in_traffic_control_misjudges_a_packet() {
    let doses = Doses {
        reloads: 15,
        kills: 4,
        restarts: 1,
        upgrades: 1,
        flaps: 1,
        renames: 2,
        moves: 2,
        losses: 1,
        overrides: 1,
        trials: 1,
        faults: 2,
    };
    endure("tc", "tc", doses);
}

/// A move that is over before anybody has noticed, and gave the interface another number.
#[test]
fn an_interface_that_was_away_for_a_moment_stays_filtered() {
    let doses = Doses {
        reloads: 0,
        kills: 0,
        restarts: 0,
        upgrades: 0,
        flaps: 0,
        renames: 0,
        moves: 8,
        losses: 0,
        overrides: 0,
        trials: 0,
        faults: 0,
    };
    endure("away", "native", doses);
}
