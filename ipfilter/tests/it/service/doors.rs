//! Success is true: ways in which a command could report that it filters while everyone passes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use testkit::{
    netns::{HOST, Namespace},
    process::TICK,
};

use crate::lab::{EVERYONE, GOOD, Lab, ONLY_GOOD, PATIENCE, allow, curl, statuses, urls};

fn deploy<'a>(policy: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let deploy = [
        "deploy",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--policy",
        policy,
    ];
    [&deploy, more].concat()
}

fn run<'a>(policy: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut run = deploy(policy, more);
    run[0] = "run";
    run
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(TICK);
    }
}

#[test]
fn any_address_is_all_of_them_and_what_protects_nothing_is_refused() {
    let lab = Lab::new("any");
    let policy = lab.write("policy.json", allow(&GOOD));
    for any in ["0.0.0.0", "::", "192.0.2.2,::"] {
        let (code, said) = lab.tell(&deploy(&policy, &["--address", any]));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(statuses(&lab), ONLY_GOOD, "{any}");
    }
    lab.tell(&["detach"]);
    for (address, code, why) in [
        ("::ffff:192.0.2.2", 2, "write `192.0.2.2`"),
        ("127.0.0.1", 2, "the loopback's"),
        ("ff02::1", 2, "a group's"),
        ("192.0.2.99", 1, "no address `192.0.2.99`"),
    ] {
        let (ended, said) = lab.tell(&deploy(&policy, &["--address", address]));
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(why), "{said}");
        let config = serde_json::json!({
            "interfaces": ["eth0"],
            "addresses": [address],
            "apis": [{"name": "api", "ports": [80], "policy": "policy.json"}],
        });
        let config = lab.write("ipfilter.json", config.to_string());
        let (ended, said) = lab.tell(&["deploy", "--config", &config]);
        assert_eq!(ended, Some(code), "{said}");
        assert!(said.contains(why), "{said}");
    }
    lab.assert_nothing_is_left();
}

#[test]
fn addresses_that_are_left_out_or_not_there_are_reported_and_watched() {
    let lab = Lab::new("address");
    let policy = lab.write("policy.json", allow(&GOOD));
    let (code, said) = lab.tell(&deploy(&policy, &["--address", HOST.v4]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no IPv6 address is protected"), "{said}");
    assert!(said.contains(HOST.v6), "{said}");
    // Asked about the host's own address, not about the one that was configured.
    let live = [
        "explain",
        "--live",
        "--source",
        "203.0.113.10,2001:db8:113::10",
        "--format",
        "json",
    ];
    let (code, said) = lab.tell(&live);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("other_address"), "{said}");
    assert!(said.contains("\"reason\":\"denied\""), "{said}");

    let filter = lab.run(
        &run(&policy, &["--address", "192.0.2.99", "--on-error", "fail"]),
        &[],
    );
    assert!(
        lab.log("run").contains("`192.0.2.99` does not exist"),
        "{}",
        lab.log("run")
    );
    assert_eq!(lab.status()["waiting"][0], "192.0.2.99");
    let host = &lab.network.host;
    host.ip(["addr", "add", "192.0.2.99/32", "dev", "eth0"])
        .expect("an address");
    wait_for("the address", || {
        lab.status()["waiting"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
    lab.detach(filter);
}

/// A command in a mount namespace of its own where no BPF file system is mounted, as those of
/// `ip netns exec` are. `more` are further options of `unshare`.
fn apart(lab: &Lab, more: &[&str], arguments: &[&str]) -> Command {
    const UNMOUNTED: &str = "while umount /sys/fs/bpf 2>&-; do :; done; exec \"$@\"";
    let mut command = lab.network.host.command("unshare");
    command
        .args(["--mount"])
        .args(more)
        .args(["--", "sh", "-c", UNMOUNTED, "sh"]);
    let ipfilter = lab.ipfilter(arguments);
    // Without the `nsenter --net=… --` in front: it is in the namespace already.
    command.args(ipfilter.get_args().skip(2));
    let variables = ipfilter.get_envs();
    command.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::null());
    command
}

#[test]
fn pins_outlive_a_private_mount_namespace() {
    let lab = Lab::new("mounts");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deployed = apart(&lab, &[], &deploy(&policy, &[]))
        .output()
        .expect("it starts");
    assert!(deployed.status.success(), "{deployed:?}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(lab.status()["interfaces"][0]["name"], "eth0");
    let filter = lab.ready(apart(&lab, &[], &run(&policy, &[])));
    // Dropping a guard is a kill -9.
    drop(filter);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let seen = apart(&lab, &[], &["status"]).output().expect("it starts");
    let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert!(seen.contains("interface   eth0"), "{seen}");
    let detached = apart(&lab, &[], &["detach"]).output().expect("it starts");
    assert!(detached.status.success(), "{detached:?}");
    lab.assert_nothing_is_left();
    assert_eq!(statuses(&lab), EVERYONE);
}

/// With processes of its own, it can't see the host's.
#[test]
fn a_container_that_may_take_the_filter_with_it_says_so_and_others_see_that_it_is_there() {
    let lab = Lab::new("container");
    let policy = lab.write("policy.json", allow(&GOOD));
    let container = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let filter = lab.ready(apart(&lab, &container, &run(&policy, &[])));
    let log = lab.log("run");
    assert!(
        log.contains("can't tell from here whether the BPF file system"),
        "{log}"
    );
    let (code, said) = lab.tell(&["status"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("stray       at eth0 program "), "{said}");
    assert!(!said.contains("every packet passes"), "{said}");
    drop(filter);
    wait_for("the container's end", || statuses(&lab) == EVERYONE);
}

#[test]
fn two_network_namespaces_may_have_an_instance_of_the_same_name() {
    let lab = Lab::new("twins");
    let policy = lab.write("policy.json", allow(&GOOD));
    let (code, said) = lab.tell(&deploy(&policy, &[]));
    assert_eq!(code, Some(0), "{said}");
    let client = &lab.network.denied;
    let elsewhere = |arguments: &[&str]| {
        let ipfilter = lab.ipfilter(arguments);
        let mut command = client.command(env!("CARGO_BIN_EXE_ipfilter"));
        command.args(ipfilter.get_args().skip(3));
        command.envs(
            ipfilter
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let output = command.output().expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8(said).expect("UTF-8"),
        )
    };
    let host = lab.network.host.name().to_owned();
    let (code, said) = elsewhere(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("`{host}`")), "{said}");
    let (code, said) = elsewhere(&deploy(&policy, &["--mode", "native"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(lab.status()["interfaces"][0]["name"], "eth0");
    let (code, said) = elsewhere(&["status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains(&format!("in network namespace `{host}`")),
        "{said}"
    );
    let (code, said) = elsewhere(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("detached from `eth0`"), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// The status that a denied client gets, and all that `curl` says of it.
fn refusal(client: &Namespace) -> (Option<i32>, String) {
    curl(client, &[&urls("http")[0]])
}

#[test]
fn answers_reach_clients_whatever_the_other_end_of_a_pair_is() {
    let lab = Lab::empty("napi");
    let policy = lab.write("policy.json", allow(&GOOD));
    let answer = ["--deny", "respond"];
    let (code, said) = lab.tell(&deploy(&policy, &answer));
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("can't use native: answers would be lost"),
        "{said}"
    );
    assert_ne!(lab.status()["interfaces"][0]["mode"], "native");
    assert_eq!(refusal(&lab.network.denied).1, "403");

    // Nobody needs answers where packets are dropped, and one who insists is told.
    let (code, said) = lab.tell(&deploy(&policy, &[]));
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("answers"), "{said}");
    lab.tell(&["detach"]);
    let native = [&answer[..], &["--mode", "native"]].concat();
    let (code, said) = lab.tell(&deploy(&policy, &native));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("`eth0`: answers would be lost"), "{said}");
    assert_eq!(refusal(&lab.network.denied).1, "000");
    // A hook that loses answers is left when there is another.
    let (code, said) = lab.tell(&deploy(&policy, &answer));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(refusal(&lab.network.denied).1, "403");
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

#[test]
fn answers_go_by_native_xdp_where_the_other_end_takes_them_in() {
    let lab = Lab::new("napi-on");
    let policy = lab.write("policy.json", allow(&GOOD));
    let (code, said) = lab.tell(&deploy(&policy, &["--deny", "respond"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(lab.status()["interfaces"][0]["mode"], "native");
    assert_eq!(refusal(&lab.network.denied).1, "403");
    lab.tell(&["detach"]);
}

#[test]
fn pins_are_kept_where_nobody_else_can_remove_them() {
    let lab = Lab::new("doorpins");
    let policy = lab.write("policy.json", allow(&GOOD));
    let pins = lab.pins();
    let make = |mode| {
        fs::create_dir(&pins).expect("a directory");
        fs::set_permissions(&pins, Permissions::from_mode(mode)).expect("a mode");
    };
    let refuse = |why: &str| {
        for command in [&deploy(&policy, &[])[..], &["status"], &["detach"]] {
            let (code, said) = lab.tell(command);
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains(why), "{said}");
        }
    };
    make(0o777);
    refuse("is writable by others than root");
    fs::set_permissions(&pins, Permissions::from_mode(0o700)).expect("a mode");
    chown(&pins, Some(1234), None).expect("an owner");
    refuse("is user 1234's");
    fs::remove_dir(&pins).expect("a directory");
    symlink("/tmp", &pins).expect("a link");
    refuse("is a symbolic link");
    fs::remove_file(&pins).expect("a link");

    // Ours from before, as an older version made it.
    make(0o755);
    let (code, said) = lab.tell(&deploy(&policy, &[]));
    assert_eq!(code, Some(0), "{said}");
    for directory in [&pins, Path::new("/sys/fs/bpf/ipfilter")] {
        let mode = fs::metadata(directory).expect("pins").permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
    }
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// What proves a deployment is not traffic.
#[test]
fn the_proof_of_a_deployment_is_not_counted() {
    let lab = Lab::new("proof");
    let policy = lab.write("policy.json", allow(&GOOD));
    for mode in ["native", "tc"] {
        let (code, said) = lab.tell(&deploy(&policy, &["--mode", mode, "--udp"]));
        assert_eq!(code, Some(0), "{said}");
        let status = lab.status();
        let counters = status["counters"].as_array().expect("counters").iter();
        let to_apis = counters.filter(|count| !count["api"].is_null());
        let counted: u64 = to_apis.filter_map(|count| count["packets"].as_u64()).sum();
        assert_eq!(counted, 0, "{status}");
    }
    lab.tell(&["detach"]);
}

#[test]
fn the_kernels_reason_and_missing_privileges_are_named() {
    let lab = Lab::empty("reason");
    let policy = lab.write("policy.json", allow(&GOOD));
    let ipfilter = lab.ipfilter(&deploy(&policy, &[]));
    let arguments: Vec<_> = ipfilter.get_args().skip(2).collect();
    let refused = |program: &str, before: &[&str]| {
        let mut command = lab.network.host.command(program);
        command.args(before).args(&arguments);
        command.envs(
            ipfilter
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = refused("sh", &["-c", "ulimit -n 20; exec \"$@\"", "sh"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("too many open files (EMFILE)"), "{said}");
    let (code, said) = refused("setpriv", &["--bounding-set=-bpf,-sys_admin"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("(EPERM)"), "{said}");
    assert!(said.contains("root without CAP_SYS_ADMIN"), "{said}");
    lab.assert_nothing_is_left();
}
