//! What `status` answers: to a person on one screen, to programs as JSON, again and again.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use rustix::process::Signal;
use testkit::process::Guard;

use crate::lab::{GOOD, Lab, allow, wait_for};

fn done(lab: &Lab, arguments: &[&str]) -> String {
    let (code, said) = lab.tell(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

#[test]
fn an_operator_sees_on_one_screen_what_is_on_and_what_is_wrong() {
    let lab = Lab::new("status");
    let policy = lab.write("policy.json", allow(&["198.51.100.0/24", "203.0.113.7/32"]));
    let filter = lab.filter(&["--policy", &policy]);
    for _ in 0..6 {
        done(&lab, &["reload"]);
    }
    done(
        &lab,
        &["block", "192.0.2.7", "--for", "2h", "--reason", "scanning"],
    );
    done(&lab, &["overrides", "remove", "1"]);
    done(&lab, &["block", "192.0.2.9", "--for", "1h"]);
    done(&lab, &["allow", "192.0.2.32", "--for", "2h"]);
    let screen = done(&lab, &["status"]);
    println!("{screen}");
    assert!(screen.lines().count() < 24, "{screen}");
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    let pid = filter.id();
    for said in [
        &format!("instance    {}: filtering, kept current by", lab.instance)[..],
        &format!("process {pid}"),
        "\ninterface   eth0 (native)\n",
        "ports 80 for 258 IPv4 addresses in 3 networks, no IPv6; denied:",
        "\noverrides   1 block, 1 allow; the next ends ",
        "\nfiles       as deployed\n",
        "\nnext change ",
        "\ncounted     ",
        " override removed root ",
    ] {
        assert!(screen.contains(said), "{said}\n{screen}");
    }
    // What the files say otherwise, and a reload that fails.
    lab.write("policy.json", "{");
    let screen = done(&lab, &["status"]);
    assert!(screen.contains("policy.json has changed"), "{screen}");
    assert_eq!(lab.status()["files"][0]["state"], "changed");
    lab.tell(&["reload"]);
    let screen = done(&lab, &["status"]);
    println!("{screen}");
    let mut first = screen.lines().take(4);
    assert!(
        first.any(|line| line.starts_with("last reload failed")),
        "{screen}"
    );
    assert!(screen.lines().count() < 24, "{screen}");
    assert_eq!(lab.status()["problems"][0]["kind"], "reload");
    assert_eq!(lab.status()["state"], "filtering");
    // The whole: every override, every counter.
    let whole = done(&lab, &["status", "--all"]);
    assert!(
        whole.contains("\noverride    192.0.2.9 block, override 2"),
        "{whole}"
    );
    assert!(whole.contains(" reason "), "{whole}");
    let all = done(&lab, &["status", "--all", "--format", "json"]);
    let all: serde_json::Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(all["instances"][0]["instance"], lab.instance.as_str());
    lab.detach(filter);
    let (code, screen) = lab.tell(&["status"]);
    assert_eq!(code, Some(1), "{screen}");
    assert!(
        screen.contains("filters nothing") && screen.contains(" detached "),
        "{screen}"
    );
}

#[test]
fn overrides_that_can_not_be_read_are_a_problem_and_not_none() {
    let lab = Lab::new("damaged");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    done(&lab, &["block", "192.0.2.7", "--for", "2h"]);
    drop(filter);
    let file = lab
        .folder
        .join("state")
        .join(lab.key())
        .join("overrides.json");
    std::fs::write(&file, "damaged").expect("a file");
    let filter = lab.filter(&["--policy", &policy]);
    assert!(
        lab.log("run").contains("the overrides are lost"),
        "{}",
        lab.log("run")
    );
    let degraded = lab.status()["degraded"].to_string();
    assert!(degraded.contains("overrides"), "{degraded}");
    let screen = done(&lab, &["status"]);
    assert!(screen.contains("\ndegraded    "), "{screen}");
    // The next change writes them anew, and a reload that succeeds does not hide the loss before that.
    done(&lab, &["reload"]);
    assert!(lab.status()["degraded"].is_string());
    done(&lab, &["block", "192.0.2.7", "--for", "2h"]);
    assert_eq!(lab.status()["degraded"], serde_json::Value::Null);
    lab.detach(filter);
}

/// Without `--instance`, whatever there is on the host is listed.
#[test]
fn all_instances_that_can_be_seen_are_listed() {
    let lab = Lab::new("listed");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let list = |arguments: &[&str]| {
        let named = lab.ipfilter(arguments);
        let mut command = lab.network.host.command(env!("CARGO_BIN_EXE_ipfilter"));
        let arguments: Vec<_> = named.get_args().collect();
        let at = arguments
            .iter()
            .position(|one| *one == "--instance")
            .expect("it is named");
        command.args(&arguments[at + 2..]);
        for (name, value) in named.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        println!("{arguments:?}: {said}");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (code, listed) = list(&["status"]);
    println!("{listed}");
    assert_eq!(code, Some(0), "{listed}");
    let own = format!("{}: filtering at eth0 (native) for ", lab.instance);
    assert!(
        listed.lines().any(|line| line.starts_with(&own)),
        "{listed}"
    );
    // That of the router's namespace, too.
    let peer = format!("{}-peer: filtering at ", lab.instance);
    let mut lines = listed.lines();
    let peer = lines.find(|line| line.starts_with(&peer));
    assert!(peer.is_some_and(|peer| peer.contains(" for ")), "{listed}");
    let (code, listed) = list(&["status", "--format", "json"]);
    assert_eq!(code, Some(0), "{listed}");
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let instances = listed["instances"].as_array().expect("a list");
    assert!(
        instances
            .iter()
            .any(|one| one["instance"] == lab.instance.as_str() && one["state"] == "filtering"),
        "{listed}"
    );
    let (_, whole) = list(&["status", "--all"]);
    assert!(
        whole.contains(&format!("instance    {}: filtering", lab.instance)),
        "{whole}"
    );
    lab.detach(filter);
}

#[test]
fn watching_prints_again_and_ends_by_a_signal() {
    let lab = Lab::new("watching");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let path = lab.folder.join("watched");
    for (format, wanted) in [("text", "counted  "), ("json", "\"counters\"")] {
        let mut command =
            lab.ipfilter(&["status", "--watch", "--interval", "0.1", "--format", format]);
        command
            .stdout(File::create(&path).expect("a file"))
            .stderr(Stdio::inherit());
        let mut watching = Guard::spawn_group(&mut command).expect("it starts");
        let seen = || {
            let lines = BufReader::new(File::open(&path).expect("a file")).lines();
            lines
                .map_while(Result::ok)
                .filter(|line| line.contains(wanted))
                .count()
        };
        wait_for("the third screen", || seen() >= 3);
        watching.signal(Signal::INT).expect("it runs");
        let mut ended = None;
        wait_for("the end", || {
            ended = watching.ended().expect("it can be asked");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    }
    let rates = std::fs::read_to_string(&path).expect("a file");
    assert!(rates.contains("packets_per_second"), "{rates}");
    lab.detach(filter);
}
