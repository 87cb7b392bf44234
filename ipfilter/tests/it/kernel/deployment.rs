//! Deployments through the library, in a network and a BPF file system of their own: what the
//! process holds, interfaces that come and go, what others undo.

use std::{
    env, fs, iter,
    net::{IpAddr, UdpSocket},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::SystemTime,
};

use ipfilter::{
    addresses::AddressSet,
    instance::Instance,
    kernel::{Deployment, Filter, Hook, Interface, Matched, Mode, Monitor, Reader},
    plan::{Api, Deny, Plan, Protocols, Response},
};
use ipfilter_ebpf::abi::{self, Reason};

use testkit::process::Guard;

use crate::lab::{Ended, wait_for};

/// Set in the process that runs a test's body.
const INSIDE: &str = "IPFILTER_TEST_INSIDE";

/// Runs `body` in a process with its own network, mounts and BPF file system, which all end with it, and
/// which are the host's to it: it is the first process of its own.
fn alone(test: &str, body: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        // The machine's own is out of the way then, whatever a test does.
        while Command::new("umount")
            .arg("/sys/fs/bpf")
            .output()
            .expect("umount")
            .status
            .success()
        {}
        run("mount -t bpf bpf /sys/fs/bpf");
        return body();
    }
    testkit::need_root("this test, which makes namespaces and loads BPF programs,").expect("root");
    let (_, module) = module_path!()
        .split_once("::")
        .expect("a crate and a module");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(env::current_exe().expect("a test"))
        .args(["--exact", "--nocapture"])
        .arg(format!("{module}::{test}"))
        .env(INSIDE, "1")
        .output()
        .expect("unshare, which is needed here: apt-get install util-linux");
    let Output { status, stdout, .. } = &output;
    let said = String::from_utf8_lossy(stdout);
    assert!(
        status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs a command line of words without blanks, which must succeed.
fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    let output = command.args(words).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{line}`: {said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The pin of a map that deployments hand on.
fn map(name: &str) -> String {
    format!("{name}_v{}", abi::VERSION)
}

/// What deployments hand on.
fn maps() -> Vec<String> {
    let names = [
        "callers",
        "counters",
        "events",
        "interfaces",
        "keys",
        "log",
        "reports",
        "top_sources",
    ];
    names.map(map).to_vec()
}

const MODES: [Mode; 4] = [Mode::Native, Mode::Tc, Mode::Clsact, Mode::Generic];

fn instance() -> Instance {
    "test".parse().expect("a name")
}

/// A plan that lets in who comes from `source`.
fn plan(source: &str) -> Plan {
    let address: IpAddr = source.parse().expect("an address");
    let api = Api {
        name: "api".into(),
        ports: "80".parse().expect("a port"),
        protocols: Protocols::BOTH,
        deny: Deny::Drop,
        enforce: ipfilter::plan::Share::ALL,
        response: Response::default(),
        sources: AddressSet::from_networks([address.into()]),
    };
    Plan::new(vec![api], Vec::new()).expect("a plan")
}

fn matched(names: &[&str]) -> Matched {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    Interface::matching(&names, &[]).expect("interfaces")
}

fn all(names: &[&str]) -> Matched {
    matched(names).complete().expect("all of them")
}

fn veth(name: &str, peer: &str) {
    run(&format!("ip link add {name} type veth peer name {peer}"));
}

fn deploy(filter: &Filter, source: &str, names: &[&str], mode: Mode) -> Deployment {
    let deployed = filter.deploy(&plan(source), &all(names), mode, SystemTime::now());
    deployed.unwrap_or_else(|error| panic!("{error}"))
}

/// Where it stands and what with, as anyone can see it.
fn standing(filter: &Filter) -> Vec<(String, Hook, String)> {
    let found = filter.inspect().unwrap_or_else(|error| panic!("{error}"));
    let told = found.into_iter().map(|found| {
        let digest = found.config.expect("of this version").digest;
        (
            found.interface.name,
            found.hook,
            format!("{:02x?}", &digest[..4]),
        )
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

fn names(filter: &Filter) -> Vec<String> {
    standing(filter)
        .into_iter()
        .map(|(name, ..)| name)
        .collect()
}

fn pins() -> Vec<String> {
    let entries = fs::read_dir(instance().pins()).expect("pins");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<_> = names.map(|name| name.expect("UTF-8")).collect();
    names.sort();
    names
}

fn pin(name: &str) -> PathBuf {
    instance().pins().join(name)
}

#[test]
fn a_deployment_follows_interfaces() {
    alone("a_deployment_follows_interfaces", || {
        for mode in MODES {
            let filter = Filter::of(&instance());
            let mut deployment = deploy(&filter, "192.0.2.1", &[], mode);
            assert!(deployment.attached().is_empty());
            assert_eq!(pins(), maps());

            veth("in0", "out0");
            veth("in1", "out1");
            let followed = deployment.follow(&matched(&["in0", "in1"]));
            assert_eq!(followed.attached.len(), 2, "{followed:?}");
            assert!(followed.failed.is_empty(), "{followed:?}");
            assert_eq!(names(&filter), ["in0", "in1"]);
            let followed = deployment.follow(&matched(&["in1", "in0"]));
            assert!(followed.attached.is_empty(), "{followed:?}");

            // Deleted, and made again under the same name.
            run("ip link del in0");
            veth("in0", "out0");
            let followed = deployment.follow(&matched(&["in0", "in1"]));
            assert_eq!(followed.left.len(), 1, "{followed:?}");
            assert_eq!(followed.attached.len(), 1, "{followed:?}");
            assert_eq!(names(&filter), ["in0", "in1"]);

            run("ip link set in1 name in2");
            let followed = deployment.follow(&matched(&["in0", "in2"]));
            assert!(followed.attached.is_empty(), "{followed:?}");
            let told: Vec<_> = deployment.attached().iter().collect();
            assert!(told.iter().any(|it| it.interface.name == "in2"), "{told:?}");

            let followed = deployment.follow(&matched(&["in2"]));
            assert_eq!(followed.left[0].name, "in0");
            assert_eq!(names(&filter), ["in2"]);
            let links = usize::from(mode != Mode::Clsact);
            assert_eq!(pins().len(), maps().len() + links);
            filter.detach().expect("it comes off");
            run("ip link del in0");
            run("ip link del in2");
        }
    });
}

/// Another network namespace, in which low numbers of interfaces are taken.
struct Elsewhere(Guard);

impl Elsewhere {
    fn new() -> Self {
        let mut process = Command::new("unshare");
        process.args(["--net", "cat"]).stdin(Stdio::piped());
        let process = Guard::spawn(&mut process).expect("unshare");
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let id = process.id().to_string();
        wait_for("it is apart", || namespace(&id) != namespace("self"));
        let elsewhere = Self(process);
        for number in 0..8 {
            elsewhere.run(&format!("ip link add taken{number} type veth"));
        }
        elsewhere
    }

    fn run(&self, line: &str) {
        run(&format!("nsenter --target {} --net {line}", self.0.id()));
    }

    fn take(&self, interface: &str) {
        run(&format!("ip link set {interface} netns {}", self.0.id()));
    }

    fn give_back(&self, interface: &str) {
        self.run(&format!(
            "ip link set {interface} netns {}",
            std::process::id()
        ));
    }
}

/// An interface may leave between two looks, and come back under another number. Its filter stays on it, and is
/// of the plan in force.
#[test]
fn an_interface_that_moves_keeps_its_filter() {
    alone("an_interface_that_moves_keeps_its_filter", || {
        for mode in [Mode::Native, Mode::Tc, Mode::Generic] {
            let elsewhere = Elsewhere::new();
            let move_about = || {
                elsewhere.take("in0");
                elsewhere.give_back("in0");
            };
            veth("in0", "out0");
            let filter = Filter::of(&instance());
            let mut deployment = deploy(&filter, "192.0.2.1", &["in0"], mode);
            let follows = |deployment: &mut Deployment, matched: &Matched, shown| {
                let place = standing(&filter);
                assert_eq!(place.len(), 1, "{mode:?}, {shown}");
                let followed = deployment.follow(matched);
                assert!(
                    followed.attached.is_empty(),
                    "{mode:?}, {shown}: {followed:?}"
                );
                assert!(followed.left.is_empty(), "{mode:?}, {shown}: {followed:?}");
                assert_eq!(standing(&filter), place, "{mode:?}, {shown}");
            };

            let seen = matched(&["in0"]);
            move_about();
            follows(&mut deployment, &seen, "an old list");
            follows(&mut deployment, &matched(&["in0"]), "followed");
            assert_eq!(deployment.attached().len(), 1);
            move_about();
            let repaired = deployment.repair();
            assert!(repaired.done.is_empty(), "{repaired:?}");
            follows(&mut deployment, &matched(&["in0"]), "repaired");

            let before = standing(&filter);
            let prepared = filter
                .prepare(&plan("192.0.2.2"), mode, SystemTime::now())
                .expect("a plan");
            let seen = matched(&["in0"]);
            move_about();
            let mut deployment = prepared.deploy(&seen).expect("a deployment");
            assert_ne!(standing(&filter), before, "{mode:?}: the old plan");
            follows(
                &mut deployment,
                &matched(&["in0"]),
                "moved amid a deployment",
            );
            assert_eq!(deployment.attached().len(), 1);

            let before = standing(&filter);
            elsewhere.take("in0");
            let there = filter.deploy(
                &plan("192.0.2.3"),
                &matched(&["in0"]),
                mode,
                SystemTime::now(),
            );
            let mut deployment = there.expect("a deployment");
            elsewhere.give_back("in0");
            assert_ne!(standing(&filter), before, "{mode:?}: the old plan");
            follows(&mut deployment, &matched(&["in0"]), "deployed while away");
            assert_eq!(deployment.attached().len(), 1);

            filter.detach().expect("it comes off");
            run("ip link del in0");
        }
    });
}

/// What the interface has counted as denied, by its name.
fn denied(filter: &Filter, interface: &str) -> u64 {
    let counts = filter.counters(1).expect("counters").into_iter();
    let here = counts.filter(|count| count.interface.as_deref() == Some(interface));
    let denied = here.filter(|count| count.reason == Reason::Denied);
    denied.map(|count| count.total.packets).sum()
}

/// Sends datagrams to an API's port behind the other end of a pair whose own end has this address.
fn send(from: &str, to: &str, times: usize) {
    let socket = UdpSocket::bind((from, 5000)).expect("a socket");
    for _ in 0..times {
        socket.send_to(b"x", (to, 80)).expect("it is sent");
    }
}

/// A pair of which `peer` can send as 10.0.`number`.1 to 10.0.`number`.2.
fn wired(name: &str, peer: &str, number: u32) {
    veth(name, peer);
    for line in [
        format!("ip addr add 10.0.{number}.1/24 dev {peer}"),
        format!("ip link set {name} up"),
        format!("ip link set {peer} up"),
        format!("ip neigh add 10.0.{number}.2 lladdr ff:ff:ff:ff:ff:ff dev {peer}"),
    ] {
        run(&line);
    }
}

#[test]
fn interfaces_are_counted_apart_through_reloads_and_when_made_anew() {
    alone(
        "interfaces_are_counted_apart_through_reloads_and_when_made_anew",
        || {
            for mode in MODES {
                wired("in0", "out0", 0);
                wired("in1", "out1", 1);
                let filter = Filter::of(&instance());
                let names = ["in0", "in1"];
                let mut deployment = deploy(&filter, "192.0.2.1", &names, mode);
                let mut follower = filter.follow_denials(Reader::Anyone).expect("events");
                send("10.0.0.1", "10.0.0.2", 3);
                send("10.0.1.1", "10.0.1.2", 5);
                let wait = |in0, in1| {
                    let counted = || (denied(&filter, "in0"), denied(&filter, "in1"));
                    wait_for("all to be counted", || counted() == (in0, in1));
                };
                wait(3, 5);
                let told: Vec<_> = iter::from_fn(|| follower.next_denial()).collect();
                let mut numbers: Vec<_> = told.iter().map(|it| it.interface).collect();
                numbers.sort_unstable();
                let wanted = all(&names).interfaces.into_iter().zip([3, 5]);
                let wanted: Vec<_> = wanted.flat_map(|(it, n)| vec![it.index; n]).collect();
                assert_eq!(numbers, wanted, "{mode:?}");
                let source: IpAddr = "10.0.1.1".parse().expect("an address");
                let loudest = filter.top_sources(1).expect("sources");
                assert_eq!((loudest[0].source, loudest[0].packets), (source, 5));

                // Another deployment, and another process's.
                let second = deploy(&filter, "192.0.2.2", &names, mode);
                drop((second, deployment));
                deployment = deploy(&Filter::of(&instance()), "192.0.2.3", &names, mode);
                wait(3, 5);
                // Made anew, with another number.
                run("ip link del in0");
                wired("in0", "out0", 0);
                let followed = deployment.follow(&matched(&names));
                assert!(followed.failed.is_empty(), "{followed:?}");
                send("10.0.0.1", "10.0.0.2", 2);
                wait(5, 5);
                filter.detach().expect("it comes off");
                assert!(!follower.is_live());
                run("ip link del in0");
                run("ip link del in1");
            }
        },
    );
}

#[test]
fn one_interface_that_refuses_does_not_keep_the_others_from_it() {
    alone(
        "one_interface_that_refuses_does_not_keep_the_others_from_it",
        || {
            veth("in0", "out0");
            veth("in1", "out1");
            let other = Filter::of(&"other".parse().expect("a name"));
            let _foreign = deploy(&other, "192.0.2.9", &["in0"], Mode::Native);
            let filter = Filter::of(&instance());
            let mut deployment = deploy(&filter, "192.0.2.1", &[], Mode::Native);
            let followed = deployment.follow(&matched(&["in0", "in1"]));
            assert_eq!(followed.failed.len(), 1, "{followed:?}");
            let said = followed.failed[0].to_string();
            assert!(said.contains("can't attach to `in0`"), "{said}");
            assert_eq!(names(&filter), ["in1"]);

            // In a deployment, it does: all keep what they had.
            let before = standing(&filter);
            let failed = filter.deploy(
                &plan("192.0.2.2"),
                &all(&["in1", "in0"]),
                Mode::Native,
                SystemTime::now(),
            );
            assert!(failed.is_err());
            assert_eq!(standing(&filter), before);
        },
    );
}

#[test]
fn a_deployment_takes_over_from_the_one_before() {
    alone("a_deployment_takes_over_from_the_one_before", || {
        veth("in0", "out0");
        for mode in MODES {
            let filter = Filter::of(&instance());
            let first = deploy(&filter, "192.0.2.1", &["in0"], mode);
            let before = standing(&filter);
            // The daemon still holds the first, and someone has removed the pins.
            for pin in pins() {
                fs::remove_file(instance().pins().join(pin)).expect("a pin");
            }
            let second = deploy(&filter, "192.0.2.2", &["in0"], mode);
            let after = standing(&filter);
            assert_eq!(after.len(), 1, "{after:?}");
            assert_ne!(after, before);
            drop(first);
            assert_eq!(standing(&filter), after);
            // Only the pins are left, as of a process that died.
            drop(second);
            assert_eq!(standing(&filter), after);
            let other_process = Filter::of(&instance());
            let third = deploy(&other_process, "192.0.2.1", &["in0"], mode);
            assert_eq!(standing(&filter), before);
            assert_eq!(third.attached().len(), 1);
            let off = filter.detach().expect("it comes off");
            assert_eq!(off[0].name, "in0");
            // Held, but taken off all the same.
            assert!(!run("ip -details link show in0").contains("prog/xdp"));
            assert_eq!(run("tc filter show dev in0 ingress"), "");
            assert!(!run("tc qdisc show dev in0").contains("clsact"));
            assert!(!instance().pins().exists());
        }
    });
}

#[test]
fn who_looks_during_a_reload_sees_one_plan_or_the_other() {
    alone(
        "who_looks_during_a_reload_sees_one_plan_or_the_other",
        || {
            veth("in0", "out0");
            for mode in MODES {
                let filter = Filter::of(&instance());
                let first = deploy(&filter, "192.0.2.1", &["in0"], mode);
                let one = standing(&filter);
                let second = deploy(&filter, "192.0.2.2", &["in0"], mode);
                let other = standing(&filter);
                drop((first, second));
                // The network is the thread's own: what it spawns is in the same.
                let stop = AtomicBool::new(false);
                thread::scope(|scope| {
                    let _ended = Ended(&stop);
                    let looker = scope.spawn(|| {
                        let filter = Filter::of(&instance());
                        let mut looks = Vec::new();
                        while !stop.load(Ordering::Relaxed) {
                            looks.push(standing(&filter));
                        }
                        looks
                    });
                    for number in 0..8 {
                        let source = ["192.0.2.1", "192.0.2.2"][number % 2];
                        deploy(&filter, source, &["in0"], mode);
                    }
                    stop.store(true, Ordering::Relaxed);
                    let looks = looker.join().expect("it looks");
                    assert!(looks.len() > 8, "{}", looks.len());
                    for look in looks {
                        assert!(look == one || look == other, "{look:?}");
                    }
                });
                filter.detach().expect("it comes off");
            }
        },
    );
}

#[test]
fn what_others_undo_is_repaired() {
    alone("what_others_undo_is_repaired", || {
        veth("in0", "out0");
        for mode in MODES {
            let filter = Filter::of(&instance());
            let mut deployment = deploy(&filter, "192.0.2.1", &["in0"], mode);
            let (before, pinned) = (standing(&filter), pins());
            let mut repair = |what: &str, expected: &str| {
                let repaired = deployment.repair();
                assert!(repaired.failed.is_empty(), "{what}: {repaired:?}");
                let done = repaired.done.join("\n");
                assert!(done.contains(expected), "{what}: {done}");
                assert_eq!(standing(&filter), before, "{what}");
                assert_eq!(pins(), pinned, "{what}");
                assert!(deployment.repair().done.is_empty(), "{what}");
            };

            for pin in pins() {
                fs::remove_file(instance().pins().join(pin)).expect("a pin");
            }
            repair(
                "pins removed",
                if mode == Mode::Clsact {
                    "keys_"
                } else {
                    "link_"
                },
            );
            fs::remove_file(pin(&map("counters"))).expect("a pin");
            repair("counters removed", &map("counters"));
            run("umount /sys/fs/bpf");
            repair("unmounted", "mounted it again");
            // Someone mounted it again already.
            run("umount /sys/fs/bpf");
            run("mount -t bpf bpf /sys/fs/bpf");
            repair("unmounted and mounted", "pinned it again");
            Filter::of(&instance()).detach().expect("it comes off");
            repair("detached by force", "detached from `in0`");
            let other = Filter::of(&instance());
            drop(other.deploy(&plan("192.0.2.7"), &all(&["in0"]), mode, SystemTime::now()));
            repair("replaced", "was another");
            filter.detach().expect("it comes off");
        }
    });
}

/// Filters of others on the same interface are neither passed by nor touched, and the filter's place
/// is its own until it is taken off.
#[test]
fn clsact_is_shared_with_others() {
    alone("clsact_is_shared_with_others", || {
        let filter = Filter::of(&instance());
        let shown = || run("tc filter show dev in0 ingress");
        let has_qdisc = || run("tc qdisc show dev in0").contains("clsact");
        let theirs = "tc filter add dev in0 ingress protocol all prio 1 u32 match u32 0 0";
        veth("in0", "out0");

        // Theirs is there before.
        run("tc qdisc add dev in0 clsact");
        run(theirs);
        let before = shown();
        let first = deploy(&filter, "192.0.2.1", &["in0"], Mode::Clsact);
        assert_eq!(shown().matches("ipfilter:test ").count(), 1, "{}", shown());
        let second = deploy(&filter, "192.0.2.2", &["in0"], Mode::Clsact);
        assert_eq!(shown().matches("ipfilter:test ").count(), 1, "{}", shown());
        drop((first, second));
        filter.detach().expect("it comes off");
        assert_eq!(shown(), before);
        run("tc qdisc del dev in0 clsact");

        // Theirs comes after, and another instance too.
        let mut deployment = deploy(&filter, "192.0.2.1", &["in0"], Mode::Clsact);
        run(theirs);
        let other = Filter::of(&"test-2".parse().expect("a name"));
        let another = deploy(&other, "192.0.2.1", &["in0"], Mode::Clsact);
        assert_eq!(names(&filter), ["in0"]);
        assert_eq!(names(&other), ["in0"]);
        filter.detach().expect("it comes off");
        assert_eq!(names(&filter), [""; 0]);
        assert_eq!(names(&other), ["in0"]);
        assert!(deployment.repair().failed.is_empty());
        assert_eq!(names(&filter), ["in0"]);

        // Everything is gone, with the queueing discipline.
        run("tc qdisc del dev in0 clsact");
        let repaired = deployment.repair();
        assert_eq!(repaired.done.len(), 1, "{repaired:?}");
        assert_eq!(names(&filter), ["in0"]);
        drop(another);
        other.detach().expect("nothing to take off");
        filter.detach().expect("it comes off");
        assert!(!has_qdisc());
    });
}

#[test]
fn what_is_not_ours_is_left_alone_or_named() {
    alone("what_is_not_ours_is_left_alone_or_named", || {
        veth("in0", "out0");
        let filter = Filter::of(&instance());
        let deployment = deploy(&filter, "192.0.2.1", &["in0"], Mode::Native);
        // An older version's counters, and things of others.
        fs::hard_link(pin(&map("counters")), pin("counters_v1")).expect("a pin");
        fs::hard_link(pin(&map("counters")), pin("mine")).expect("a pin");
        let second = deploy(&filter, "192.0.2.2", &["in0"], Mode::Native);
        assert!(!pin("counters_v1").exists());
        assert!(pin("mine").exists());

        // A name of ours, but no link behind it.
        fs::hard_link(pin(&map("counters")), pin("link_99_native")).expect("a pin");
        let said = filter.inspect().expect_err("strange").to_string();
        assert!(said.contains("link_99_native"), "{said}");
        let failed = filter.deploy(
            &plan("192.0.2.3"),
            &all(&["in0"]),
            Mode::Native,
            SystemTime::now(),
        );
        let Err(error) = failed else {
            panic!("deployed beside something strange")
        };
        assert!(error.to_string().contains("link_99_native"), "{error}");
        fs::remove_file(pin("link_99_native")).expect("a pin");

        // Counters of another shape.
        drop((deployment, second));
        fs::rename(pin(&map("keys")), pin(&map("counters"))).expect("a pin");
        let failed = filter.deploy(
            &plan("192.0.2.3"),
            &all(&["in0"]),
            Mode::Native,
            SystemTime::now(),
        );
        let Err(error) = failed else {
            panic!("took strange counters over")
        };
        assert!(error.to_string().contains(&map("counters")), "{error}");
        filter.detach().expect("it comes off");
        assert_eq!(pins(), ["mine"]);
    });
}

#[test]
fn an_instance_of_the_same_name_in_another_network_namespace_is_named_and_left_alone() {
    alone(
        "an_instance_of_the_same_name_in_another_network_namespace_is_named_and_left_alone",
        || {
            veth("in0", "out0");
            let filter = Filter::of(&instance());
            let _deployment = deploy(&filter, "192.0.2.1", &["in0"], Mode::Native);
            let elsewhere = |command: &str| {
                let output = Command::new("unshare")
                    .args(["--net", env!("CARGO_BIN_EXE_ipfilter")])
                    .args(["--instance", "test", command])
                    .output();
                String::from_utf8(output.expect("unshare").stdout).expect("UTF-8")
            };
            let before = standing(&filter);
            for command in ["status", "detach"] {
                let told = elsewhere(command);
                assert!(told.contains("the host's network namespace"), "{told}");
                assert_eq!(standing(&filter), before, "{command}");
            }
        },
    );
}

#[test]
fn the_monitor_reports_interfaces_that_come_go_and_are_renamed() {
    alone(
        "the_monitor_reports_interfaces_that_come_go_and_are_renamed",
        || {
            let mut monitor = Monitor::new().expect("a monitor");
            let mut told = |line: &str| {
                run(line);
                monitor.drain().expect("messages")
            };
            assert!(!told("true"));
            assert!(told("ip link add in0 type veth peer name out0"));
            assert!(!told("ip link set in0 up"));
            assert!(!told("ip link set in0 mtu 1400"));
            assert!(told("ip addr add 192.0.2.1/32 dev in0"));
            assert!(told("ip addr del 192.0.2.1/32 dev in0"));
            assert!(told("ip link set out0 name in1"));
            assert!(told("ip link del in0"));
            assert!(!told("true"));
            // Under the same name again: another interface.
            assert!(told("ip link add in0 type veth peer name out0"));
            // More than the socket holds.
            let mut storm = String::new();
            for number in 0..2000 {
                storm += &format!("link set in0 mtu {}\n", 1000 + number % 400);
            }
            fs::write("/tmp/ipfilter-test-storm", storm).expect("a file");
            assert!(told("ip -batch /tmp/ipfilter-test-storm"));
            fs::remove_file("/tmp/ipfilter-test-storm").expect("a file");
            assert!(!told("true"));
            assert!(told("ip link del in0"));
        },
    );
}
