use std::{fmt::Write as _, slice};

use jiff::SignedDuration;

use super::*;
use crate::{
    kernel::{Count, Hook},
    plan::Share,
    state::Kind,
};

/// The status of an ordinary instance: one interface, two APIs, overrides, and a long history.
fn ordinary() -> Status {
    let now = Timestamp::now();
    let api = |name: &str, sources: &str| ApiStatus {
        name: name.into(),
        ports: "443".into(),
        policy: format!("/etc/ipfilter/{name}.json"),
        deny: "drop".into(),
        monitor: false,
        enforce: 1.0,
        share: Share::ALL,
        sources: sources.into(),
    };
    let entry = |kind, what: &str| EventStatus::new(Entry::now(kind, Requester::Clock, None, what));
    let rule = crate::overrides::Rule {
        effect: crate::overrides::Effect::Block,
        source: "203.0.113.7/32".parse().unwrap(),
        api: None,
        until: Some(now + SignedDuration::from_mins(61)),
        reason: Some("scanning".into()),
    };
    Status {
        instance: "default".into(),
        namespace: None,
        state: State::Filtering,
        problems: Vec::new(),
        pid: Some(4_194_304),
        digest: Some("0123456789abcdef".repeat(4)),
        since: Timestamp::from_second(now.as_second() - 200_000).ok(),
        interfaces: vec![InterfaceStatus {
            name: "enp1s0f0np0".into(),
            mode: Hook::Native.name(),
            digest: None,
        }],
        waiting: Vec::new(),
        apis: vec![
            api("petstore", "257 IPv4 addresses in 2 networks, no IPv6"),
            api(
                "partners",
                "everyone but 3 IPv4 networks (less than 0.01 %) and 1 IPv6 network (less than 0.01 %)",
            ),
        ],
        authorization: None,
        overrides: vec![
            Override {
                group: false,
                id: 7,
                since: now,
                rule
            };
            3
        ],
        files: vec![FileStatus {
            path: "/etc/ipfilter/petstore.json".into(),
            state: FileState::Changed.name(),
        }],
        check: None,
        trial: None,
        fleet: None,
        others: Vec::new(),
        other_namespaces: Vec::new(),
        degraded: None,
        next_boundary: Some(now + SignedDuration::from_hours(30)),
        overdue: false,
        last_reload: None,
        history: Vec::new(),
        events: vec![entry(Kind::OverrideAdded, &"a long description ".repeat(9)); 30],
        counters: Vec::new(),
        elsewhere: Vec::new(),
        strays: Vec::new(),
    }
}

fn assert_fits(status: &Status, size: Size) {
    let screen = status.screen(size);
    let lines: Vec<_> = screen.lines().collect();
    assert!(
        lines.len() < size.height,
        "{} lines:\n{screen}",
        lines.len()
    );
    for line in lines {
        assert!(line.chars().count() <= size.width, "{line}");
    }
}

#[test]
fn an_ordinary_instance_fits_on_a_screen_with_its_last_ten_events() {
    let status = ordinary();
    assert_fits(&status, Size::default());
    let screen = status.screen(Size::default());
    let mut events = String::new();
    for line in screen
        .lines()
        .filter(|line| line.contains("override added"))
    {
        let _ = writeln!(events, "{line}");
    }
    assert_eq!(events.lines().count(), 10, "{screen}");
    for said in [
        "instance    default: filtering, kept current by process 4194304\n",
        "api         petstore: ports 443 for 257 IPv4 addresses in 2 networks, no IPv6;\n",
        "overrides   3 blocks; the next ends ",
        "petstore.json has changed since the deployment:
",
        "plan 0123456789ab\n",
    ] {
        assert!(screen.contains(said), "{said}\n{screen}");
    }
    assert!(
        status
            .whole(Size::default())
            .contains(&"0123456789abcdef".repeat(4))
    );
}

/// What is wrong comes first, and costs events at most.
#[test]
fn what_is_wrong_comes_first_and_the_screen_still_fits() {
    let mut status = ordinary();
    status.degraded = Some("policy.json:3:5: unknown operator `x`\n".repeat(9));
    status.digest = None;
    status.waiting = vec!["eth7".into(), "eth8".into()];
    status.overdue = true;
    status.problems = status.find_problems(&["the overrides: damaged".into()]);
    assert_fits(&status, Size::default());
    let screen = status.screen(Size::default());
    let second = screen.lines().nth(1).unwrap();
    assert!(
        second.starts_with("degraded    not what was asked for"),
        "{screen}"
    );
    for label in [
        "differs  ",
        "overdue  ",
        "waiting  ",
        "damaged  ",
        "interface ",
    ] {
        assert!(
            screen.lines().any(|line| line.starts_with(label)),
            "{label}\n{screen}"
        );
    }
    for api in &mut status.apis {
        api.monitor = true;
    }
    assert_eq!(State::of(&[], &status.apis), State::Off);
    let line = status.line(Size::default());
    assert!(
        line.chars().count() <= 80 && line.starts_with("default: filtering at enp1s0f0np0"),
        "{line}"
    );
}

#[test]
fn totals_are_over_all_interfaces() {
    let reason = ipfilter_ebpf::abi::Reason::ALL[0];
    let count = |interface: &str| Count {
        interface: Some(interface.into()),
        api: None,
        reason,
        total: Default::default(),
    };
    let counts = [count("eth0"), count("eth1")];
    let counted = Counted::default();
    let rows = counts.iter().map(|count| CounterStatus {
        packets: 600,
        ..CounterStatus::new(count, &counted, &[])
    });
    let rows: Vec<_> = rows.collect();
    let table = counters::table(&rows);
    assert_eq!(table.len(), 2, "{table:?}");
    assert!(table[1].contains(" 1200 "), "{table:?}");
    assert_eq!(counters::table(slice::from_ref(&rows[0])).len(), 2);
}
