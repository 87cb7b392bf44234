//! What must hold on every kernel that is supported, with every kind of network card: run by
//! `cargo xtask kernels`, in guests.
//!
//! The names of two cards of the same kind that hear each other are in `IPFILTER_TEST_NICS`,
//! separated by a comma.

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use ipfilter::{
    addresses::AddressSet,
    dataplane::{Action, Kind, Trial},
    plan::{Api, Deny, Lookup, Plan, Protocols, Response},
};

use crate::{gapless::with_the_binary, lab::Lab};

/// What the daemon says.
const LOG: &str = "/tmp/daemon.log";

const IPFILTER: &str = env!("CARGO_BIN_EXE_ipfilter");

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

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn the_scene_is_set() {
    let types = fs::metadata("/sys/kernel/btf/vmlinux").unwrap();
    assert!(types.len() > 0);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(mounts.contains(" /sys/fs/bpf bpf "), "{mounts}");
}

/// An API for each deny action, for clients in 198.51.100.0/24 and 2001:db8:100::/48.
fn plan(lookup: Lookup) -> Plan {
    let clients = ["198.51.100.0/24", "2001:db8:100::/48"].map(|net| net.parse().unwrap());
    let sources = AddressSet::from_networks(clients);
    let apis = [(80, Deny::Drop), (81, Deny::Reject), (82, Deny::Respond)];
    let apis = apis.map(|(port, deny)| Api {
        name: deny.to_string(),
        ports: port.to_string().parse().unwrap(),
        protocols: Protocols::BOTH,
        deny,
        response: Response::default(),
        sources: sources.clone(),
    });
    let mut plan = Plan::new(apis.into(), Vec::new()).unwrap();
    plan.lookup = lookup;
    plan
}

/// A SYN from a client of either family to `port`.
fn syn(source: &[u8], port: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    if let [a, b, c, d] = *source {
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend([a, b, c, d, 192, 0, 2, 2]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        frame.extend(source);
        frame.extend([0x22; 16]);
    }
    frame.extend([
        0x9c, 0x40, 0, port, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0,
    ]);
    frame
}

/// Whether the kernel is this one, or a later one.
fn is_from(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

/// Frames in several buffers came with 5.18; the filter does without before.
fn knows_frags() -> bool {
    is_from(5, 18)
}

/// Links of traffic control came with 6.6; the filter stands at clsact before.
fn tc_hook() -> &'static str {
    if is_from(6, 6) { "tcx" } else { "clsact" }
}

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn every_program_loads_and_judges() {
    let allowed_v6 = [0x20, 1, 0x0d, 0xb8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let sources: [(&[u8], bool); 4] = [
        (&[198, 51, 100, 10], true),
        (&[203, 0, 113, 10], false),
        (&allowed_v6, true),
        (&[0x20; 16], false),
    ];
    let kinds = Kind::ALL.into_iter();
    for kind in kinds.filter(|kind| *kind != Kind::XdpFrags || knows_frags()) {
        for lookup in [Lookup::Trie, Lookup::Intervals] {
            let trial = Trial::load(&plan(lookup), kind).unwrap();
            for (source, allowed) in sources {
                for port in 80..=83 {
                    let (action, _) = trial.run(&syn(source, port)).unwrap();
                    let expected = match port {
                        83 => Action::Pass,
                        _ if allowed => Action::Pass,
                        80 => Action::Drop,
                        _ => Action::Transmit,
                    };
                    assert_eq!(action, expected, "{kind:?} {lookup:?} {source:?} {port}");
                }
            }
        }
    }
}

/// Ends the process it guards.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done`, or fails with what it last was.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        let log = fs::read_to_string(LOG).unwrap();
        let patient = start.elapsed() < Duration::from_secs(60) && !log.contains("error: ");
        assert!(patient, "never {what}: {log}");
        sleep(Duration::from_millis(100));
    }
}

fn status() -> Option<String> {
    let output = Command::new(IPFILTER)
        .args(["--instance", "guest", "status", "--format", "json"])
        .output();
    let output = output.unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

/// On a veth pair and on the card: attach, reload, outlive the daemon, detach.
#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn the_filter_stands_and_comes_off() {
    run("ip link add left type veth peer name right");
    let nics = env::var("IPFILTER_TEST_NICS").unwrap();
    let card = nics.split(',').next().unwrap();
    for interface in ["left", card] {
        run(&format!("ip link set {interface} up"));
        stands_and_comes_off(interface, "auto");
        assert_eq!(stands_and_comes_off(interface, "tc"), tc_hook());
        assert_eq!(stands_and_comes_off(interface, "generic"), "generic");
    }
    run("ip link del left");
}

#[test]
#[ignore = "changes the network it runs in: for guests, by `cargo xtask kernels`"]
fn reloads_and_restarts_leave_no_gap() {
    let lab = Lab::empty("guest");
    for (mode, hook) in [
        ("native", "native"),
        ("tc", tc_hook()),
        ("generic", "generic"),
    ] {
        assert_eq!(with_the_binary(&lab, mode, 5), hook);
    }
}

/// Returns the hook at which it stands.
fn stands_and_comes_off(interface: &str, mode: &str) -> String {
    let policy = "/tmp/policy.json";
    let text = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
        "Resource": "execute-api:/*", "Condition": {"IpAddress": {"aws:SourceIp": "ADDRESS"}}}}"#;
    fs::create_dir_all("/tmp").unwrap();
    fs::write(policy, text.replace("ADDRESS", "198.51.100.0/24")).unwrap();
    let daemon = Command::new(IPFILTER)
        .args([
            "--instance",
            "guest",
            "run",
            "--interface",
            interface,
            "--mode",
            mode,
            "--port",
            "80",
            "--policy",
        ])
        .arg(policy)
        .args(["--deny", "respond"])
        .stderr(File::create(LOG).unwrap())
        .spawn();
    let daemon = Running(daemon.unwrap());
    wait_until("deployed", || status().is_some());
    let before = status().unwrap();
    println!("{interface} {mode}: {before}");
    fs::write(policy, text.replace("ADDRESS", "203.0.113.0/24")).unwrap();
    run(&format!("kill -HUP {}", daemon.0.id()));
    let digest = |status: &str| status.split("\"digest\":").nth(1).unwrap()[..66].to_owned();
    wait_until("reloaded", || {
        status().is_some_and(|now| digest(&now) != digest(&before))
    });
    drop(daemon);
    assert!(status().is_some(), "the filter went with the daemon");
    let said = run(&format!("{IPFILTER} --instance guest detach"));
    assert!(said.contains(interface), "{said}");
    assert!(status().is_none());
    assert!(!Path::new("/sys/fs/bpf/ipfilter/guest").exists());
    let hook = before.split("\"mode\":\"").nth(1).unwrap();
    hook.split('"').next().unwrap().to_owned()
}
