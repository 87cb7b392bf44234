//! `diff`, against what the policies say of single addresses, and as scripts meet it.

use std::net::IpAddr;

use ipfilter::policy::{Decision, Options, Policy, Source, parse};
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Folder, allow};
use crate::generate;

fn has(networks: &Value, source: IpAddr) -> bool {
    let family = if source.is_ipv4() { "ipv4" } else { "ipv6" };
    let networks = networks[family].as_array().expect("a list");
    let mut networks = networks
        .iter()
        .map(|it| it.as_str().expect("text").parse::<IpNet>().expect("a CIDR"));
    networks.any(|network| network.contains(&source))
}

#[test]
fn networks_are_minimal_and_statements_are_named() {
    let folder = Folder::new();
    folder.write(
        "old.json",
        allow(&["192.0.2.0/25", "198.51.100.0/24", "2001:db8::/32"]),
    );
    folder.write("new.json", allow(&["192.0.2.0/24", "2001:db8::/32"]));
    let report = folder.json(&["diff", "old.json", "new.json"], 0);
    let api = &report["apis"][0];
    assert_eq!(api["name"], "api");
    assert_eq!(
        api["gained"],
        json!({"ipv4": ["192.0.2.128/25"], "ipv6": []})
    );
    assert_eq!(
        api["lost"],
        json!({"ipv4": ["198.51.100.0/24"], "ipv6": []})
    );
    assert_eq!(
        report["summary"],
        "api: 1 network loses access, 1 gains; 384 addresses"
    );

    let text = folder.text(&["diff", "--exit-code", "old.json", "new.json"], 6);
    assert_eq!(
        text,
        "api: 1 network loses access, 1 gains; 384 addresses\n  \
         - 198.51.100.0/24    Allow `Allowed` of the old policy\n  \
         + 192.0.2.128/25     Allow `Allowed` of the new policy\n"
    );
    let same = folder.text(&["diff", "--exit-code", "old.json", "old.json"], 0);
    assert_eq!(same, "nothing changes\n");
}

#[test]
fn what_changes_later_is_found() {
    let folder = Folder::new();
    let until = |time: &str| {
        let mut policy: Value = serde_json::from_str(&allow(&["192.0.2.0/24"])).unwrap();
        policy["Statement"][0]["Condition"]["DateLessThan"] = json!({"aws:CurrentTime": time});
        policy.to_string()
    };
    folder.write("old.json", until("2098-01-01T00:00:00Z"));
    folder.write("new.json", until("2099-01-01T00:00:00Z"));
    let now = [
        "diff",
        "--exit-code",
        "--at",
        "2030-01-01T00:00:00Z",
        "old.json",
        "new.json",
    ];
    folder.text(&now, 0);
    let report = folder.json(&["diff", "--exit-code", "old.json", "new.json"], 6);
    assert_eq!(report["apis"][0]["gained"]["ipv4"], json!(["192.0.2.0/24"]));
    let periods = report["periods"].as_array().expect("periods");
    assert_eq!(periods.len(), 3, "{periods:#?}");
    assert_eq!(periods[1]["from"], "2098-01-01T00:00:00Z");
    assert_eq!(periods[1]["until"], "2099-01-01T00:00:00Z");
    assert_eq!(periods[0]["apis"][0]["gained"]["ipv4"], json!([]));
}

#[test]
fn configurations_are_compared_api_by_api() {
    let folder = Folder::new();
    folder.write("a.json", allow(&["192.0.2.0/24"]));
    folder.write("b.json", allow(&["192.0.2.0/25"]));
    let api = |name: &str, port: u16, policy: &str| json!({"name": name, "ports": [port], "policy": policy});
    let config = |apis: Value| json!({"interfaces": ["eth0"], "apis": apis}).to_string();
    folder.write(
        "old.conf",
        config(json!([
            api("shop", 443, "a.json"),
            api("back", 444, "a.json")
        ])),
    );
    folder.write("new.conf", config(json!([api("shop", 443, "b.json")])));
    folder.write("one.conf", config(json!([api("shop", 443, "a.json")])));
    let report = folder.json(&["diff", "--exit-code", "old.conf", "new.conf"], 6);
    let names: Vec<_> = report["apis"]
        .as_array()
        .unwrap()
        .iter()
        .map(|api| &api["name"])
        .collect();
    assert_eq!(names, ["shop", "back"]);
    assert_eq!(report["apis"][0]["lost"]["ipv4"], json!(["192.0.2.128/25"]));
    // Ports that are no API's any more are open to everyone.
    assert!(has(
        &report["apis"][1]["gained"],
        "8.8.8.8".parse().unwrap()
    ));
    assert_eq!(
        report["apis"][1]["settings"],
        json!(["gone, ports 444 are open to everyone"])
    );
    // A policy takes the place of a configuration's only one.
    let report = folder.json(&["diff", "one.conf", "b.json"], 0);
    assert_eq!(report["apis"][0]["name"], "shop");
    assert_eq!(report["apis"][0]["settings"], json!([]));
    folder.text(&["diff", "old.conf", "b.json"], 2);
}

#[test]
fn what_can_not_be_compared_has_its_exit_code() {
    let folder = Folder::new();
    folder.write("good.json", allow(&["192.0.2.0/24"]));
    folder.write("bad.json", "{");
    let partial = allow(&["192.0.2.0/24"]).replace("execute-api:/*", "execute-api:/prod/GET/x");
    folder.write("partial.json", partial);
    folder.text(&["diff", "good.json"], 2);
    folder.text(&["diff", "good.json", "none.json"], 1);
    folder.text(&["diff", "good.json", "bad.json"], 3);
    folder.text(&["diff", "good.json", "partial.json"], 4);
    let arguments = [
        "diff",
        "--allow-partial",
        "--exit-code",
        "good.json",
        "partial.json",
    ];
    let report = folder.json(&arguments, 6);
    let api = &report["apis"][0];
    assert_eq!(api["gained"], json!({"ipv4": [], "ipv6": []}));
    assert_eq!(api["undecided"]["gained"]["ipv4"], json!(["192.0.2.0/24"]));
}

pub(super) fn read(policy: &Value) -> Policy {
    let options = Options {
        api_arn: Some(generate::API.parse().expect("an API's ARN")),
        ..Options::default()
    };
    let parsed = parse(&Source::new("policy", policy.to_string()), &options);
    parsed.policy.expect("a legal policy")
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 50, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn random_policies_differ_where_their_answers_do(
        old in generate::policy(),
        new in generate::policy(),
        time in proptest::sample::select(generate::times().collect::<Vec<_>>()),
    ) {
        let folder = Folder::new();
        folder.write("old.json", old.to_string());
        folder.write("new.json", new.to_string());
        let at = time.to_string();
        let report = folder.json(
            &["diff", "--allow-partial", "--api-arn", generate::API, "--at", &at, "old.json", "new.json"],
            0,
        );
        let api = &report["apis"][0];
        let (old, new) = (read(&old), read(&new));
        for source in generate::sources() {
            let [was, is] = [&old, &new].map(|policy| policy.explain(source, time).decision);
            let passes = |decision| decision != Decision::Deny;
            prop_assert_eq!(has(&api["gained"], source), !passes(was) && passes(is), "{}", source);
            prop_assert_eq!(has(&api["lost"], source), passes(was) && !passes(is), "{}", source);
            let opened = was == Decision::Allow && is == Decision::Depends;
            prop_assert_eq!(has(&api["undecided"]["gained"], source), opened, "{}", source);
            let causes = api["causes"].as_array().expect("a list");
            let explained = causes.iter().any(|cause| has(&cause["sources"], source));
            prop_assert_eq!(explained, passes(was) != passes(is), "{}", source);
        }
    }
}
