//! `allow`, `block` and `overrides`, with and without a daemon, and what they refuse.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};
use serde_json::Value;

use crate::lab::{EVERYONE, GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses, wait_for};

/// What a command that must succeed prints.
fn done(lab: &Lab, arguments: &[&str]) -> String {
    let (code, said) = lab.tell(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    said
}

fn refused(lab: &Lab, arguments: &[&str], why: &str) {
    let (code, said) = lab.tell(arguments);
    assert_ne!(code, Some(0), "{arguments:?}: {said}");
    assert!(said.contains(why), "{arguments:?}: {said}");
}

fn listed(lab: &Lab) -> usize {
    let listed = done(lab, &["overrides", "--format", "json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    listed["overrides"].as_array().expect("a list").len()
}

#[test]
fn overrides_are_in_force_when_the_command_ends_and_until_their_time() {
    let lab = Lab::new("override");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    for block in ["203.0.113.0/24", "2001:db8:113::/48"] {
        done(
            &lab,
            &["allow", block, "--for", "1h", "--reason", "a visit"],
        );
    }
    assert_eq!(statuses(&lab), EVERYONE);
    assert_eq!(listed(&lab), 2);
    // One that is there already gets another end.
    let said = done(&lab, &["allow", "203.0.113.0/24", "--for", "2h"]);
    assert!(
        said.contains("override 1") && said.contains("(before: until "),
        "{said}"
    );
    done(
        &lab,
        &[
            "allow",
            "203.0.113.0/24",
            "--for",
            "1h",
            "--reason",
            "a visit",
        ],
    );
    assert_eq!(listed(&lab), 2);
    assert!(lab.status()["overrides"][0]["reason"] == "a visit");
    let (_, said) = lab.tell(&[
        "explain",
        "--live",
        "--source",
        "203.0.113.7",
        "--format",
        "text",
    ]);
    assert!(
        said.contains("allow, override 1") && said.contains("they agree"),
        "{said}"
    );
    // Through a restart that nobody announced.
    filter.signal(Signal::KILL).expect("it runs");
    drop(filter);
    let filter = lab.filter(&["--policy", &policy]);
    assert_eq!(statuses(&lab), EVERYONE);
    refused(
        &lab,
        &["allow", "203.0.113.0/33", "--for", "1h"],
        "neither an address",
    );
    done(&lab, &["block", "203.0.113.0/24", "--forever"]);
    assert_eq!(statuses(&lab), ["200", "200", "000", "200"]);
    refused(
        &lab,
        &["allow", "203.0.113.7", "--for", "1h"],
        "blocked by override 3",
    );
    done(&lab, &["overrides", "remove", "--block", "203.0.113.0/24"]);
    done(&lab, &["overrides", "remove", "1", "2"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    refused(
        &lab,
        &["overrides", "remove", "1"],
        "there is no override 1",
    );
    // In order, though nobody waits for the first.
    let said = done(
        &lab,
        &["block", "198.51.100.0/24", "--for", "1h", "--no-wait"],
    );
    assert!(said.contains("not in force yet"), "{said}");
    let wrong = [
        "allow",
        "203.0.113.7",
        "--for",
        "1h",
        "--api",
        "x",
        "--no-wait",
    ];
    done(&lab, &wrong);
    wait_for("the block", || {
        statuses(&lab) == ["000", "200", "000", "000"]
    });
    lab.wait_log("run", "an override is refused: no API `x`", 1);
    let lift = [
        "overrides",
        "remove",
        "--block",
        "198.51.100.0/24",
        "--no-wait",
        "--format",
        "json",
    ];
    assert_eq!(done(&lab, &lift).trim(), r#"{"accepted":true}"#);
    let said = done(&lab, &["overrides", "remove", "--reason", "a visit"]);
    assert!(said.contains("no override has this reason"), "{said}");
    assert_eq!(
        (listed(&lab), statuses(&lab)),
        (0, ONLY_GOOD.map(Into::into))
    );
    done(&lab, &["allow", "203.0.113.0/24", "--for", "5s"]);
    wait_for("the override ends", || listed(&lab) == 0);
    wait_for("the plan follows", || statuses(&lab) == ONLY_GOOD);
    lab.wait_log("run", "override ended", 1);
    lab.detach(filter);
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_is_changed() {
    let lab = Lab::new("no-override");
    let policy = lab.write("policy.json", allow(&GOOD));
    refused(
        &lab,
        &["block", "203.0.113.7", "--forever"],
        "nothing is deployed",
    );
    let filter = lab.filter(&["--policy", &policy]);
    for (arguments, why) in [
        (
            &["allow", "0.0.0.0/0", "--for", "1h"][..],
            "let everyone in",
        ),
        (&["block", "::/0", "--forever"], "deny everyone"),
        (&["block", "203.0.113.7"], "--forever"),
        (
            &["allow", "203.0.113.7", "--for", "forever"],
            "write `--forever`",
        ),
        (&["allow", "203.0.113.7", "--for", "0s"], "no time at all"),
        (
            &["allow", "203.0.113.7", "--for", "1y"],
            "longer than 31 days",
        ),
        (
            &["allow", "203.0.113.7", "--for", "1h", "--api", "x"],
            "no API `x`",
        ),
    ] {
        refused(&lab, arguments, why);
    }
    let mut own = lab.ipfilter(&["block", "203.0.113.0/24", "--forever"]);
    own.env("SSH_CONNECTION", "203.0.113.7 51234 192.0.2.1 22");
    let output = own.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("this session comes"),
        "{said}"
    );
    // A folder in the way of the file: as with a full disk, nothing can be written.
    let state = lab.folder.join("state").join(lab.key());
    fs::create_dir(state.join("overrides.new")).expect("a folder");
    refused(
        &lab,
        &["block", "198.51.100.0/24", "--forever"],
        "the overrides are not changed",
    );
    assert_eq!(
        (listed(&lab), statuses(&lab)),
        (0, ONLY_GOOD.map(Into::into))
    );
    fs::remove_dir(state.join("overrides.new")).expect("a folder");
    // Without a daemon there is nobody to end one.
    let (_, said) = lab.tell(&["stop"]);
    assert!(said.contains("is still filtered"), "{said}");
    assert!(lab.log("run").contains("the filter stays attached"));
    drop(filter);
    refused(
        &lab,
        &["allow", "203.0.113.0/24", "--for", "1h"],
        "nobody would end",
    );
    done(&lab, &["block", "198.51.100.0/24", "--forever"]);
    assert_eq!(statuses(&lab), ["000", "200", "000", "000"]);
    done(&lab, &["detach"]);
}

/// Changes that come by the hundred are gathered.
#[test]
fn many_overrides_at_once_are_few_deployments() {
    let lab = Lab::new("overrides");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let start = Instant::now();
    let delays: Vec<_> = thread::scope(|scope| {
        let asking: Vec<_> = (0..20)
            .map(|last| {
                let lab = &lab;
                scope.spawn(move || {
                    let source = format!("203.0.113.{last}");
                    let asked = Instant::now();
                    let status = lab.ipfilter(&["block", &source, "--for", "1h"]).status();
                    assert!(status.expect("it starts").success());
                    asked.elapsed()
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    });
    let longest = delays.iter().max().expect("some");
    println!(
        "20 at once: {longest:?} at most, {:?} in all",
        start.elapsed()
    );
    assert!(*longest < PATIENCE);
    assert_eq!(listed(&lab), 20);
    let deployments = lab.status()["history"].as_array().expect("a list").len();
    assert!(deployments < 10, "{deployments}");
    lab.detach(filter);
}

/// A plan that would cut off the session that asks for it is refused, and `--force` is believed.
#[test]
fn nobody_locks_themselves_out_unawares() {
    let lab = Lab::empty("lockout");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = [
        "deploy",
        "--interface",
        "eth0",
        "--policy",
        &policy,
        "--port",
    ];
    let tell = |port, from: &str, more: &[&str]| {
        let mut command = lab.ipfilter(&[&deploy[..], &[port], more].concat());
        command.env("SSH_CONNECTION", format!("{from} 51234 192.0.2.1 22"));
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (code, said) = tell("22", "203.0.113.7", &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("would cut off 203.0.113.7") && said.contains("policy.json"),
        "{said}"
    );
    lab.assert_nothing_is_left();
    for (port, from, more) in [
        ("22", "198.51.100.7", &[][..]),
        ("80", "203.0.113.7", &[]),
        ("22", "203.0.113.7", &["--force"]),
    ] {
        let (code, said) = tell(port, from, more);
        assert_eq!(code, Some(0), "{said}");
        done(&lab, &["detach"]);
    }
}

/// A file system that takes little, where an instance keeps its state. Dropped, it is unmounted.
struct Small<'l>(&'l Path);

impl<'l> Small<'l> {
    fn at(path: &'l Path) -> Self {
        fs::create_dir_all(path).expect("a folder");
        let size = c"size=256k";
        mount("tmpfs", path, "tmpfs", MountFlags::empty(), Some(size)).expect("root may mount");
        Self(path)
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filling");
        let mut file = fs::File::create(&path).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        // Who still has a file open keeps it until then.
        unmount(self.0, UnmountFlags::DETACH).expect("root may unmount");
    }
}

#[test]
fn a_disk_that_is_full_refuses_an_override_and_nothing_is_half_done() {
    let lab = Lab::new("full-disk");
    let state = lab.folder.join("state");
    let disk = Small::at(&state);
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    done(&lab, &["block", "198.51.100.0/24", "--for", "1h"]);
    let filling = disk.fill();
    for arguments in [
        &["allow", "203.0.113.0/24", "--for", "1h"][..],
        &["overrides", "remove", "1"],
    ] {
        refused(&lab, arguments, "the overrides are not changed");
        refused(&lab, arguments, "No space left on device");
        assert_eq!(
            (listed(&lab), statuses(&lab)),
            (1, ["000", "200", "000", "000"].map(Into::into))
        );
    }
    // A restart finds the one that was made, and no half.
    drop(filter);
    let filter = lab.filter(&["--policy", &policy]);
    assert_eq!(listed(&lab), 1);
    fs::remove_file(filling).expect("a file");
    done(&lab, &["allow", "203.0.113.0/24", "--for", "1h"]);
    done(&lab, &["overrides", "remove", "1"]);
    assert_eq!(statuses(&lab), ["200", "200", "200", "000"]);
    lab.detach(filter);
    drop(disk);
}
