use std::net::IpAddr;

use super::*;
use ipfilter_addresses::AddressSet;

fn sources(networks: &[&str]) -> AddressSet {
    AddressSet::from_networks(networks.iter().map(|network| network.parse().unwrap()))
}

fn api(name: &str, ports: &str, networks: &[&str]) -> Api {
    Api {
        enforce: Share::ALL,
        response: Response::default(),
        name: name.to_owned(),
        ports: ports.parse().unwrap(),
        protocols: Protocols::TCP,
        deny: Deny::Drop,
        sources: sources(networks),
    }
}

fn plan(apis: &[Api]) -> Plan {
    Plan::new(apis.to_vec(), Vec::new()).unwrap()
}

fn two() -> [Api; 2] {
    [
        api("petstore", "443,8000-8010", &["192.0.2.0/24"]),
        api("billing", "8443", &["192.0.2.128/25", "2001:db8::/32"]),
    ]
}

#[test]
fn sources_and_ports_name_the_same_apis() {
    let mut apis = two();
    apis[1].protocols = Protocols::BOTH;
    let plan = plan(&apis);
    assert_eq!(plan.v4.at(0xc000_0201).bits(), 0b01);
    assert_eq!(plan.v4.at(0xc000_02ff).bits(), 0b11);
    assert_eq!(plan.v6.at(0x2001_0db8 << 96).bits(), 0b10);
    let ports = plan.port_table();
    assert_eq!(ports.api(Protocol::Tcp, 443), Some(0));
    assert_eq!(ports.api(Protocol::Tcp, 8010), Some(0));
    assert_eq!(ports.api(Protocol::Tcp, 8011), None);
    assert_eq!(ports.api(Protocol::Udp, 443), None);
    assert_eq!(ports.api(Protocol::Udp, 8443), Some(1));
    assert_eq!(ports.tcp.iter().filter(|number| **number == 1).count(), 12);
}

#[test]
fn apis_that_are_no_plan_are_refused() {
    let mut silent = two();
    silent[1].protocols = Protocols {
        tcp: false,
        udp: false,
    };
    let many = (1..=65).map(|i| api(&format!("api{i}"), &i.to_string(), &[]));
    for (apis, message) in [
        (vec![], "no API to protect: name at least one"),
        (
            many.collect(),
            "65 APIs in one deployment, but 64 fit: split them over several instances",
        ),
        (
            vec![api("a", "1", &[]), api("a", "2", &[])],
            "two APIs are called `a`: name them differently",
        ),
        (
            silent.to_vec(),
            "the API `billing` has no protocol: give it `tcp`, `udp` or both",
        ),
        (
            vec![api("a", "1,443", &[]), api("b", "400-500,80", &[])],
            "TCP port 443 is claimed by the API `a` and by `b`: one port can be one API's only",
        ),
    ] {
        let error = Plan::new(apis, Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn one_port_may_be_two_apis_for_two_protocols() {
    let mut apis = [api("a", "443", &[]), api("b", "443", &[])];
    apis[1].protocols = Protocols {
        tcp: false,
        udp: true,
    };
    let ports = plan(&apis).port_table();
    assert_eq!(ports.api(Protocol::Tcp, 443), Some(0));
    assert_eq!(ports.api(Protocol::Udp, 443), Some(1));
}

#[test]
fn the_digest_tells_every_part_and_nothing_else() {
    let base = plan(&two());
    let digest = base.digest();
    assert_eq!(digest.to_string().len(), 64);
    assert_eq!(digest.short(), digest.to_string()[..12]);
    assert_eq!(plan(&two()).digest(), digest);

    let changes: [fn(&mut [Api; 2]); 7] = [
        |apis| apis[0].name.push('2'),
        |apis| apis[0].ports = "443".parse().unwrap(),
        |apis| apis[0].protocols = Protocols::BOTH,
        |apis| apis[1].deny = Deny::Reject,
        |apis| apis[0].sources = sources(&["192.0.2.0/25"]),
        |apis| apis[1].sources.v6 = ipfilter_addresses::Intervals::empty(),
        |apis| apis.reverse(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut apis = two();
        change(&mut apis);
        assert_ne!(plan(&apis).digest(), digest, "change {i}");
    }

    let at = |addresses: &[&str]| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        Plan::new(two().to_vec(), addresses).unwrap().digest()
    };
    let one = at(&["192.0.2.1", "2001:db8::1"]);
    assert_ne!(one, digest);
    assert_eq!(at(&["2001:db8::1", "192.0.2.1", "192.0.2.1"]), one);
}

/// The encoding is an interface between releases: a digest in the state directory must still be
/// that of the same plan after an upgrade.
#[test]
fn the_digest_stays_what_it_was() {
    assert_eq!(plan(&two()).digest().short(), "656f5422de99");
}

#[test]
fn a_diff_says_what_changes() {
    let before = plan(&two());
    assert_eq!(before.diff(&before.clone()).to_string(), "nothing changes");

    let mut apis = two();
    apis[0].sources = sources(&["192.0.2.0/25", "198.51.100.0/24", "203.0.113.9/32"]);
    apis[0].ports = "443".parse().unwrap();
    apis[1].name = "invoices".to_owned();
    apis[1].deny = Deny::Respond;
    let after = plan(&apis);
    let diff = before.diff(&after);
    assert!(!diff.is_empty());
    assert_eq!(
        diff.to_string(),
        "petstore: 1 network loses access, 2 gain; 385 addresses; ports 443,8000-8010 become 443. \
         invoices: new, ports 8443; 128 IPv4 addresses in 1 network, 1 IPv6 network may call. \
         billing: gone, ports 8443 are open to everyone"
    );

    apis = two();
    apis.reverse();
    apis[0].protocols = Protocols::BOTH;
    apis[0].deny = Deny::Reject;
    let after = Plan::new(apis.to_vec(), vec!["192.0.2.1".parse().unwrap()]).unwrap();
    assert_eq!(
        before.diff(&after).to_string(),
        "billing: protocols TCP become TCP and UDP; deny action drop becomes reject. \
         other addresses. APIs in another order"
    );

    let mut apis = two();
    apis[0].enforce = Share::NONE;
    let mut after = plan(&apis);
    assert_eq!(
        before.diff(&after).to_string(),
        "petstore: monitored only, nothing is dropped"
    );
    after.reject_rate += 1;
    assert_eq!(
        after.diff(&before).to_string(),
        "petstore: enforced, no longer monitored only. other limits, logging or tables"
    );

    let mut apis = two();
    apis[0].enforce = "0.05".parse().unwrap();
    let after = plan(&apis);
    assert_ne!(after.digest(), before.digest());
    let changes = [before.diff(&after), after.diff(&before)].map(|diff| diff.to_string());
    let wanted = [
        "petstore: enforced for 5 % of sources only",
        "petstore: enforced for all sources, no longer for 5 % only",
    ];
    assert_eq!(changes, wanted);

    let first = before.first_diff().to_string();
    assert!(first.starts_with("petstore: new, ports 443,"), "{first}");

    let mut apis = two();
    apis[0].sources = AddressSet::all();
    let after = plan(&apis);
    let text = before.diff(&after).to_string();
    assert!(text.ends_with("; everyone may call"), "{text}");
    assert_eq!(
        before.diff(&after).apis[0].access.gained,
        apis[0].sources.difference(&two()[0].sources)
    );
}

#[test]
fn measures_count_what_the_tables_hold() {
    let plan = plan(&two());
    let measures = plan.measure();
    assert_eq!(measures.v4.prefixes, 2);
    assert_eq!(measures.v4.intervals, 2);
    assert_eq!(measures.v4.answers, 3);
    assert_eq!(measures.v4.entries, 2);
    assert_eq!(measures.v6.prefixes, 1);
    assert_eq!(measures.v6.entries, 1);
    let table = IntervalTable::new(&plan.v4).unwrap();
    assert_eq!(measures.v4.table, Ok(table.sizes()));
    let digest = plan.digest().short();
    assert_eq!(
        plan.summary().to_string(),
        format!("plan {digest}: 2 APIs, 3 IPv4 and 2 IPv6 boundaries")
    );
}
