//! `verify`: tables that are what the policy says, and damaged ones.

use std::{thread, time::SystemTime};

use ipfilter::{
    addresses::{AddressSet, Intervals},
    kernel::{Filter, Interface, Mode},
    plan::{Api, Deny, Lookup, Plan, Protocols, Response, SourceMap},
};
use ipnet::IpNet;
use serde_json::{Value, json};

use crate::lab::{GOOD, Lab, allow, inside};

fn verify(lab: &Lab, exit: i32) -> Value {
    let output = lab.ipfilter(&["verify", "--format", "json"]).output();
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"))
}

/// The plan that the binary makes of `allow(&GOOD)`.
fn plan(lookup: Lookup) -> Plan {
    let networks = GOOD.map(|network| network.parse::<IpNet>().expect("a network"));
    let api = Api {
        name: "api".into(),
        ports: "80".parse().expect("a port"),
        protocols: Protocols::TCP,
        deny: Deny::Drop,
        enforce: ipfilter::plan::Share::ALL,
        response: Response::default(),
        sources: AddressSet::from_networks(networks),
    };
    let mut plan = Plan::new(vec![api], Vec::new()).expect("a plan");
    plan.lookup = lookup;
    plan
}

/// Puts a plan in the place of what the instance has deployed.
fn replace(lab: &Lab, plan: &Plan) {
    thread::scope(|scope| {
        let deployed = inside(scope, &lab.network.host, || {
            let filter = Filter::of(&lab.instance.parse().expect("a name"));
            let eth0 = Interface::matching(&["eth0".into()], &[]).expect("interfaces");
            let eth0 = eth0.complete().expect("an interface");
            filter
                .deploy(plan, &eth0, Mode::Native, SystemTime::now())
                .map(drop)
        });
        let deployed = deployed.join().expect("it deploys");
        deployed.unwrap_or_else(|error| panic!("{error}"));
    });
}

fn check(tag: &str, lookup: Lookup, name: &str) {
    let lab = Lab::empty(tag);
    let (code, said) = lab.tell(&["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing is deployed"), "{said}");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = [
        "deploy",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--mode",
        "native",
    ];
    let deploy = [&deploy[..], &["--lookup", name, "--policy", &policy]].concat();
    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(0), "{said}");

    let report = verify(&lab, 0);
    let own = plan(lookup);
    let digest = own.digest().to_string();
    assert_eq!(report["verdict"], "equal");
    assert_eq!(report["differences"], json!([]));
    assert_eq!(report["interfaces"][0]["name"], "eth0");
    assert_eq!(report["interfaces"][0]["digest"], digest);

    // An address of each family that the policy allows is missing, one that it denies is there.
    let mut damaged = own.clone();
    let v4 = vec![
        (0xc633_6400_u32, 0xc633_6406),
        (0xc633_6408, 0xc633_64ff),
        (7, 7),
    ];
    let first = 0x2001_0db8_0100_0000_u128 << 64;
    let v6 = vec![(first, first + 4), (first + 6, first | u128::MAX >> 48)];
    damaged.v4 = SourceMap::new(&[&Intervals::from_ranges(v4)]).expect("a map");
    damaged.v6 = SourceMap::new(&[&Intervals::from_ranges(v6)]).expect("a map");
    replace(&lab, &damaged);
    let report = verify(&lab, 1);
    assert_eq!(report["verdict"], "different");
    let found = |source: &str, policy: &str| {
        let table = if policy == "deny" { "allow" } else { "deny" };
        let wanted = json!({"interfaces": ["eth0"], "api": "api", "source": source,
            "what": null, "policy": policy, "table": table});
        let differences = report["differences"].as_array().expect("a list");
        assert!(differences.contains(&wanted), "{report:#}");
    };
    found("0.0.0.7/32", "deny");
    found("198.51.100.7/32", "allow");
    found("2001:db8:100::5/128", "allow");
    assert_eq!(
        report["differences"].as_array().map(Vec::len),
        Some(3),
        "{report:#}"
    );
    let (code, said) = lab.tell(&["verify"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("eth0: api 198.51.100.7/32: policy: allow, kernel: deny"),
        "{said}"
    );

    // Another plan altogether.
    let mut other = own.apis;
    other[0].deny = Deny::Reject;
    replace(&lab, &Plan::new(other, Vec::new()).expect("a plan"));
    let report = verify(&lab, 1);
    assert_eq!(report["differences"][0]["what"], "plan");

    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(verify(&lab, 0)["verdict"], "equal");
    let (code, said) = lab.tell(&["block", "198.51.100.9", "--forever"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(verify(&lab, 0)["verdict"], "equal");
    drop(lab.ipfilter(&["detach"]).output().expect("it starts"));
}

#[test]
fn interval_tables_are_verified_and_damage_is_named() {
    check("verify", Lookup::Intervals, "intervals");
}

#[test]
fn tries_are_verified_and_damage_is_named() {
    check("verify-trie", Lookup::Trie, "trie");
}
