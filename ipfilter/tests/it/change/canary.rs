//! Monitor mode, and policies that are enforced for a share of sources.

use std::net::IpAddr;

use ipfilter::{
    kernel::{Action, Count, Kind, Trial},
    plan::{Api, Deny, Plan, Protocols, Share},
};
use ipfilter_ebpf::abi::{Counter, Reason};
use serde_json::Value;

use super::{Folder, replay::pcap};
use crate::{
    frames::{Q, TCP, frame, syn, tagged},
    kernel::verdicts::equivalence::{api, blocks, load_one},
    lab::{BAD, GOOD, Lab, allow, statuses},
};

const PORTS: [u16; 2] = [80, 81];

/// Two APIs, each enforced for its share.
fn plan(shares: [&str; 2]) -> Plan {
    let names = ["first", "second"].into_iter().zip(PORTS).zip(shares);
    let apis = names.map(|((name, port), share)| Api {
        enforce: share.parse().expect("a share"),
        ..api(
            name,
            &port.to_string(),
            Protocols::TCP,
            Deny::Drop,
            blocks(&["198.51.100.0/24", "2001:db8:100::/48"]),
        )
    });
    Plan::new(apis.collect(), Vec::new()).expect("a plan")
}

/// Denied sources of both families.
fn sources() -> Vec<IpAddr> {
    let v4 = (0..200_u32).map(|number| IpAddr::from((0x0b00_0000 + 7919 * number).to_be_bytes()));
    let v6 = (0..200_u128)
        .map(|number| IpAddr::from(((0x2600_u128 << 112) + (number << 64) + 1).to_be_bytes()));
    v4.chain(v6).collect()
}

fn counted(trial: &Trial, api: u32, reason: Reason) -> Counter {
    let is = |count: &&Count| count.api == Some(api) && count.reason == reason;
    let counts = trial.counters().expect("counters");
    counts.iter().find(is).expect("a counter").total
}

#[test]
fn the_program_denies_the_sources_that_the_share_has() {
    let plan = plan(["0.3", "1"]);
    for kind in Kind::ALL {
        let trial = load_one(&plan, kind);
        let mut denied = [0_u64; 2];
        for source in sources() {
            for (index, port) in PORTS.into_iter().enumerate() {
                let enforces = plan.apis[index].enforces(source);
                denied[index] += u64::from(enforces);
                for frame in [
                    frame(source, TCP, &syn(port)),
                    tagged(&[Q], source, TCP, &syn(port)),
                ] {
                    let (action, _) = trial.run(&frame).expect("it runs");
                    let wanted = if enforces { Action::Drop } else { Action::Pass };
                    assert_eq!(action, wanted, "{kind:?}: {source} at port {port}");
                }
            }
        }
        assert!((80..160).contains(&denied[0]), "{}", denied[0]);
        assert_eq!(denied[1], 400);
        let would = counted(&trial, 0, Reason::WouldDeny).packets;
        assert_eq!(counted(&trial, 0, Reason::Denied).packets, 2 * denied[0]);
        assert_eq!(would, 2 * (400 - denied[0]));
        let allowed = "198.51.100.7".parse().expect("an address");
        let (action, _) = trial.run(&frame(allowed, TCP, &syn(80))).expect("it runs");
        assert_eq!(action, Action::Pass);
    }
}

#[test]
fn a_larger_share_has_the_smaller_one_wherever_the_api_is() {
    let (small, large) = (plan(["0.05", "0.05"]), plan(["0.2", "0.05"]));
    let apis = small.apis.iter().rev().cloned().collect();
    let turned = Plan::new(apis, Vec::new()).expect("a plan");
    let mut differ = false;
    for source in sources() {
        let has = |plan: &Plan, api: usize| plan.apis[api].enforces(source);
        assert!(!has(&small, 0) || has(&large, 0), "{source}");
        assert_eq!(has(&small, 0), has(&turned, 1), "{source}");
        differ |= has(&small, 0) != has(&small, 1);
    }
    assert!(differ, "each API has sources of its own");
}

/// The same packets to a program that enforces, and to one that monitors.
#[test]
fn what_is_monitored_is_what_would_be_dropped() {
    let [enforced, monitored] = [plan(["1", "1"]), plan(["0", "0"])];
    for kind in Kind::ALL {
        let [enforced, monitored] = [&enforced, &monitored].map(|plan| load_one(plan, kind));
        let mut packets = sources();
        packets.extend(
            ["198.51.100.7", "2001:db8:100::7"].map(|it| it.parse::<IpAddr>().expect("an address")),
        );
        for (number, source) in packets.into_iter().enumerate() {
            for port in [80, 81, 82] {
                let tags = vec![Q; number % 3];
                let frame = tagged(&tags, source, TCP, &syn(port));
                enforced.run(&frame).expect("it runs");
                let (action, _) = monitored.run(&frame).expect("it runs");
                assert_eq!(action, Action::Pass, "{kind:?}: {source}");
            }
        }
        for api in [0, 1] {
            let dropped = counted(&enforced, api, Reason::Denied);
            assert_eq!(
                counted(&monitored, api, Reason::WouldDeny),
                dropped,
                "{kind:?}"
            );
            assert_eq!(dropped.packets, 400);
            let allowed = [&enforced, &monitored].map(|trial| counted(trial, api, Reason::Allowed));
            assert_eq!(allowed[0], allowed[1], "{kind:?}");
        }
    }
}

#[test]
fn replay_agrees_with_the_program_about_a_share() {
    testkit::need_root("running programs in the kernel").expect("root");
    let folder = Folder::new();
    folder.write("policy.json", super::allow(&["198.51.100.0/24"]));
    folder.write(
        "ipfilter.json",
        r#"{"interfaces": ["eth0"], "apis": [{"name": "first", "ports": [80], "policy": "policy.json",
            "enforce": 0.3}]}"#,
    );
    let frames: Vec<_> = sources()
        .into_iter()
        .map(|source| frame(source, TCP, &syn(80)))
        .collect();
    folder.write("x.pcap", pcap(&frames));
    let report = folder.json(
        &["replay", "x.pcap", "--config", "ipfilter.json", "--kernel"],
        0,
    );
    assert_eq!(report["kernel"]["different"], 0);
    let reason = |wanted: &str| {
        let apis = report["apis"].as_array().expect("a list");
        let found = apis.iter().find(|api| api["reason"] == wanted);
        found.map_or(0, |api| api["count"].as_u64().expect("a number"))
    };
    let plan = plan(["0.3", "1"]);
    let denied = sources()
        .into_iter()
        .filter(|source| plan.apis[0].enforces(*source));
    let denied = denied.count() as u64;
    assert_eq!(
        (reason("denied"), reason("would_deny")),
        (denied, 400 - denied)
    );
}

fn config(lab: &Lab, more: &str) -> String {
    lab.write(
        "ipfilter.json",
        format!(
            r#"{{"interfaces": ["eth0"], "apis": [{{"name": "first", "ports": [80], {more}
                "policy": "policy.json"}}]}}"#
        ),
    )
}

/// From monitor mode by way of a share to all sources: each step is a reload, and everyone says where it is.
#[test]
fn the_way_from_monitor_to_enforce_is_said_everywhere() {
    let lab = Lab::new("canary");
    lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(
        &["run", "--config", &config(&lab, r#""monitor": true,"#)],
        &[],
    );
    let explained = |source: &str| {
        let (code, said) = lab.tell(&["explain", "--live", "--format", "text", "--source", source]);
        assert_eq!(code, Some(0), "{said}");
        said
    };
    assert_eq!(statuses(&lab), ["200"; 4]);
    assert!(explained("203.0.113.9").contains("does not deny this source"));
    let share: Share = "0.5".parse().expect("a share");
    config(&lab, r#""enforce": 0.5,"#);
    lab.reload(&filter);
    assert!(
        lab.log("run")
            .contains("first: enforced for 50 % of sources only"),
        "{}",
        lab.log("run")
    );
    let status = lab.status();
    assert_eq!(status["apis"][0]["enforce"], Value::from(0.5));
    let (_, said) = lab.tell(&["status"]);
    assert!(said.contains("enforced for 50 % of sources only"), "{said}");
    let id = plan(["1", "1"]).apis[0].id();
    let blocks = BAD.map(|block| block.split('/').next().expect("an address").to_owned());
    for source in [&blocks[0], "203.0.113.77", "203.0.113.78", &blocks[1]] {
        let has = share.has(id, source.parse().expect("an address"));
        assert_eq!(
            explained(source).contains("does not deny this source"),
            !has,
            "{source}"
        );
    }
    config(&lab, "");
    lab.reload(&filter);
    assert!(
        lab.log("run")
            .contains("enforced for all sources, no longer for 50 % only")
    );
    assert!(!explained("203.0.113.9").contains("does not deny this source"));
    lab.detach(filter);
}
