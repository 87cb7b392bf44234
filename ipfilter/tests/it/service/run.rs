//! `ipfilter run` and what it refuses; reloads, restarts and the way off, under real traffic.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use testkit::{netns::HOST, process::Guard};

use crate::lab::{
    BAD, EVERYONE, Ended, GOOD, Lab, NOBODY, ONLY_BAD, ONLY_GOOD, PATIENCE, allow, inside, shipped,
    statuses, wait_for,
};

/// Runs a command that must end by itself, with this exit code and one message.
fn refuse(lab: &Lab, command: &mut Command, code: i32, message: &str) {
    let Output { status, stderr, .. } = command.output().expect("it starts");
    let said = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(message), "{said}");
    let errors = said.lines().filter(|line| line.starts_with("error: "));
    assert_eq!(errors.count(), 1, "{said}");
    assert!(!said.contains("error: error: "), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    lab.assert_nothing_is_left();
}

/// The arguments of a run with this policy.
fn run(policy: &str) -> [&str; 7] {
    [
        "run",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--policy",
        policy,
    ]
}

#[test]
fn a_policy_that_is_none_is_refused_and_nothing_attached() {
    let lab = Lab::empty("policies");
    refuse_invalid(&lab);
    refuse_unreadable(&lab);
    let partial = allow(&GOOD)
        .replace("IpAddress", "StringLike")
        .replace("aws:SourceIp", "aws:UserAgent");
    let partial = lab.write("partial", partial);
    refuse(&lab, &mut lab.ipfilter(&run(&partial)), 4, "aws:UserAgent");
}

fn refuse_unreadable(lab: &Lab) {
    let missing = lab.folder.join("missing").display().to_string();
    refuse(lab, &mut lab.ipfilter(&run(&missing)), 1, &missing);
    let folder = lab.folder.display().to_string();
    refuse(lab, &mut lab.ipfilter(&run(&folder)), 1, &folder);
}

fn refuse_invalid(lab: &Lab) {
    let whole = allow(&GOOD);
    let with = |block: &str| whole.replace(GOOD[0], block);
    for (name, content, message) in [
        ("empty", Vec::new(), "the document is empty"),
        ("bytes", b"\xff\xfe{".to_vec(), "not UTF-8"),
        (
            "truncated",
            whole.as_bytes()[..whole.len() / 2].to_vec(),
            "the document ends too early",
        ),
        (
            "placeholder",
            with("sourceIpOrCIDRBlock").into(),
            "`sourceIpOrCIDRBlock`",
        ),
        ("nothing", with("").into(), "an empty string"),
        ("prefix", with("10.0.0.0/33").into(), "`10.0.0.0/33`"),
    ] {
        let path = lab.write(name, content);
        refuse(lab, &mut lab.ipfilter(&run(&path)), 3, message);
        // Where in the file, too.
        refuse(
            lab,
            &mut lab.ipfilter(&run(&path)),
            3,
            &format!("{path}:1:"),
        );
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let lab = Lab::empty("usage");
    let policy = shipped("allow-list.json");
    for (place, value, code, message) in [
        (4, "0", 2, "port `0` is out of range"),
        (4, "70000", 2, "port `70000` is out of range"),
        (4, "90-80", 2, "port range `90-80` is reversed"),
        (4, "http", 2, "`http` is not a port"),
        (2, "eth7", 1, "no interface `eth7`"),
    ] {
        let mut arguments = run(&policy);
        arguments[place] = value;
        refuse(&lab, &mut lab.ipfilter(&arguments), code, message);
    }
    let mut twice = run(&policy).to_vec();
    twice.extend(["--mode", "sideways"]);
    refuse(&lab, &mut lab.ipfilter(&twice), 2, "sideways");
}

/// A second instance at the same interface is as foreign as any other program.
#[test]
fn the_programs_of_others_are_left_alone() {
    let lab = Lab::new("foreign");
    let policy = shipped("allow-list.json");
    let peer = lab.network.router.ip(["-details", "link", "show", "eth0"]);
    let before = program(&peer.expect("an interface"));
    let mut second = lab.network.router.command(env!("CARGO_BIN_EXE_ipfilter"));
    second
        .args(["--instance", &lab.instance])
        .args(run(&policy))
        .args(["--mode", "native"])
        .env("STATE_DIRECTORY", lab.folder.join("state"))
        .env("RUNTIME_DIRECTORY", lab.folder.join("run"));
    refuse(
        &lab,
        &mut second,
        1,
        "is attached there already, and is left alone",
    );
    let peer = lab.network.router.ip(["-details", "link", "show", "eth0"]);
    assert_eq!(program(&peer.expect("an interface")), before);
}

/// What `ip link` says of the XDP program.
fn program(link: &str) -> String {
    let line = link.lines().find(|line| line.contains("prog/xdp"));
    line.unwrap_or_else(|| panic!("no program: {link}"))
        .to_owned()
}

#[test]
fn whoever_is_not_root_is_refused() {
    let lab = Lab::empty("nobody");
    let policy = lab.write("policy.json", allow(&GOOD));
    for arguments in [&run(&policy)[..], &["status"], &["detach"]] {
        let ipfilter = lab.ipfilter(arguments);
        let mut nobody = lab.network.host.command("setpriv");
        nobody
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(env!("CARGO_BIN_EXE_ipfilter"))
            .args(["--instance", &lab.instance])
            .args(arguments)
            .envs(
                ipfilter
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        refuse(&lab, &mut nobody, 5, "needs root");
    }
}

#[test]
fn a_reload_changes_the_verdict_and_a_bad_policy_does_not() {
    let lab = Lab::new("reload");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--deny", "reject"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.write("policy.json", allow(&BAD));
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_BAD);
    let good = lab.status();
    for (bad, why) in [
        ("{", "too early"),
        ("", "empty"),
        (&allow(&["10.0.0.0/33"]), "`10.0.0.0/33`"),
    ] {
        lab.write("policy.json", bad);
        lab.reload(&filter);
        assert_eq!(statuses(&lab), ONLY_BAD);
        let status = lab.status();
        assert_eq!(status["last_reload"]["outcome"], "failed", "{status}");
        let message = status["last_reload"]["message"].as_str();
        assert!(message.is_some_and(|said| said.contains(why)), "{status}");
        assert_eq!(status["digest"], good["digest"], "{status}");
    }
    fs::remove_file(&policy).expect("a file");
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_BAD);
    lab.write("policy.json", allow(&GOOD));
    lab.reload(&filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(lab.status()["last_reload"]["outcome"], "deployed");
    lab.detach(filter);
}

/// Connects again and again, `least` times, and until told to stop; counts what came about, and
/// what did not.
fn connect_until(host: &str, least: usize, stop: &AtomicBool) -> (usize, usize) {
    // A busy machine is slow, which is no fault of the filter's. What gets lost is looked for by
    // datagrams, in `chaos` and `gapless`.
    let host = SocketAddr::new(host.parse().expect("an address"), 80);
    let (mut up, mut down) = (0, 0);
    while up + down <= least || !stop.load(Ordering::Relaxed) {
        match TcpStream::connect_timeout(&host, PATIENCE) {
            Ok(_) => up += 1,
            Err(_) => down += 1,
        }
        thread::sleep(Duration::from_millis(1));
    }
    (up, down)
}

/// A policy that lets everyone in from a time on, and nobody after another: the filter follows by
/// itself, whatever the file says by then.
#[test]
fn the_clock_alone_opens_and_shuts() {
    let lab = Lab::new("clock");
    let seen = [3, 12, 48]
        .into_iter()
        .any(|lead| opens_and_shuts(&lab, lead));
    assert!(seen, "this machine is too slow to see it");
}

/// Opens after `lead` seconds, and shuts after as many more. Says whether all of that was seen: a
/// busy machine may not have looked in time.
fn opens_and_shuts(lab: &Lab, lead: i64) -> bool {
    let now = || jiff::Timestamp::now().as_second();
    let opens = now() + lead;
    let shuts = opens + lead;
    let mut policy: serde_json::Value = serde_json::from_str(&allow(&[])).expect("JSON");
    policy["Statement"]["Condition"] = serde_json::json!({
        "NumericGreaterThanEquals": {"aws:EpochTime": opens},
        "NumericLessThan": {"aws:EpochTime": shuts},
    });
    let path = lab.write("policy.json", policy.to_string());
    let filter = lab.filter(&["--policy", &path, "--deny", "reject"]);
    lab.write("policy.json", "no longer a policy");
    let before = statuses(lab);
    let mut in_time = now() < opens;
    assert!(!in_time || before == NOBODY, "{before:?}");
    wait_for("its time", || now() >= opens);
    wait_for("everyone to get in", || {
        let during = statuses(lab) == EVERYONE;
        in_time &= now() < shuts;
        during || !in_time
    });
    wait_for("nobody to get in", || {
        now() >= shuts && statuses(lab) == NOBODY
    });
    lab.detach(filter);
    in_time
}

#[test]
fn reloads_under_traffic_misjudge_nobody() {
    const RELOADS: usize = 20;
    let lab = Lab::new("traffic");
    let policy = lab.write("policy.json", allow(&GOOD));
    for mode in ["native", "tc"] {
        let arguments = ["--policy", &policy, "--deny", "reject", "--mode", mode];
        let filter = lab.filter(&arguments);
        let stop = AtomicBool::new(false);
        let counts = thread::scope(|scope| {
            let _ended = Ended(&stop);
            let (allowed, denied) = (&lab.network.allowed, &lab.network.denied);
            let clients = [
                (allowed, HOST.v4),
                (allowed, HOST.v6),
                (denied, HOST.v4),
                (denied, HOST.v6),
            ]
            .map(|(client, host)| inside(scope, client, || connect_until(host, RELOADS, &stop)));
            for number in 0..RELOADS {
                // Another plan each time, which says the same of both clients.
                let other = format!("192.0.2.{number}/32");
                lab.write("policy.json", allow(&[GOOD[0], GOOD[1], &other]));
                lab.reload(&filter);
            }
            stop.store(true, Ordering::Relaxed);
            clients.map(|client| client.join().expect("it counts"))
        });
        for (up, down) in &counts[..2] {
            assert!(*up > RELOADS, "{mode}: {counts:?}");
            assert_eq!(*down, 0, "{mode}: {counts:?}");
        }
        for (up, down) in &counts[2..] {
            assert!(*down > RELOADS, "{mode}: {counts:?}");
            assert_eq!(*up, 0, "{mode}: {counts:?}");
        }
        assert_eq!(lab.log("run").matches("reloaded: ").count(), RELOADS);
        lab.detach(filter);
    }
}

/// The pinned links: what holds the filter at the interface.
fn links(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.pins()).expect("pins");
    let names = entries.map(|entry| entry.expect("a pin").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.retain(|name| name.starts_with("link_"));
    names.sort();
    names
}

#[test]
fn the_filter_outlives_its_process_and_is_taken_up_again() {
    let lab = Lab::new("kill");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = ["--policy", &policy, "--mode", "native", "--deny", "reject"];
    let filter = lab.filter(&arguments);
    let before = links(&lab);
    assert_eq!(before.len(), 1, "{before:?}");
    // Dropping a guard is a kill -9.
    drop(filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert!(packets(&lab) > 0);
    let counted = packets(&lab);
    let filter = lab.filter(&arguments);
    assert_eq!(links(&lab), before);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert!(packets(&lab) > counted, "the counters began anew");
    second_is_refused(&lab, &filter, &policy);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
    assert_eq!(statuses(&lab), EVERYONE);
}

fn second_is_refused(lab: &Lab, first: &Guard, policy: &str) {
    let output = lab.ipfilter(&run(policy)).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let owner = format!("already run by process {}", first.id());
    assert!(said.contains(&owner), "{said}");
}

/// Packets counted as allowed.
fn packets(lab: &Lab) -> u64 {
    let status = lab.status();
    let counted = &status["counters"];
    let rows = counted.as_array().unwrap_or_else(|| panic!("{status}"));
    let allowed = rows.iter().filter(|row| row["reason"] == "allowed");
    allowed.filter_map(|row| row["packets"].as_u64()).sum()
}

/// `detach` stops the process that runs the instance, and so does SIGTERM with `--detach-on-exit`.
#[test]
fn there_are_two_ways_off() {
    let lab = Lab::new("off");
    let policy = lab.write("policy.json", allow(&GOOD));
    let arguments = ["--policy", &policy, "--deny", "reject"];
    let mut filter = lab.filter(&arguments);
    let output = lab.ipfilter(&["detach"]).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    let ended = filter.wait(PATIENCE).expect("it can be asked");
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    lab.assert_nothing_is_left();
    assert_eq!(statuses(&lab), EVERYONE);
    let filter = lab.filter(&[&arguments[..], &["--detach-on-exit"]].concat());
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let ended = filter.stop(PATIENCE).expect("it ends");
    assert!(ended.success(), "{ended:?}");
    lab.assert_nothing_is_left();
    assert_eq!(statuses(&lab), EVERYONE);
}
