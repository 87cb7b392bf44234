//! System calls that fail under a running daemon: it goes on, and the filter stays.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use testkit::process::{Guard, TICK};

use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses};

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

/// Has the daemon reload, look at an interface and answer while calls fail.
fn under(lab: &Lab, filter: &Guard, call: &str, fault: &str, number: usize) {
    let log = lab.folder.join("strace.log");
    let mut strace = Command::new("strace");
    strace
        .args(["--follow-forks", "--quiet=none", "--output"])
        .arg(&log)
        .args(["--trace", call, "--inject", fault, "--attach"])
        .arg(filter.id().to_string())
        .stdout(Stdio::null())
        .stderr(fs::File::create(lab.folder.join("strace.err")).expect("a file"));
    let strace = Guard::spawn(&mut strace).expect("strace, which is needed here");
    let start = Instant::now();
    while !is_traced(filter.id()) {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(TICK);
    }
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
    let _: anyhow::Result<std::process::ExitStatus> = strace.stop(PATIENCE);
    // Nobody got in meanwhile, which the filter itself would have to be gone for.
    let link = host
        .ip(["-details", "link", "show", "eth0"])
        .expect("an interface");
    assert!(
        link.contains("prog/xdp"),
        "{fault}: {link}\n{}",
        lab.log("run")
    );
}

fn is_traced(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    // One that has ended can't be.
    tracer.is_none_or(|tracer| tracer.trim() != "0")
}
