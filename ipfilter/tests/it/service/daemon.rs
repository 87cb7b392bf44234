//! `ipfilter run` as a service: asked to reload and to go back, started with something broken, told of
//! files that change, watched over by a service manager.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        net::UnixDatagram,
    },
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use testkit::process::TICK;

use crate::lab::{
    BAD, EVERYONE, GOOD, Lab, NOBODY, ONLY_BAD, ONLY_GOOD, allow, statuses, wait_for,
};

/// The arguments of a run with this policy.
pub(super) fn run<'a>(policy: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "--interface", "eth0", "--port", "80", "--policy"];
    arguments.extend([policy, "--deny", "reject"]);
    arguments.extend(more);
    arguments
}

#[test]
fn reload_waits_and_hands_the_outcome_to_its_caller() {
    let lab = Lab::new("ask");
    let policy = lab.write("policy.json", allow(&GOOD));
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no process runs instance"), "{said}");
    let filter = lab.run(&run(&policy, &[]), &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.write("policy.json", allow(&BAD));
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    // No waiting here: it has been done when the command ends.
    assert_eq!(statuses(&lab), ONLY_BAD);
    let partial = allow(&GOOD)
        .replace("IpAddress", "StringLike")
        .replace("aws:SourceIp", "aws:UserAgent");
    for (content, code, why) in [
        (allow(&["10.0.0.0/33"]), 3, format!("{policy}:1:")),
        (String::new(), 3, "the document is empty".into()),
        (partial, 4, "aws:UserAgent".into()),
    ] {
        lab.write("policy.json", content);
        let (ended, said) = lab.tell(&["reload"]);
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(&why), "{said}");
        let errors = said.lines().filter(|line| line.starts_with("error: "));
        assert_eq!(errors.count(), 1, "{said}");
        // What is kept has no colours in it: JSON writes an escape character so.
        let status = lab.status().to_string();
        assert!(
            status.contains(r#""failed""#) && !status.contains(r"\u001b"),
            "{status}"
        );
    }
    fs::remove_file(&policy).expect("a file");
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(statuses(&lab), ONLY_BAD);
    let status = lab.status();
    assert_eq!(status["last_reload"]["cause"], "command", "{status}");
    assert_eq!(status["last_reload"]["outcome"], "failed", "{status}");
    lab.detach(filter);
    assert!(
        !lab.folder
            .join("run")
            .join(lab.key())
            .join("control")
            .exists()
    );
}

/// Nobody but root may ask, and who asks nonsense, or nothing, does no harm.
#[test]
fn the_control_socket_bears_with_strangers() {
    let lab = Lab::new("strangers");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &[]), &[]);
    let socket = lab.folder.join("run").join(lab.key()).join("control");
    let mode = fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let connect = || std::os::unix::net::UnixStream::connect(&socket).expect("a connection");
    let silent = connect();
    for nonsense in [
        &b"\n"[..],
        b"{}\n",
        b"\"delete\"\n",
        &[0xff; 5000],
        b"\"reload\"",
    ] {
        use std::io::Write as _;
        // It may hang up before all is said.
        let _: std::io::Result<()> = connect().write_all(nonsense);
    }
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    drop(silent);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

fn causes(lab: &Lab) -> Vec<String> {
    let status = lab.status();
    let history = status["history"].as_array().expect("a history").clone();
    let causes = history.iter().map(|entry| entry["cause"].as_str());
    causes
        .map(|cause| cause.expect("a cause").to_owned())
        .collect()
}

#[test]
fn rollback_goes_to_the_deployment_before_and_back() {
    let lab = Lab::new("rollback");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = run(&policy, &[]);
    let filter = lab.run(&arguments, &[]);
    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no deployment before this one"), "{said}");
    lab.write("policy.json", allow(&BAD));
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_BAD);
    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.tell(&["rollback"]);
    assert_eq!(statuses(&lab), ONLY_BAD);
    lab.tell(&["rollback"]);
    assert_eq!(
        causes(&lab),
        ["rollback", "rollback", "rollback", "signal", "start"]
    );
    // The files are as they were: a service manager's restart does not bring back what was turned
    // away, which is what they say, and a reload does.
    drop(filter);
    let filter = lab.run(&arguments, &[("NOTIFY_SOCKET", "/nowhere")]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let degraded = lab.status()["degraded"].to_string();
    assert!(degraded.contains("rolled back"), "{degraded}");
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_BAD);
    assert_eq!(lab.status()["degraded"], serde_json::Value::Null);
    // Without a process, too.
    drop(filter);
    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
}

/// With a policy that is broken, and with nothing to fall back on: shut, or not started.
#[test]
fn a_broken_start_shuts_the_api_or_fails_as_configured() {
    let lab = Lab::new("broken");
    let policy = lab.write("policy.json", "{");
    let fail = run(&policy, &["--on-error", "fail"]);
    for (arguments, told) in [(&fail, true), (&run(&policy, &[]), false)] {
        let (code, said) = lab.tell(arguments);
        assert_eq!(code, Some(3), "{said}");
        assert_eq!(
            told,
            said.contains("there is no earlier deployment"),
            "{said}"
        );
        lab.assert_nothing_is_left();
    }
    let filter = lab.run(&run(&policy, &["--on-error", "deny-all"]), &[]);
    assert_eq!(statuses(&lab), NOBODY);
    let status = lab.status();
    let degraded = status["degraded"].as_str();
    assert!(
        degraded.is_some_and(|why| why.contains("policy.json:1:")),
        "{status}"
    );
    let log = lab.log("run");
    assert!(log.contains("degraded: "), "{log}");
    lab.write("policy.json", allow(&GOOD));
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(lab.status()["degraded"], serde_json::Value::Null);
    lab.detach(filter);
}

/// Where a service manager starts it, that is what happens unless it is told otherwise.
#[test]
fn a_service_that_starts_with_a_broken_policy_takes_up_the_last_good_plan() {
    let lab = Lab::new("lastgood");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = run(&policy, &[]);
    let service = [("NOTIFY_SOCKET", "/nowhere")];
    let filter = lab.run(&arguments, &[]);
    lab.detach(filter);
    assert_eq!(statuses(&lab), EVERYONE);
    for broken in ["{", "", "\u{0}"] {
        lab.write("policy.json", broken);
        let filter = lab.run(&arguments, &service);
        assert_eq!(statuses(&lab), ONLY_GOOD, "{}", lab.log("run"));
        assert!(lab.status()["degraded"].is_string());
        lab.detach(filter);
    }
    // What was asked for then is not what is asked for now: another's plan is nobody's fall-back.
    let other = run(
        &policy,
        &["--address", "192.0.2.2", "--address", "2001:db8:2::2"],
    );
    let filter = lab.run(&other, &service);
    assert_eq!(statuses(&lab), NOBODY);
    lab.detach(filter);
    // The disk has damaged it: shut.
    let filter = {
        lab.write("policy.json", allow(&GOOD));
        let filter = lab.run(&arguments, &[]);
        lab.detach(filter);
        for entry in fs::read_dir(lab.folder.join("state").join(lab.key())).expect("a state") {
            let path = entry.expect("a file").path();
            let mut bytes = fs::read(&path).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&path, bytes).expect("a file");
        }
        lab.write("policy.json", "{");
        lab.run(&arguments, &service)
    };
    assert_eq!(statuses(&lab), NOBODY);
    let log = lab.log("run");
    assert!(log.contains("is damaged"), "{log}");
    lab.detach(filter);
}

/// A policy per API: only that which is broken shuts its API.
#[test]
fn one_broken_policy_shuts_only_its_own_api() {
    let lab = Lab::new("half");
    lab.write("good.json", allow(&GOOD));
    lab.write("bad.json", "{");
    let config = lab.write(
        "ipfilter.json",
        r#"{"interfaces": ["eth0"], "apis": [
            {"name": "whole", "ports": [80], "policy": "good.json", "deny": "reject"},
            {"name": "broken", "ports": [81], "policy": "bad.json"}]}"#,
    );
    let filter = lab.run(&["run", "--config", &config, "--on-error", "deny-all"], &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let probe = ["probe", "--source", "198.51.100.10", "--port"];
    for (port, verdict) in [("80", "pass"), ("81", "drop")] {
        let (code, said) = lab.tell(&[&probe[..], &[port]].concat());
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with(verdict), "{said}");
    }
    // A configuration that is broken has no ports to shut; but the plan from before.
    drop(filter);
    lab.write("bad.json", allow(&BAD));
    let filter = lab.run(&["run", "--config", &config], &[]);
    drop(filter);
    lab.write("ipfilter.json", "{");
    let filter = lab.run(&["run", "--config", &config, "--on-error", "deny-all"], &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// What a service manager is told.
#[test]
fn the_service_manager_learns_the_state() {
    let lab = Lab::new("notify");
    let policy = lab.write("policy.json", allow(&GOOD));
    let path = lab.folder.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(TICK)).expect("a timeout");
    let mut told = String::new();
    let mut listen = |wanted: &str| {
        wait_for(wanted, || {
            let mut bytes = [0; 4096];
            match socket.recv(&mut bytes) {
                Ok(length) => told += &format!("{}\n", String::from_utf8_lossy(&bytes[..length])),
                Err(error) => assert!(matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut
                )),
            }
            told.contains(wanted)
        });
        std::mem::take(&mut told)
    };
    let path = path.display().to_string();
    let variables = [
        ("NOTIFY_SOCKET", path.as_str()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let filter = lab.run(&run(&policy, &[]), &variables);
    let ready = listen("READY=1");
    assert!(
        ready.contains("STATUS=filtering eth0 (native); plan "),
        "{ready}"
    );
    listen("WATCHDOG=1");
    listen("WATCHDOG=1");
    lab.tell(&["reload"]);
    assert!(listen("RELOADING=1").contains("MONOTONIC_USEC="));
    listen("READY=1");
    lab.write("policy.json", "{");
    lab.tell(&["reload"]);
    listen("RELOADING=1");
    // It is still what it was: ready.
    listen("READY=1");
    filter.signal(Signal::TERM).expect("it runs");
    listen("STOPPING=1");
}

fn seen(lab: &Lab, what: &str, wanted: [&str; 4]) {
    wait_for(what, || statuses(lab) == wanted);
}

/// Each way in which files come to be others.
#[test]
fn files_that_change_are_deployed_by_themselves() {
    let lab = Lab::new("watch");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &["--watch"]), &[]);
    let path = Path::new(&policy);
    seen(&lab, "the start", ONLY_GOOD);
    lab.write("policy.json", allow(&BAD));
    seen(&lab, "written over", ONLY_BAD);
    fs::rename(lab.write("new.json", allow(&GOOD)), path).expect("a file");
    seen(&lab, "renamed over", ONLY_GOOD);
    // Kubernetes.
    for (version, blocks) in [("..1", &GOOD), ("..2", &BAD)] {
        fs::create_dir(lab.folder.join(version)).expect("a folder");
        lab.write(&format!("{version}/policy.json"), allow(blocks));
    }
    symlink("..1", lab.folder.join("..data")).expect("a link");
    symlink("..data/policy.json", lab.folder.join("link")).expect("a link");
    fs::rename(lab.folder.join("link"), path).expect("a link");
    symlink("..2", lab.folder.join("..data_tmp")).expect("a link");
    fs::rename(lab.folder.join("..data_tmp"), lab.folder.join("..data")).expect("a link");
    seen(&lab, "swapped a link on the way", ONLY_BAD);
    let before = lab.status();
    broken_files_change_nothing(&lab, path);
    assert_eq!(lab.status()["digest"], before["digest"]);
    fs::rename(lab.write("new.json", allow(&GOOD)), path).expect("a file");
    seen(&lab, "repaired", ONLY_GOOD);
    let status = lab.status();
    assert_eq!(status["last_reload"]["cause"], "watch", "{status}");
    bursts_are_one_change(&lab);
    lab.detach(filter);
}

fn broken_files_change_nothing(lab: &Lab, path: &Path) {
    let failed = |why: &str| {
        lab.wait_log("run", &format!("the old plan stays: {why}"), 1);
    };
    let name = path.display();
    let unread = format!("can't read the policy `{name}`: ");
    fs::remove_file(path).expect("a link");
    failed(&format!("{unread}No such file"));
    symlink("nowhere", path).expect("a link");
    fs::remove_file(path).expect("a link");
    fs::create_dir(path).expect("a folder");
    failed(&format!("{unread}it is a directory"));
    fs::remove_dir(path).expect("a folder");
    fs::write(path, "garbage").expect("a file");
    failed(&format!("error: {name}:1:1: the document is not JSON"));
    let half = allow(&GOOD);
    fs::write(path, &half[..half.len() / 2]).expect("a file");
    lab.wait_log("run", "the document ends too early", 1);
    assert_eq!(statuses(lab), ONLY_BAD);
}

fn bursts_are_one_change(lab: &Lab) {
    const WRITES: usize = 50;
    let before = lab.log("run").matches("reloaded: ").count();
    for number in 0..WRITES {
        let other = format!("192.0.2.{number}/32");
        lab.write("policy.json", allow(&[GOOD[0], GOOD[1], &other]));
    }
    let last = format!("192.0.2.{}", WRITES - 1);
    let probe = ["probe", "--source", &last, "--port", "80"];
    wait_for("the last write", || lab.tell(&probe).1.starts_with("pass"));
    let reloads = lab.log("run").matches("reloaded: ").count() - before;
    assert!(reloads < WRITES / 2, "{reloads} reloads");
    // What has not changed is not deployed, whatever else happens to the file.
    let same = fs::read(lab.folder.join("policy.json")).expect("a file");
    let count = || lab.log("run").matches("reload").count();
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    let before = count();
    lab.write("policy.json", same);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(count(), before);
}

/// A disk that is full, and a state that is damaged: told, and nothing else.
#[test]
fn a_state_that_cannot_be_kept_is_no_reason_to_stop() {
    let lab = Lab::new("full");
    let policy = lab.write("policy.json", allow(&GOOD));
    let state = lab.folder.join("state").join(lab.key());
    // A folder where the files should be: to this process, a disk that takes nothing.
    fs::create_dir_all(state.join("deployment.new")).expect("a folder");
    let filter = lab.run(&run(&policy, &[]), &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let log = lab.log("run");
    assert!(log.contains("`status` will be out of date"), "{log}");
    lab.write("policy.json", allow(&BAD));
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_BAD);
    fs::remove_dir(state.join("deployment.new")).expect("a folder");
    lab.reload(&filter);
    fs::write(state.join("deployment.json"), "damaged").expect("a file");
    let (code, said) = lab.tell(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is damaged"), "{said}");
    lab.reload(&filter);
    let (code, said) = lab.tell(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("is damaged"), "{said}");
    lab.detach(filter);
}
