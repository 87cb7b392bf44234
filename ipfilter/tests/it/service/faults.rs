//! System calls that fail under a running daemon: it goes on, and the filter stays.

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testkit::{
    netns::HOST,
    process::{Guard, TICK},
};

use crate::lab::{
    BAD, EVERYONE, GOOD, Lab, ONLY_BAD, ONLY_GOOD, PATIENCE, allow, inside, statuses, wait_for,
};

/// What may fail, with what a kernel says then. Not what a process can't live without (memory of its
/// own), or what never fails so.
const FAULTS: [(&str, &str); 24] = [
    ("bpf", "ENOMEM"),
    ("bpf", "EPERM"),
    ("bpf", "EAGAIN"),
    ("openat", "EMFILE"),
    ("openat", "ENOENT"),
    ("socket", "EMFILE"),
    ("sendto", "ENOBUFS"),
    ("recvfrom", "ENOBUFS"),
    ("recvfrom", "ENOMEM"),
    ("bind", "ENOMEM"),
    ("fcntl", "EMFILE"),
    ("timerfd_settime", "ENOMEM"),
    ("epoll_ctl", "ENOMEM"),
    ("epoll_wait", "EINTR"),
    ("read", "EIO"),
    ("write", "ENOSPC"),
    ("fsync", "EIO"),
    ("rename", "EIO"),
    ("unlink", "EIO"),
    ("statx", "EACCES"),
    ("getdents64", "ENOMEM"),
    ("inotify_add_watch", "ENOSPC"),
    ("accept4", "EMFILE"),
    ("mount", "EPERM"),
];

/// How many of the calls of a kind are tried, one after the other; all of the environment variable,
/// if that is set.
fn depth() -> usize {
    let set = std::env::var("IPFILTER_FAULTS").ok();
    set.and_then(|depth| depth.parse().ok()).unwrap_or(2)
}

#[test]
fn no_system_call_that_fails_ends_the_daemon() {
    let lab = Lab::new("faults");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = [
        "--policy",
        &policy,
        "--deny",
        "reject",
        "--udp",
        "--log-denied",
        "--watch",
    ];
    let metrics = ["--metrics", "9477", "--detach-on-exit"];
    let mut filter = lab.run(
        &[
            &["run", "--interface", "eth0,late*", "--port", "80"][..],
            &arguments,
            &metrics,
        ]
        .concat(),
        &[("NOTIFY_SOCKET", "/nowhere")],
    );
    let (mut tried, mut deaths) = (0, Vec::new());
    for (call, error) in FAULTS {
        // The later ones are those of other things than the earlier ones are.
        for when in (0..depth()).map(|step| 1 + step * 7) {
            tried += 1;
            let fault = format!("{call}:error={error}:when={when}..{}", when + 2);
            under(&lab, &filter, call, &fault, tried);
            if filter.ended().expect("it can be asked").is_some() {
                deaths.push(fault);
                filter = lab.filter(&[&arguments[..], &metrics].concat());
            }
        }
    }
    println!("{tried} faults, {} deaths: {deaths:?}", deaths.len());
    assert!(deaths.is_empty(), "{deaths:?}\n{}", lab.log("run"));
    assert_eq!(statuses(&lab), ONLY_GOOD);
    // It is none the worse for it.
    let start = Instant::now();
    while lab.tell(&["reload"]).0 != Some(0) {
        assert!(start.elapsed() < PATIENCE, "{}", lab.log("run"));
    }
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// Does `act` while calls of that process fail.
pub(super) fn with_fault(lab: &Lab, pid: u32, call: &str, fault: &str, act: impl FnOnce()) {
    let log = lab.folder.join("strace.log");
    let mut strace = Command::new("strace");
    strace
        .args(["--follow-forks", "--quiet=none", "--output"])
        .arg(&log)
        .args(["--trace", call, "--inject", fault, "--attach"])
        .arg(pid.to_string())
        .stdout(Stdio::null())
        .stderr(fs::File::create(lab.folder.join("strace.err")).expect("a file"));
    let strace = Guard::spawn(&mut strace).expect("strace, which is needed here");
    let start = Instant::now();
    while !is_traced(pid) {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(TICK);
    }
    act();
    let _: anyhow::Result<std::process::ExitStatus> = strace.stop(PATIENCE);
}

/// Has the daemon reload, look at an interface and answer while calls fail.
fn under(lab: &Lab, filter: &Guard, call: &str, fault: &str, number: usize) {
    with_fault(lab, filter.id(), call, fault, || {
        disturb(lab, filter, number);
    });
    // What it began meanwhile is done when it has done this.
    lab.tell(&["reload"]);
    // Nobody got in meanwhile, which the filter itself would have to be gone for.
    assert_is_native(lab, fault);
}

fn assert_is_native(lab: &Lab, fault: &str) {
    let host = &lab.network.host;
    let link = host
        .ip(["-details", "link", "show", "eth0"])
        .expect("an interface");
    assert!(
        link.contains("prog/xdp"),
        "{fault}: {link}\n{}",
        lab.log("run")
    );
}

/// Not being able to ask about the other end of a pair says nothing about it.
#[test]
fn a_question_that_fails_moves_no_filter() {
    let lab = Lab::new("asking");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--deny", "reject"]);
    for (call, error) in [
        ("bind", "ENOMEM"),
        ("sendto", "ENOBUFS"),
        ("socket", "EMFILE"),
    ] {
        for when in 1..=6 {
            let fault = format!("{call}:error={error}:when={when}");
            with_fault(&lab, filter.id(), call, &fault, || {
                lab.tell(&["reload"]);
            });
            assert_is_native(&lab, &fault);
        }
    }
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

fn disturb(lab: &Lab, filter: &Guard, number: usize) {
    let other = format!("192.0.{}.{}/32", number / 256, number % 256);
    lab.write("policy.json", allow(&[GOOD[0], GOOD[1], &other]));
    // It may have ended already.
    let _: anyhow::Result<()> = filter.signal(Signal::HUP);
    let host = &lab.network.host;
    let add = [
        "link", "add", "late0", "type", "veth", "peer", "name", "late1",
    ];
    host.ip(add).expect("an interface");
    let health = [
        "--silent",
        "--max-time",
        "1",
        "http://127.0.0.1:9477/healthz",
    ];
    let _: std::io::Result<std::process::Output> = host.command("curl").args(health).output();
    thread::sleep(Duration::from_millis(150));
    host.ip(["link", "delete", "late0"]).expect("an interface");
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    // One that has ended can't be.
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}

/// A signal interrupts the kernel's verifier, which says nothing about the program.
#[test]
fn a_program_whose_verification_was_interrupted_is_loaded_again() {
    let lab = Lab::new("again");
    let policy = lab.write("policy.json", allow(&GOOD));
    let log = lab.folder.join("strace.log");
    let deploy = |fault: &[&str]| {
        let ipfilter = lab.ipfilter(&[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ]);
        let mut command = lab.network.host.command("strace");
        command.args(["--trace", "bpf", "--output"]).arg(&log);
        command.args(fault).arg("--");
        // Without the `nsenter --net=… --` in front: it is in the namespace already.
        command.args(ipfilter.get_args().skip(2));
        let variables = ipfilter.get_envs();
        command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        let output = command.output().expect("strace, which is needed here");
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(&log).expect("a log")
    };
    let calls = deploy(&[]);
    lab.tell(&["detach"]);
    let is_ours =
        |line: &str| line.contains("BPF_PROG_LOAD") && line.contains("prog_name=\"ipfilter");
    let calls = calls.lines().filter(|line| line.starts_with("bpf("));
    let number = calls.clone().position(is_ours).expect("a program") + 1;
    let fault = format!("bpf:error=EAGAIN:when={number}..{}", number + 2);
    let calls = deploy(&["--inject", &fault]);
    let interrupted = calls
        .lines()
        .filter(|line| is_ours(line) && line.contains("INJECTED"));
    assert!(interrupted.count() > 0, "{calls}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// The limit is met with a signal that would end the process, but for us.
#[test]
fn a_limit_of_file_sizes_ends_no_daemon() {
    let lab = Lab::new("sizes");
    let policy = lab.write("policy.json", allow(&GOOD));
    let mut filter = lab.filter(&["--policy", &policy]);
    let limit = Command::new("prlimit")
        .args(["--fsize=0", "--pid", &filter.id().to_string()])
        .status();
    assert!(limit.expect("prlimit, of util-linux").success());
    lab.write("policy.json", allow(&BAD));
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(filter.ended().expect("it can be asked"), None);
    assert_eq!(statuses(&lab), ONLY_BAD);
    lab.detach(filter);
}

/// Clients that come while there are no descriptors wait until others leave.
#[test]
fn the_mock_survives_running_out_of_descriptors() {
    let lab = Lab::empty("descriptors");
    let listen = format!("{}:80,[{}]:80", HOST.v4, HOST.v6);
    let ipfilter = lab.ipfilter(&["mock", "--listen", &listen]);
    let mut command = lab.network.host.command("sh");
    command.args(["-c", "ulimit -n 16; exec \"$@\" 2> \"$LOG\"", "sh"]);
    command.args(ipfilter.get_args().skip(2));
    command.env("LOG", lab.folder.join("mock.log"));
    let mut mock = Guard::spawn(&mut command).expect("it starts");
    lab.wait_log("mock", "listening", 2);
    thread::scope(|scope| {
        let clients = inside(scope, &lab.network.denied, || {
            let connect = |_| TcpStream::connect((HOST.v4, 80)).expect("the kernel takes it");
            (0..40).map(connect).collect::<Vec<_>>()
        });
        let clients = clients.join().expect("clients");
        lab.wait_log("mock", "can't accept a client", 1);
        drop(clients);
    });
    wait_for("everyone", || statuses(&lab) == EVERYONE);
    assert_eq!(mock.ended().expect("it can be asked"), None);
}
