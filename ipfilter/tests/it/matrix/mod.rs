//! What must hold on every kernel that is supported, with every kind of network card: run by
//! `cargo xtask kernels`, in VMs: for each kernel all of it, for each card what is in `card`.
//!
//! The names of two cards of the same kind that hear each other are in `IPFILTER_TEST_NICS`,
//! separated by a comma.

mod card;

use std::{
    env,
    fs::{self, File},
    path::Path,
    process::{Child, Command},
    thread::sleep,
    time::{Duration, Instant},
};

use ipfilter::{
    addresses::{AddressSet, Intervals},
    kernel::{Action, Kind, Reader, Trial},
    plan::{Api, Deny, IntervalTable, Lookup, Plan, Protocols, Response},
};
use ipfilter_ebpf::abi::Reason;

use crate::{
    kernel::{
        delivery::{Shape, named_cases_reach_no_socket},
        gapless::with_the_binary,
    },
    lab::{Lab, PATIENCE, allow},
    service::live::every_client_meets_every_action,
};

/// What the daemon says.
const LOG: &str = "/tmp/daemon.log";

/// The policy it goes by.
const POLICY: &str = "/tmp/policy.json";

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

/// Clients in 198.51.100.0/24 and 2001:db8:100::/48.
fn clients() -> AddressSet {
    AddressSet::from_networks(
        ["198.51.100.0/24", "2001:db8:100::/48"].map(|net| net.parse().unwrap()),
    )
}

/// An API for each deny action.
fn plan(sources: &AddressSet, lookup: Lookup) -> Plan {
    let apis = [(80, Deny::Drop), (81, Deny::Reject), (82, Deny::Respond)];
    let apis = apis.map(|(port, deny)| Api {
        name: deny.to_string(),
        ports: port.to_string().parse().unwrap(),
        protocols: Protocols::BOTH,
        deny,
        enforce: ipfilter::plan::Share::ALL,
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
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
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
            let trial = Trial::load(&plan(&clients(), lookup), kind).unwrap();
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

/// With so many clients a program takes other ways through its table.
#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn a_large_table_is_loaded_and_answers() {
    const APART: u32 = 1 << 12;
    let hosts = (0x4000_0000..0x8000_0000).step_by(APART as usize);
    let mut sources = clients();
    sources.v4 = sources.v4.union(&Intervals::from_ranges(
        hosts.map(|host| (host, host)).collect(),
    ));
    let plan = plan(&sources, Lookup::Intervals);
    let table = IntervalTable::new(&plan.v4).unwrap();
    assert!(table.layout().wide == 1 && table.layout().summarized == 1);
    // The longest of the programs, with the largest stack.
    let trial = Trial::load(&plan, Kind::Tc).unwrap();
    for (source, allowed) in [
        (0x4000_0000_u32, true),
        (0x4000_0001, false),
        (0x3fff_ffff, false),
        (0x7fff_f000, true),
        (0x5432_1fff, false),
        (0x5432_1000, true),
        (0xc633_640a, true),
        (0xcb00_710a, false),
    ] {
        let (action, _) = trial.run(&syn(&source.to_be_bytes(), 80)).unwrap();
        let expected = if allowed { Action::Pass } else { Action::Drop };
        assert_eq!(action, expected, "{source:x}");
    }
}

#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn denied_packets_are_reported() {
    let source = [203, 0, 113, 10];
    let kinds = Kind::ALL.into_iter();
    for kind in kinds.filter(|kind| *kind != Kind::XdpFrags || knows_frags()) {
        let trial = Trial::load(&plan(&clients(), Lookup::Intervals), kind).unwrap();
        let mut denials = trial.follow_denials(Reader::Anyone).unwrap();
        for (port, reason) in [
            (80, Reason::Denied),
            (81, Reason::Reset),
            (82, Reason::SynAck),
        ] {
            trial.run(&syn(&source, port)).unwrap();
            let denial = denials.next_denial().unwrap();
            assert_eq!(denial.source, Some(source.into()), "{kind:?}");
            assert_eq!((denial.port, denial.source_port), (port.into(), 40_000));
            assert_eq!(denial.reason, reason, "{kind:?}");
        }
        trial.run(&syn(&[198, 51, 100, 10], 80)).unwrap();
        assert_eq!(denials.next_denial(), None, "{kind:?}");
        let top_sources = trial.top_sources(usize::MAX).unwrap();
        let top_sources: Vec<_> = top_sources.iter().map(|t| (t.source, t.packets)).collect();
        assert_eq!(top_sources, [(source.into(), 3)], "{kind:?}");
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
        let log = fs::read_to_string(LOG).unwrap_or_default();
        let patient = start.elapsed() < PATIENCE && !log.contains("error: ");
        assert!(patient, "never {what}: {log}");
        sleep(Duration::from_millis(100));
    }
}

fn status() -> Option<String> {
    let output = Command::new(IPFILTER)
        .args(["--instance", "matrix", "status", "--format", "json"])
        .output();
    let output = output.unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn reloads_and_restarts_leave_no_gap() {
    let lab = Lab::empty("matrix");
    for (mode, hook) in [
        ("native", "native"),
        ("tc", tc_hook()),
        ("generic", "generic"),
    ] {
        assert_eq!(with_the_binary(&lab, mode, 3), hook);
    }
}

#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn no_padding_hides_what_the_host_reads() {
    named_cases_reach_no_socket(Shape::Plain);
}

#[test]
#[ignore = "changes the network it runs in: for VMs, by `cargo xtask kernels`"]
fn clients_meet_every_action_of_traffic_control() {
    let lab = Lab::new("matrix");
    let policy = lab.write(
        "policy.json",
        allow(&["198.51.100.0/24", "2001:db8:100::/48"]),
    );
    every_client_meets_every_action(&lab, "tc", &policy);
}

/// Runs the filter by [`POLICY`] at port 80, and waits until it stands.
fn daemon(interface: &str, mode: &str, more: &[&str]) -> Running {
    let mut command = Command::new(IPFILTER);
    command.args(["--instance", "matrix", "run", "--interface", interface]);
    command.args(["--mode", mode, "--port", "80", "--policy", POLICY]);
    let command = command.args(more).stderr(File::create(LOG).unwrap());
    let daemon = Running(command.spawn().unwrap());
    wait_until("ready", || {
        fs::read_to_string(LOG).unwrap().contains("ready")
    });
    daemon
}

/// Returns the hook at which it stands.
fn attach_and_detach(interface: &str, mode: &str) -> String {
    let text = r#"{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
        "Resource": "execute-api:/*", "Condition": {"IpAddress": {"aws:SourceIp": "ADDRESS"}}}}"#;
    fs::create_dir_all("/tmp").unwrap();
    fs::write(POLICY, text.replace("ADDRESS", "198.51.100.0/24")).unwrap();
    let daemon = daemon(interface, mode, &["--deny", "respond"]);
    let before = status().unwrap();
    println!("{interface} {mode}: {before}");
    fs::write(POLICY, text.replace("ADDRESS", "203.0.113.0/24")).unwrap();
    run(&format!("kill -HUP {}", daemon.0.id()));
    let digest = |status: &str| status.split("\"digest\":").nth(1).unwrap()[..66].to_owned();
    wait_until("reloaded", || {
        status().is_some_and(|now| digest(&now) != digest(&before))
    });
    drop(daemon);
    assert!(status().is_some(), "the filter went with the daemon");
    let said = run(&format!("{IPFILTER} --instance matrix detach"));
    assert!(said.contains(interface), "{said}");
    assert!(status().is_none());
    assert!(!Path::new("/sys/fs/bpf/ipfilter/matrix").exists());
    let hook = before.split("\"mode\":\"").nth(1).unwrap();
    hook.split('"').next().unwrap().to_owned()
}
