//! From a configuration on one host to all hosts of a group.

use crate::{group::Group, host::Host};

const OURS: &str = "198.51.100.0/24";
const THEIRS: &str = "203.0.113.0/24";

#[test]
fn what_is_published_is_in_force_everywhere_and_can_be_taken_back() {
    let mut group = Group::new("publish", 1);
    for name in ["a", "b", "c"] {
        group.add(name);
    }
    let (code, said) = group.publish(&[OURS], &[]);
    // The hosts may not report yet; then it says so.
    assert_eq!(code, Some(0), "{said}");
    group.gathered();
    group.wait("it is in force", || {
        group.hosts.iter().all(|it| it.generation() == Some(1))
    });
    let enforced = group.hosts[0].filter.lock().unwrap().enforced.clone();
    assert!(String::from_utf8_lossy(enforced[0].file("policy.json").unwrap()).contains(OURS));

    let (code, said) = group.publish(&[OURS, THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("in force at all 3 hosts"), "{said}");
    // What changes is shown before.
    assert!(said.contains(THEIRS), "{said}");
    let (code, status) = group.status();
    assert_eq!(
        (code, &status["converged"]),
        (Some(0), &true.into()),
        "{status}"
    );
    assert_eq!(status["hosts"][2]["in_force"]["generation"], 2, "{status}");

    let (code, said) = group.publish(&[OURS, THEIRS], &[]);
    assert_eq!(code, Some(0));
    assert!(said.contains("nothing is published"), "{said}");

    let said = group.must(&["rollback", "--yes"]);
    assert!(said.contains("the bundle of generation 1"), "{said}");
    let host = &group.hosts[1];
    assert_eq!(host.generation(), Some(3));
    let filter = host.filter.lock().unwrap();
    assert_eq!(filter.enforced[2], filter.enforced[0]);
    drop(filter);
    let history = group.must(&["history"]);
    assert_eq!(history.lines().count(), 4, "{history}");
    assert!(
        history.contains("back to the bundle of generation 1"),
        "{history}"
    );
}

#[test]
fn one_of_two_publishers_wins_and_the_other_is_told() {
    let group = Group::new("race", 1);
    group.publish(&[OURS], &["--no-wait"]);
    let (config, other) = (group.config(&[THEIRS]), tempfile::tempdir().unwrap());
    let other = crate::group::config(other.path(), &[OURS, THEIRS]);
    let run = |config: &std::path::Path| {
        let path = config.display().to_string();
        group.run(&["publish", "--yes", "--no-wait", "--config", &path])
    };
    let ended = std::thread::scope(|scope| {
        let others: Vec<_> = [&config, &other, &config, &other]
            .map(|config| scope.spawn(|| run(config)))
            .into();
        others
            .into_iter()
            .map(|it| it.join().unwrap())
            .collect::<Vec<_>>()
    });
    let well = ended.iter().filter(|(code, _)| *code == Some(0)).count();
    assert!(well >= 1, "{ended:?}");
    for (code, said) in &ended {
        assert!(
            *code == Some(0) || said.contains("somebody else has changed group"),
            "{said}"
        );
    }
    // No generation was given twice.
    let history = group.must(&["history", "--format", "json"]);
    let history: serde_json::Value = serde_json::from_str(&history).unwrap();
    let generations: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["release"]["generation"].as_u64())
        .collect();
    let expected: Vec<_> = (1..=generations.len() as u64).map(Some).collect();
    assert_eq!(generations, expected);
}

#[test]
fn a_release_that_a_host_refuses_stops_at_it() {
    let mut group = Group::new("canary", 1);
    for name in ["a", "b", "c"] {
        group.add(name);
    }
    let counts = |host: &Host, denied| {
        let mut filter = host.filter.lock().unwrap();
        filter.state.packets.allowed += 1000;
        filter.state.packets.denied += denied;
    };
    counts(&group.hosts[1], 10);
    group.publish(&[OURS], &[]);
    group.gathered();
    group.wait("it is in force", || {
        group.hosts.iter().all(|it| it.generation() == Some(1))
    });
    group.hosts[0].filter.lock().unwrap().refuses = Some("interface `eth9` is not here".to_owned());
    let (code, said) = group.publish(&[OURS, THEIRS], &["--canary", "1", "--soak", "1s"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("`a` refused generation 2"), "{said}");
    assert!(said.contains("interface `eth9` is not here"), "{said}");
    assert!(
        said.contains("goes back to the bundle of generation 1"),
        "{said}"
    );
    for host in &group.hosts[1..] {
        let filter = host.filter.lock().unwrap();
        assert!(filter.enforced.iter().all(|it| *it == filter.enforced[0]));
    }
    group.hosts[0].filter.lock().unwrap().refuses = None;
    // It refused the release that brings the old bundle back, too, and has it in force all the same.
    let (code, said) = group.publish(&[OURS, THEIRS], &["--canary", "b", "--soak", "1s"]);
    assert_eq!(code, Some(0), "{said}\n{}", group.logs());
    let first = said.find("trying").unwrap();
    assert!(said[first..].contains("published generation 4"), "{said}");

    // One that is worse off than before is noticed while it soaks.
    let worse = std::thread::scope(|scope| {
        let publishing =
            scope.spawn(|| group.publish(&[THEIRS], &["--canary", "b", "--soak", "30s"]));
        while !publishing.is_finished() {
            let tries = group.hosts[1].generation().is_some_and(|it| it > 4);
            counts(&group.hosts[1], if tries { 5000 } else { 10 });
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        publishing.join().unwrap()
    });
    assert_eq!(worse.0, Some(1), "{}", worse.1);
    assert!(worse.1.contains("`b` denies"), "{}", worse.1);
    let silent = group.publish(&[THEIRS], &["--canary", "nobody"]);
    assert_eq!(silent.0, Some(1));
    assert!(
        silent.1.contains("`nobody` does not report"),
        "{}",
        silent.1
    );
}

#[test]
fn overrides_of_a_group_reach_every_host() {
    let mut group = Group::new("overrides", 1);
    for name in ["a", "b"] {
        group.add(name);
    }
    let (code, said) = group.run(&["block", "203.0.113.7", "--for", "1h"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("there is no group `web`"), "{said}");
    group.publish(&[OURS], &[]);
    group.must(&["block", "203.0.113.7", "--for", "1h", "--reason", "scans"]);
    group.must(&["allow", "203.0.113.8", "--for", "2h"]);
    let count = |index: usize| {
        group.hosts[index]
            .filter
            .lock()
            .unwrap()
            .overrides
            .overrides
            .len()
    };
    group.wait("they are there", || count(0) == 2 && count(1) == 2);
    let list = group.must(&["overrides"]);
    assert!(
        list.contains("scans") && list.contains("203.0.113.8"),
        "{list}"
    );
    group.must(&["overrides", "--remove", "203.0.113.7"]);
    group.wait("one is gone", || count(0) == 1 && count(1) == 1);
    assert_eq!(group.status().1["overrides"], 3);
}

#[test]
fn what_nothing_names_any_more_is_collected() {
    let mut group = Group::new("collect", 1);
    group.add("a");
    group.publish(&["10.0.0.0/8"], &[]);
    group.gathered();
    for index in 0..24 {
        let (code, said) = group.publish(&[&format!("198.51.{index}.0/24")], &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    let keys = group
        .etcd
        .ctl(&["get", "--prefix", "--keys-only", "/ipfilter/web/contents/"]);
    let bundles: std::collections::BTreeSet<_> = keys
        .unwrap()
        .lines()
        .filter_map(|it| it.split('/').nth(4).map(str::to_owned))
        .collect();
    assert!((20..=21).contains(&bundles.len()), "{bundles:?}");
    assert_eq!(group.must(&["history"]).lines().count(), 21);
}
