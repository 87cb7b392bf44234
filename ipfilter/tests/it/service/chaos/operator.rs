//! What happens to the filter, one thing after the other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{OnceLock, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use testkit::{
    netns::{HOST, ROUTER},
    process::Guard,
};

use super::{
    super::faults::with_fault,
    traffic::{Signals, Tally},
};
use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses, wait_for};

/// This program as of another version of the ABI: an example of the package, which has nothing to compile but
/// itself once the tests are built.
pub(super) fn next() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--workspace", "--example", "next-abi", "--quiet"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo");
        assert!(status.success());
        let binary = Path::new(env!("CARGO_BIN_EXE_ipfilter"));
        binary.with_file_name("examples").join("next-abi")
    })
}

/// How often each thing happens.
#[derive(Clone, Copy)]
pub(super) struct Doses {
    pub(super) reloads: usize,
    pub(super) kills: usize,
    pub(super) restarts: usize,
    pub(super) upgrades: usize,
    pub(super) flaps: usize,
    pub(super) renames: usize,
    pub(super) moves: usize,
    pub(super) losses: usize,
    pub(super) overrides: usize,
    pub(super) trials: usize,
    pub(super) faults: usize,
}

/// What fails under a reload, and with what.
const FAULTS: [(&str, &str); 4] = [
    ("bpf", "ENOMEM"),
    ("openat", "EMFILE"),
    ("recvfrom", "ENOBUFS"),
    ("bpf", "EPERM"),
];

pub(super) struct Operator<'l> {
    pub(super) lab: &'l Lab,
    pub(super) signals: &'l Signals,
    pub(super) tally: &'l Tally,
    pub(super) arguments: Vec<&'l str>,
    pub(super) running: Option<Guard>,
    pub(super) counter: usize,
}

impl Operator<'_> {
    pub(super) fn act(&mut self, doses: Doses) {
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
        assert_eq!(
            seen,
            0,
            "after {after}: {:?}\n{}",
            self.tally.first_seen.get(),
            self.lab.log("run")
        );
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

    pub(super) fn start(&mut self, binary: &Path) {
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

    /// Has changes confirmed, rolled back at their deadline, and killed: amid the change, before the deadline and
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
        wait_for("it is rolled back", || is_over() && plan() == confirmed);
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
            wait_for("it is rolled back", || is_over() && plan() == confirmed);
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
