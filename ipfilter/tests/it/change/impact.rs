//! `diff --live`: which of the sources that called lately would lose access.

use std::net::IpAddr;

use ipfilter::{
    kernel::{Kind, Trial},
    plan::{CALLER_RATE, Deny, Plan, Protocols},
};
use serde_json::Value;

use crate::{
    frames::{TCP, frame, syn},
    kernel::verdicts::equivalence::{api, blocks, load_one},
    lab::{GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for},
};

fn diff(lab: &Lab, new: &str) -> Value {
    let (code, said) = lab.tell(&["diff", "--live", new, "--format", "json"]);
    assert_eq!(code, Some(0), "{said}");
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    report["impact"].clone()
}

#[test]
fn callers_that_would_lose_access_are_listed() {
    let lab = Lab::new("impact");
    let policy = lab.write("policy.json", allow(&GOOD));
    let config = |more: &str| {
        lab.write(
            "ipfilter.json",
            format!(
                r#"{{"interfaces": ["eth0"], {more}
                    "apis": [{{"name": "reports", "ports": [80], "policy": "policy.json"}}]}}"#
            ),
        )
    };
    let filter = lab.run(&["run", "--config", &config("")], &[]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    // IPv6 is left out.
    let new = lab.write("new.json", allow(&GOOD[..1]));
    let impact = diff(&lab, &new);
    assert_eq!(impact["seen"], 2, "{impact}");
    let [lost] = impact["lost"].as_array().expect("a list").as_slice() else {
        panic!("{impact}");
    };
    assert_eq!(lost["api"], "reports");
    assert!(
        lost["source"]
            .as_str()
            .expect("text")
            .starts_with("2001:db8:100:"),
        "{impact}"
    );
    assert!(lost["packets"].as_u64() >= Some(4), "{impact}");
    assert_eq!(diff(&lab, &policy)["lost"], serde_json::json!([]));
    let (_, said) = lab.tell(&["diff", "--live", &new]);
    assert!(
        said.contains("of the 2 sources that called lately, 1 loses access:"),
        "{said}"
    );
    // Who has lost access is not said to lose it again, though it is remembered still.
    lab.write("policy.json", allow(&GOOD[..1]));
    lab.reload(&filter);
    let nobody = lab.write("nobody.json", allow(&["192.0.2.77/32"]));
    let impact = diff(&lab, &nobody);
    let [lost] = impact["lost"].as_array().expect("a list").as_slice() else {
        panic!("{impact}");
    };
    assert!(
        lost["source"]
            .as_str()
            .expect("text")
            .starts_with("198.51.100."),
        "{impact}"
    );
    config(r#""allowed_sources": 0,"#);
    lab.reload(&filter);
    assert_eq!(diff(&lab, &nobody)["seen"], Value::Null);
    lab.detach(filter);
}

/// Two APIs, at ports 80 and 81.
fn plan(callers: u32) -> Plan {
    let sources = || blocks(&["198.51.100.0/24", "2001:db8:100::/48"]);
    let apis = vec![
        api("first", "80", Protocols::TCP, Deny::Drop, sources()),
        api("second", "81", Protocols::TCP, Deny::Drop, sources()),
    ];
    let mut plan = Plan::new(apis, Vec::new()).expect("a plan");
    plan.callers = callers;
    plan
}

/// What is remembered of a source at the API with this index.
fn packets(trial: &Trial, plan: &Plan, source: IpAddr, api: usize) -> u64 {
    let callers = trial.callers().expect("callers");
    let of = callers
        .iter()
        .find(|one| one.source == source && one.api == plan.apis[api].id());
    of.map_or(0, |one| one.packets)
}

#[test]
fn callers_are_counted_by_source_and_api() {
    let plan = plan(CALLER_RATE);
    let [four, six, denied]: [IpAddr; 3] = ["198.51.100.9", "2001:db8:100::9", "203.0.113.9"]
        .map(|text| text.parse().expect("an address"));
    for kind in Kind::ALL {
        let trial = load_one(&plan, kind);
        for (source, port, times) in [(four, 80, 7), (four, 81, 2), (six, 80, 3), (denied, 80, 5)] {
            for _ in 0..times {
                trial.run(&frame(source, TCP, &syn(port))).expect("it runs");
            }
        }
        let counted = [(four, 0), (four, 1), (six, 0), (six, 1), (denied, 0)]
            .map(|(source, api)| packets(&trial, &plan, source, api));
        assert_eq!(counted, [7, 2, 3, 0, 0], "{kind:?}");
    }
}

/// Beyond the rate a packet stands for all since the last one that was looked at, so that none is lost: with
/// one source, the sum is exact whenever one was looked at.
#[test]
fn what_a_sample_stands_for_adds_up() {
    let plan = plan(10);
    let trial = load_one(&plan, Kind::Xdp);
    let source: IpAddr = "198.51.100.9".parse().expect("an address");
    let frame = frame(source, TCP, &syn(80));
    let mut sent = 0;
    let mut send = || {
        trial.run(&frame).expect("it runs");
        sent += 1;
        sent
    };
    for _ in 0..5000 {
        send();
    }
    // On whichever CPU it was, each has its own count; those that have not been looked at are few.
    wait_for("packets are looked at", || {
        let sent = send();
        let counted = packets(&trial, &plan, source, 0);
        assert!(counted <= sent, "{counted} of {sent}");
        counted >= sent - sent / 10
    });
}

#[test]
fn nobody_is_remembered_where_that_is_switched_off() {
    let trial = load_one(&plan(0), Kind::Xdp);
    let source = "198.51.100.9".parse().expect("an address");
    for _ in 0..20 {
        trial.run(&frame(source, TCP, &syn(80))).expect("it runs");
    }
    assert_eq!(trial.callers().expect("callers"), []);
}
