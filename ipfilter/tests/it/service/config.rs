//! Configuration files, patterns of interfaces, foreign programs and `probe`, live: needs root.

use std::{
    fs,
    path::PathBuf,
    process::{self, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::netns::{Namespace, Network};

use crate::lab::PATIENCE;

/// A host with two interfaces and a folder with policies; its filter goes when it is dropped.
struct Host {
    namespace: Namespace,
    folder: PathBuf,
    instance: String,
    _network: Network,
}

impl Host {
    fn new(tag: &str) -> Self {
        let mut network = Network::new(tag).expect("a network");
        let host = network.add("host").expect("a host");
        let peer = network.add("peer").expect("a peer");
        for (name, addresses) in [
            ("eth0", ["192.0.2.2/24", "2001:db8:2::2/64"]),
            ("eth1", ["192.0.3.2/24", "2001:db8:3::2/64"]),
        ] {
            network
                .link((&host, name, &addresses), (&peer, name, &[]))
                .expect("a link");
        }
        let instance = format!("{tag}-{}", process::id());
        let folder = std::env::temp_dir().join(format!("ipfilter-{instance}"));
        fs::create_dir_all(&folder).expect("a folder");
        for name in ["allow-list.json", "deny-list.json"] {
            let policies = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
            fs::copy(format!("{policies}/{name}"), folder.join(name)).expect("a policy");
        }
        Self {
            namespace: host,
            folder,
            instance,
            _network: network,
        }
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("a file");
        path.into_os_string().into_string().expect("UTF-8")
    }

    fn command(&self, instance: &str, arguments: &[&str]) -> Command {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_ipfilter"));
        command
            .args(["--instance", instance])
            .args(arguments)
            .env("STATE_DIRECTORY", self.folder.join("state"))
            .env("RUNTIME_DIRECTORY", self.folder.join("run"))
            .env("NO_COLOR", "1");
        command
    }

    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        result(
            &self
                .command(&self.instance, arguments)
                .output()
                .expect("it runs"),
        )
    }

    fn fine(&self, arguments: &[&str]) -> String {
        let (exit, out, err) = self.run(arguments);
        assert_eq!(exit, 0, "{arguments:?}: {err}");
        out
    }

    /// What `probe` says: interface, verdict, reason, API.
    fn probe(&self, arguments: &str) -> String {
        self.try_probe(arguments).expect("a verdict")
    }

    /// As [`Self::probe`], or why it says nothing: a filter that is just moving from one interface to
    /// another is not to be found for a moment.
    fn try_probe(&self, arguments: &str) -> Result<String, String> {
        let words: Vec<_> = ["probe", "--format", "json"]
            .into_iter()
            .chain(arguments.split(' '))
            .collect();
        let (exit, out, err) = self.run(&words);
        if exit != 0 {
            return Err(err);
        }
        let told: Value = serde_json::from_str(&out).expect("JSON");
        let part = |name: &str| told[name].as_str().unwrap_or("-").to_owned();
        Ok(["interface", "verdict", "reason", "api"]
            .map(part)
            .join(" "))
    }

    fn await_probe(&self, arguments: &str, wanted: &str) {
        let begin = Instant::now();
        loop {
            let told = self.try_probe(arguments);
            if told.as_deref() == Ok(wanted) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{told:?}, never {wanted}");
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that fails has already said why.
        let _ = self.command(&self.instance, &["detach"]).output();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn result(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let exit = output.status.code().expect("an exit code");
    (exit, text(&output.stdout), text(&output.stderr))
}

/// Two APIs: one in each protocol that responds, one in TCP alone that rejects.
fn config(mode: &str) -> Value {
    json!({
        "interfaces": ["eth?"],
        "mode": mode,
        "addresses": ["192.0.2.2", "192.0.3.2", "2001:db8:2::2"],
        "apis": [
            {"name": "petstore", "ports": [443, "8000-8010"], "protocols": ["tcp", "udp"],
             "policy": "allow-list.json", "deny": "respond", "respond_body": "body.html",
             "respond_type": "text/html"},
            {"name": "billing", "ports": ["8443"], "policy": "deny-list.json", "deny": "reject"},
        ],
    })
}

/// What comes from whom, and what becomes of it on `eth0`.
const VERDICTS: &[(&str, &str)] = &[
    ("--source 198.51.100.10 --port 443", "pass allowed petstore"),
    (
        "--source 203.0.113.10 --port 443",
        "respond syn_ack petstore",
    ),
    (
        "--source 203.0.113.10 --port 8010",
        "respond syn_ack petstore",
    ),
    (
        "--source 203.0.113.10 --port 443 --protocol udp",
        "reject prohibited petstore",
    ),
    (
        "--source 198.51.100.10 --port 443 --protocol udp",
        "pass allowed petstore",
    ),
    (
        "--source 2001:db8:100::10 --port 443",
        "pass allowed petstore",
    ),
    (
        "--source 2001:db8:113::10 --port 443",
        "respond syn_ack petstore",
    ),
    (
        "--source 2001:db8:113::10 --port 443 --protocol udp",
        "reject prohibited petstore",
    ),
    ("--source 203.0.113.10 --port 8443", "reject reset billing"),
    (
        "--source 203.0.113.10 --port 8443 --protocol udp",
        "pass other_port -",
    ),
    ("--source 203.0.113.10 --port 22", "pass other_port -"),
    (
        "--source 203.0.113.10 --port 443 --address 192.0.2.9",
        "pass other_address -",
    ),
    (
        "--source 203.0.113.10 --port 443 --fragment first",
        "drop unanswered petstore",
    ),
    (
        "--source 203.0.113.10 --port 443 --fragment later",
        "pass later_fragment -",
    ),
    (
        "--source 2001:db8:113::10 --port 443 --fragment first",
        "drop unanswered petstore",
    ),
    (
        "--source 2001:db8:113::10 --port 443 --fragment later",
        "pass later_fragment -",
    ),
    (
        "--source 203.0.113.10 --port 8443 --vlan 7",
        "reject reset billing",
    ),
    (
        "--source 203.0.113.10 --port 443 --vlan 1,2,3,4",
        "respond syn_ack petstore",
    ),
    (
        "--source 203.0.113.10 --port 443 --vlan 1,2,3,4,5",
        "drop unresolved -",
    ),
];

#[test]
fn one_file_serves_two_apis_on_two_interfaces_in_every_mode() {
    let host = Host::new("cfg-modes");
    host.write("body.html", "<h1>no</h1>");
    for mode in ["native", "tc", "generic"] {
        let path = host.write("ipfilter.json", &config(mode).to_string());
        host.fine(&["deploy", "--config", &path]);
        for (arguments, verdict) in VERDICTS {
            let told = host.probe(&format!("{arguments} --interface eth0"));
            assert_eq!(told, format!("eth0 {verdict}"), "{mode}: {arguments}");
        }
        // The host takes in packets to its protected addresses by each of its interfaces.
        for (packet, verdict) in [
            ("203.0.113.10", "respond syn_ack petstore"),
            ("2001:db8:113::10", "respond syn_ack petstore"),
            (
                "2001:db8:113::10 --address 2001:db8::99",
                "pass other_address -",
            ),
        ] {
            let told = host.probe(&format!("--source {packet} --port 443 --interface eth1"));
            assert_eq!(told, format!("eth1 {verdict}"), "{mode}: {packet}");
        }
    }
    host.fine(&["detach"]);
    let (exit, _, err) = host.run(&["probe", "--source", "192.0.2.9", "--port", "443"]);
    assert_eq!(
        (exit, err.as_str()),
        (1, "error: nothing is deployed: every packet passes\n")
    );
}

#[test]
fn a_reload_reads_the_file_anew_and_keeps_the_old_plan_if_it_is_bad() {
    let host = Host::new("cfg-reload");
    host.write("body.html", "<h1>no</h1>");
    let path = host.write("ipfilter.json", &config("auto").to_string());
    let mut command = host.command(&host.instance, &["run", "--config", &path]);
    let daemon = host
        .namespace
        .spawn(command.stderr(Stdio::null()))
        .expect("a daemon");
    let denied = "--source 203.0.113.10 --port 443";
    host.await_probe(denied, "eth0 respond syn_ack petstore");

    let mut changed = config("auto");
    changed["interfaces"] = json!(["eth1"]);
    changed["apis"] = json!([{"name": "shop", "ports": [443], "policy": "allow-list.json"}]);
    host.write("ipfilter.json", &changed.to_string());
    daemon.signal(Signal::HUP).expect("a signal");
    host.await_probe(denied, "eth1 drop denied shop");

    host.write(
        "ipfilter.json",
        "{\n  \"interfaces\": [\"eth0\"],\n  \"apis\": 7\n}",
    );
    daemon.signal(Signal::HUP).expect("a signal");
    let begin = Instant::now();
    let told = loop {
        let status: Value =
            serde_json::from_str(&host.fine(&["status", "--format", "json"])).expect("JSON");
        if status["last_reload"]["outcome"] == "failed" {
            break status["last_reload"]["message"].to_string();
        }
        assert!(begin.elapsed() < PATIENCE, "the reload never failed");
        sleep(Duration::from_millis(20));
    };
    assert!(
        told.contains("ipfilter.json:3:11: expected a list of at least one API"),
        "{told}"
    );
    assert_eq!(host.probe(denied), "eth1 drop denied shop");
    let (exit, _, err) = host.run(&["reload"]);
    assert!(
        exit == 2 && err.starts_with("error: /") && err.contains("ipfilter.json:3:11: expected"),
        "{exit} {err}"
    );
    assert!(daemon.stop(PATIENCE).expect("it ends").success());
}

#[test]
fn a_foreign_program_is_named_and_left_alone() {
    let host = Host::new("cfg-other");
    let policy = host.folder.join("allow-list.json");
    let policy = policy.to_str().expect("UTF-8");
    let common = ["--port", "443", "--policy", policy, "--interface", "eth0"];
    let with = |first: &[&'static str]| [first, &common].concat();
    host.fine(&with(&["deploy", "--mode", "native"]));
    let other = format!("{}-b", host.instance);
    let run =
        |arguments: &[&str]| result(&host.command(&other, arguments).output().expect("it runs"));
    for mode in ["native", "generic"] {
        let (exit, _, err) = run(&with(&["deploy", "--mode", mode]));
        let named = "`ipfilter_frags` (program ";
        assert!(
            exit == 1 && err.contains(named) && err.contains("left alone"),
            "{exit} {err}"
        );
    }
    let (exit, _, err) = run(&with(&["deploy"]));
    assert!(
        exit == 0 && err.contains("`ipfilter_frags` (program ") && err.contains("(tcx)"),
        "{err}"
    );
    let (exit, _, err) = run(&["detach"]);
    assert_eq!(exit, 0, "{err}");
    assert_eq!(
        host.probe("--source 203.0.113.10 --port 443"),
        "eth0 drop denied api"
    );
}

#[test]
fn options_say_the_same_as_a_file_and_are_refused_with_one() {
    let host = Host::new("cfg-flags");
    let policy = host.folder.join("allow-list.json");
    let policy = policy.to_str().expect("UTF-8");
    let common = ["deploy", "--policy", policy];
    let with = |more: &str| {
        let words: Vec<_> = common.into_iter().chain(more.split(' ')).collect();
        host.run(&words)
    };
    let (exit, _, err) = with(
        "--interface eth* --port 443,50000 --udp --address 192.0.2.2 --deny reject --reject-rate 0",
    );
    assert_eq!(exit, 0, "{err}");
    assert!(
        err.contains("port 50000 of the API `api` is among those"),
        "{err}"
    );
    let source = "--source 203.0.113.10 --port 443 --interface eth0";
    assert_eq!(host.probe(source), "eth0 drop reject_limited api");
    assert_eq!(
        host.probe(&format!("{source} --protocol udp")),
        "eth0 drop reject_limited api"
    );
    let beside = "--source 203.0.113.10 --port 443 --interface eth1";
    assert_eq!(host.probe(beside), "eth1 drop reject_limited api");
    assert_eq!(
        host.probe(&format!("{beside} --address 192.0.2.99")),
        "eth1 pass other_address -"
    );
    for (more, outcome) in [
        (
            "--deny respond --respond-rate 0",
            "eth0 drop respond_limited api",
        ),
        ("--deny reject --monitor", "eth0 pass would_deny api"),
    ] {
        let (exit, _, err) = with(&format!("--interface eth0 --port 443 {more}"));
        assert_eq!(exit, 0, "{err}");
        assert_eq!(host.probe(source), outcome);
    }
    let long = host.write("long", &"x".repeat(1300));
    for (more, exit, message) in [
        (
            "--interface lo --port 443",
            5,
            "`lo` is not an Ethernet interface",
        ),
        (
            "--interface wlan* --port 443",
            1,
            "no interface `wlan*`: there are `eth0`, `eth1`",
        ),
        (
            "--interface eth0 --port 443 --config x",
            2,
            "cannot be used with",
        ),
        (
            "--interface eth0 --port 443 --respond-type a/b",
            2,
            "--respond-body",
        ),
    ] {
        let (code, _, err) = with(more);
        assert!(
            code == exit && err.contains(message),
            "{more}: {code} {err}"
        );
    }
    for (deny, message) in [
        ("respond", "the body has 1300 bytes"),
        ("drop", "`--respond-body`: only `respond` sends a body"),
    ] {
        let more = format!("--interface eth0 --port 443 --deny {deny} --respond-body {long}");
        let (code, _, err) = with(&more);
        assert!(code == 2 && err.contains(message), "{more}: {code} {err}");
    }
    let (exit, _, err) = host.run(&["deploy", "--config", "/nowhere/ipfilter.json"]);
    assert!(
        exit == 2 && err.contains("can't read the configuration"),
        "{exit} {err}"
    );
}
