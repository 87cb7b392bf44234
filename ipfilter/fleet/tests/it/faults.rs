//! What happens to etcd, to what is kept in it, and to hosts. Enforcement changes only by what was published.

use std::fs;

use testkit::process::output;

use crate::{group::Group, host::Host};

const OURS: &str = "198.51.100.0/24";
const THEIRS: &str = "203.0.113.0/24";

/// A group on so many members, with two hosts that have generation 1 in force.
fn settled(tag: &str, members: usize) -> Group {
    let mut group = Group::new(tag, members);
    group.add("a");
    group.add("b");
    let (code, said) = group.publish(&[OURS], &[]);
    assert_eq!(code, Some(0), "{said}");
    reaches(&group, 1);
    group.gathered();
    group
}

fn reaches(group: &Group, generation: u64) {
    group.wait("it is in force", || {
        group
            .hosts
            .iter()
            .all(|it| it.generation() == Some(generation))
    });
}

#[test]
fn leaders_die_and_members_are_cut_off_while_it_goes_on() {
    let mut group = settled("leader", 3);
    let leader = group.etcd.leader().unwrap();
    group.etcd.kill(leader);
    let (code, said) = group.publish(&[THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}\n{}", group.logs());
    reaches(&group, 2);
    group.etcd.launch(leader).unwrap();
    group.etcd.ready().unwrap();

    // A member without the others does not let its watchers believe that nothing happens.
    let cut = group.etcd.leader().unwrap();
    group.members[cut].cut().unwrap();
    let (code, said) = group.publish(&[OURS], &[]);
    assert_eq!(code, Some(0), "{said}\n{}", group.logs());
    reaches(&group, 3);
    group.members[cut].join().unwrap();

    // One that stands still is like one that is gone.
    let paused = group.etcd.leader().unwrap();
    group.etcd.pause(paused, true).unwrap();
    let (code, said) = group.publish(&[THEIRS], &[]);
    group.etcd.pause(paused, false).unwrap();
    assert_eq!(code, Some(0), "{said}\n{}", group.logs());
    reaches(&group, 4);
}

#[test]
fn without_etcd_all_stays_and_what_was_missed_is_made_up_for() {
    let mut group = settled("away", 1);
    group.etcd.kill(0);
    group.wait("the agents notice", || {
        group
            .hosts
            .iter()
            .all(|it| it.said().contains("what is in force stays"))
    });
    let (code, said) = group.run(&["status"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("etcd can't be reached at"), "{said}");
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    assert!(group.hosts.iter().all(|it| it.generation() == Some(1)));

    // A host is away, and all that it last saw is compacted meanwhile.
    group.hosts[1].agent = None;
    group.etcd.launch(0).unwrap();
    group.etcd.ready().unwrap();
    group.wait("it is away", || group.host("b")["health"] == "away");
    for blocks in [&[THEIRS][..], &[OURS, THEIRS], &[THEIRS, "192.0.2.0/24"]] {
        let (code, said) = group.publish(blocks, &[]);
        assert_eq!(code, Some(0), "{said}");
    }
    let status = group
        .etcd
        .ctl(&["endpoint", "status", "-w", "json"])
        .unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let revision = status[0]["Status"]["header"]["revision"].to_string();
    group.etcd.ctl(&["compact", &revision]).unwrap();
    assert_eq!(group.status().0, Some(1));
    group.hosts[1].agent = Some(group.agent(&group.hosts[1], "b"));
    reaches(&group, 4);
    group.wait("all is well", || group.status().0 == Some(0));
}

#[test]
fn a_backup_of_etcd_takes_nobody_back() {
    let mut group = settled("backup", 1);
    let backup = group.folder.path().join("backup");
    group
        .etcd
        .ctl(&["snapshot", "save", &backup.display().to_string()])
        .unwrap();
    let (code, said) = group.publish(&[THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}");
    reaches(&group, 2);

    group.etcd.kill(0);
    let data = group.etcd.data(0);
    fs::remove_dir_all(&data).unwrap();
    let peer = format!("http://{}:2380", group.members[0].address);
    let mut restore = group.etcd.ctl_command(0).unwrap();
    restore
        .args([
            "snapshot",
            "restore",
            &backup.display().to_string(),
            "--name",
            "etcd0",
        ])
        .args([
            "--initial-cluster",
            &format!("etcd0={peer}"),
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster-token",
            "test",
            "--data-dir",
            &data.display().to_string(),
        ]);
    output(&mut restore).unwrap();
    group.etcd.launch(0).unwrap();
    group.etcd.ready().unwrap();

    group.wait("it is told", || {
        group
            .hosts
            .iter()
            .all(|it| it.said().contains("restored from an older backup"))
    });
    assert!(group.hosts.iter().all(|it| it.generation() == Some(2)));
    group.wait("it is shown", || {
        let (code, said) = group.run(&["status"]);
        code == Some(1) && said.contains("restored from an older backup")
    });
    // The next release is above all that hosts have.
    let (code, said) = group.publish(&[OURS, THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}");
    reaches(&group, 3);
}

#[test]
fn chunks_that_are_missing_or_damaged_change_nothing() {
    let group = settled("chunks", 1);
    let contents = "/ipfilter/web/contents/";
    let chunks = || {
        let keys = group
            .etcd
            .ctl(&["get", "--prefix", "--keys-only", contents])
            .unwrap();
        keys.lines()
            .filter(|key| key.ends_with("/0000"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = chunks();
    // Published, but nobody can have it.
    for host in &group.hosts {
        host.filter.lock().unwrap().refuses = Some("not yet".to_owned());
    }
    let (code, _) = group.publish(&[THEIRS], &["--no-wait"]);
    assert_eq!(code, Some(0));
    let chunk = chunks()
        .into_iter()
        .find(|key| !before.contains(key))
        .unwrap();
    group.wait("it is refused", || group.host("a")["health"] == "refused");
    for (damage, told) in [
        (
            vec!["put", chunk.as_str(), "nonsense"],
            "is damaged in etcd",
        ),
        (vec!["del", chunk.as_str()], "is incomplete in etcd"),
    ] {
        group.etcd.ctl(&damage).unwrap();
        let mut late = Host::new(&format!("late-{}", damage[0]), group.folder.path());
        late.agent = Some(group.agent(&late, "late"));
        group.wait("it is told", || late.said().contains(told));
        assert_eq!(late.generation(), None);
        group.wait("it is shown", || {
            let late = group.host("late");
            late["health"] == "failed" && late["problems"].to_string().contains(told)
        });
        late.agent = None;
        group.wait("it is gone", || group.host("late")["health"] == "away");
    }
    group.must(&["forget", "late"]);
    for host in &group.hosts {
        host.filter.lock().unwrap().refuses = None;
    }
    // Publishing it again makes it whole.
    let (code, said) = group.publish(&[OURS, THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = group.publish(&[THEIRS], &[]);
    assert_eq!(code, Some(0), "{said}");
    reaches(&group, 4);
}

#[test]
fn an_etcd_that_is_full_is_told_and_changes_nothing() {
    let options = testkit::etcd::Options {
        arguments: vec!["--quota-backend-bytes".to_owned(), "3000000".to_owned()],
        ..Default::default()
    };
    let mut group = Group::with("full", 1, options);
    group.add("a");
    let (code, said) = group.publish(&[OURS], &[]);
    assert_eq!(code, Some(0), "{said}");
    group.gathered();
    reaches(&group, 1);
    let filler = "x".repeat(100_000);
    let mut puts = 0;
    while group
        .etcd
        .ctl(&["put", &format!("/filler/{puts}"), &filler])
        .is_ok()
    {
        puts += 1;
        assert!(puts < 100, "it never is full");
    }
    let (code, said) = group.publish(&[THEIRS], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("etcd's database is full"), "{said}");
    assert_eq!(group.hosts[0].generation(), Some(1));
    assert_eq!(group.host("a")["in_force"]["generation"], 1);
}

#[test]
fn hosts_that_share_a_name_and_reports_that_can_not_be_true_are_told() {
    let group = settled("names", 1);
    // Another host, in a namespace of its own, by the name of the first.
    let twin = Host::new("twin", group.folder.path());
    let mut command = group.members[0]
        .namespace
        .command(env!("CARGO_BIN_EXE_ipfilter-fleet"));
    command
        .args(["agent", "--follow", &group.url(), "--name", "a", "--socket"])
        .arg(&twin.socket);
    let log = fs::File::create(&twin.log).unwrap();
    let agent =
        testkit::process::Guard::spawn(command.stderr(log).stdin(std::process::Stdio::null()))
            .unwrap();
    group.wait("two are told", || {
        group.host("a")["problems"]
            .to_string()
            .contains("2 hosts report by this name")
    });
    assert_eq!(group.status().0, Some(1));
    drop(agent);
    group.wait("one is left", || group.host("a")["health"] == "ok");

    // A report is only believed as far as it can be true.
    let report = group
        .etcd
        .ctl(&["get", "--print-value-only", "/ipfilter/web/hosts/a/last"])
        .unwrap();
    let mut lie: serde_json::Value = serde_json::from_str(&report).unwrap();
    lie["in_force"]["digest"] = "ab".repeat(32).into();
    lie["highest"] = (u64::MAX - 1).into();
    group
        .etcd
        .ctl(&["put", "/ipfilter/web/hosts/liar/1", &lie.to_string()])
        .unwrap();
    let liar = group.host("liar");
    assert_eq!(liar["health"], "doubtful", "{liar}");
    let problems = liar["problems"].to_string();
    assert!(
        problems.contains("it says that it is `a`") || problems.contains("says that it is `a`"),
        "{problems}"
    );
    assert!(
        problems.contains("which is not what was published"),
        "{problems}"
    );
    assert_eq!(group.status().0, Some(1));
    group
        .etcd
        .ctl(&["put", "/ipfilter/web/hosts/odd/1", "nonsense"])
        .unwrap();
    let (code, said) = group.run(&["status"]);
    assert!(
        code == Some(1) && said.contains("can't be understood"),
        "{said}"
    );
    group
        .etcd
        .ctl(&["del", "/ipfilter/web/hosts/odd/1"])
        .unwrap();
    // It does not drive generations up.
    let (_, said) = group.publish(&[THEIRS], &["--no-wait"]);
    assert!(said.contains("which is not believed"), "{said}");
    assert!(said.contains("published generation 2"), "{said}");
    reaches(&group, 2);
}
