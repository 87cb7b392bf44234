//! `--confirm`, `confirm` and `detach --for`: what is rolled back, whatever dies meanwhile.

use std::{fs, path::PathBuf, thread, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use testkit::process::Guard;

use crate::lab::{
    BAD, EVERYONE, GOOD, Lab, ONLY_BAD, ONLY_GOOD, PATIENCE, allow, statuses, wait_for,
};

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

fn trial(lab: &Lab) -> PathBuf {
    let state = lab.folder.join("state").join(lab.key());
    state.join("trial.json")
}

/// Waits until a trial is over.
fn wait_for_the_end(lab: &Lab) {
    wait_for("the trial ends", || !trial(lab).exists());
}

fn kill(filter: Guard) {
    filter.signal(Signal::KILL).expect("it runs");
    drop(filter);
}

/// With a daemon: missed, taken, given up, and what is refused meanwhile.
#[test]
fn a_reload_is_taken_back_unless_it_is_confirmed() {
    let lab = Lab::new("confirm");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    refused(&lab, &["confirm"], "nothing to confirm");
    let said = done(&lab, &["reload", "--confirm", "60s"]);
    assert!(!said.contains("confirm"), "no change: {said}");

    lab.write("policy.json", allow(&BAD));
    let said = done(&lab, &["reload", "--confirm", "1s"]);
    assert!(said.contains("unless `ipfilter confirm` follows"), "{said}");
    lab.wait_log("run", "rolled back", 1);
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert_eq!(lab.status()["history"][0]["cause"], "return");
    refused(&lab, &["confirm"], "nothing to confirm");

    let said = done(&lab, &["reload", "--confirm", "10m"]);
    assert_eq!(statuses(&lab), ONLY_BAD, "{said}");
    for (arguments, why) in [
        (&["reload"][..], "a change waits"),
        (&["reload", "--confirm", "9s"], "a change waits"),
        (&["detach", "--for", "9s"], "a change waits"),
    ] {
        refused(&lab, arguments, why);
    }
    let said = done(&lab, &["block", "192.0.2.77", "--for", "1h"]);
    assert!(said.contains("unless `ipfilter confirm` follows"), "{said}");
    let (_, said) = lab.tell(&["status"]);
    assert!(said.contains("on trial    until"), "{said}");
    assert_eq!(lab.status()["trial"]["purpose"], "change");
    let said = done(&lab, &["rollback"]);
    assert!(said.contains("in force again"), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);

    done(&lab, &["reload", "--confirm", "10m"]);
    assert!(done(&lab, &["confirm"]).contains("confirmed: plan"));
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_BAD);
    assert!(lab.status()["trial"].is_null());
    // Nothing is changed where it could not be rolled back.
    lab.write("policy.json", allow(&GOOD));
    fs::create_dir(trial(&lab).with_extension("new")).expect("a folder");
    refused(
        &lab,
        &["reload", "--confirm", "10m"],
        "could not be rolled back",
    );
    assert_eq!(statuses(&lab), ONLY_BAD);
    lab.detach(filter);
}

/// Killed with a change on trial, and started again before and after its time: by the settings of the
/// file, and through a stop.
#[test]
fn a_trial_outlives_its_process() {
    let lab = Lab::new("confirm-kill");
    let policy = lab.write("policy.json", allow(&GOOD));
    let run = ["--policy", &policy];
    let filter = lab.filter(&run);
    lab.write("policy.json", allow(&BAD));
    done(&lab, &["reload", "--confirm", "10m"]);
    kill(filter);
    assert_eq!(statuses(&lab), ONLY_BAD);
    // Its time is not over: it is still the operator's to confirm.
    let filter = lab.filter(&run);
    assert!(
        lab.log("run").contains("still on trial"),
        "{}",
        lab.log("run")
    );
    assert_eq!(statuses(&lab), ONLY_BAD);
    // Who ends the process rolls it back.
    filter.stop(PATIENCE).expect("it ends");
    assert!(lab.log("run").contains("rolled back"), "{}", lab.log("run"));
    assert_eq!(statuses(&lab), ONLY_GOOD);
    assert!(!trial(&lab).exists());

    lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&run);
    lab.write("policy.json", allow(&BAD));
    done(&lab, &["reload", "--confirm", "1s"]);
    kill(filter);
    wait_for("nobody is there at the deadline", || {
        lab.status()["trial"]["overdue"] == true
    });
    let (_, said) = lab.tell(&["status"]);
    assert!(said.contains("no process has done it"), "{said}");
    assert_eq!(statuses(&lab), ONLY_BAD);
    let filter = lab.filter(&run);
    assert_eq!(statuses(&lab), ONLY_GOOD, "{}", lab.log("run"));
    wait_for_the_end(&lab);
    // By a person's word all the same.
    done(&lab, &["reload"]);
    assert_eq!(statuses(&lab), ONLY_BAD);
    lab.detach(filter);
}

/// The first plan goes back to nothing: to all who could connect before. The process stays, and takes
/// the plan up again if it is asked to.
#[test]
fn a_first_plan_that_is_not_confirmed_leaves_nothing() {
    let lab = Lab::new("confirm-first");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--confirm", "1s"]);
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), EVERYONE);
    let (code, said) = lab.tell(&["status"]);
    assert!(code == Some(1) && said.contains("nothing"), "{said}");
    refused(&lab, &["detach", "--for", "9s"], "detached already");
    // The setting is for each change.
    let said = done(&lab, &["reload"]);
    assert!(said.contains("unless `ipfilter confirm` follows"), "{said}");
    done(&lab, &["confirm"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["reload"]);
    lab.detach(filter);

    // Under a service manager, which starts what ends: nobody is shut out by that either.
    let start = || {
        let mut command = lab.ipfilter(&["run", "--interface", "eth0", "--port", "80"]);
        command.args(["--policy", &policy, "--confirm", "1s"]);
        command.args(["--on-error", "deny-all"]);
        lab.ready(command)
    };
    fs::remove_dir_all(trial(&lab).parent().expect("a folder")).expect("a folder");
    let filter = start();
    wait_for_the_end(&lab);
    kill(filter);
    let filter = start();
    assert_eq!(statuses(&lab), EVERYONE, "{}", lab.log("run"));
    lab.detach(filter);
}

/// Without a daemon a supervisor is there at the deadline.
#[test]
fn a_deployment_is_taken_back_unless_it_is_confirmed() {
    let lab = Lab::new("confirm-deploy");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = |confirm: &str| {
        let deploy = ["deploy", "--interface", "eth0", "--port", "80"];
        done(
            &lab,
            &[&deploy[..], &["--policy", &policy, "--confirm", confirm]].concat(),
        )
    };
    // Nothing is deployed where it could not be rolled back.
    let in_the_way = trial(&lab).with_extension("new");
    fs::create_dir_all(&in_the_way).expect("a folder");
    refused(
        &lab,
        &[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
            "--confirm",
            "1s",
        ],
        "could not be rolled back",
    );
    lab.assert_nothing_is_left();
    fs::remove_dir(in_the_way).expect("a folder");
    deploy("1s");
    wait_for_the_end(&lab);
    wait_for("it is detached", || statuses(&lab) == EVERYONE);
    lab.assert_nothing_is_left();
    deploy("10m");
    refused(
        &lab,
        &[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ],
        "not settled",
    );
    done(&lab, &["confirm"]);
    refused(&lab, &["confirm"], "nothing to confirm");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.write("policy.json", allow(&BAD));
    deploy("10m");
    assert_eq!(statuses(&lab), ONLY_BAD);
    done(&lab, &["rollback"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    deploy("1s");
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let said = done(&lab, &["detach", "--for", "1s"]);
    assert!(said.contains("detached; until"), "{said}");
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["detach", "--for", "10m"]);
    assert_eq!(statuses(&lab), EVERYONE);
    done(&lab, &["rollback"]);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["detach"]);
    lab.assert_nothing_is_left();
}

/// A supervisor that can't go back says why where people look for it: nobody sees what it prints.
#[test]
fn why_a_trial_is_overdue_is_in_the_history() {
    let lab = Lab::new("confirm-why");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = ["deploy", "--interface", "eth0", "--port", "80", "--policy"];
    let deploy = [&deploy[..], &[&policy]].concat();
    done(&lab, &deploy);
    lab.write("policy.json", allow(&BAD));
    done(&lab, &[&deploy[..], &["--confirm", "10m"]].concat());
    // What it is to go back to is away, and its time is over.
    let path = trial(&lab);
    let tried = fs::read_to_string(&path).expect("a trial");
    let (_, content) = tried.split_once('\n').expect("a checksum");
    let mut content: Value = serde_json::from_str(content).expect("JSON");
    let back = content["back"].as_str().and_then(|name| name.get(..16));
    let back = path.with_file_name(format!("inputs-{}.json", back.expect("a name")));
    let away = back.with_extension("away");
    fs::rename(&back, &away).expect("inputs");
    content["end"] = 1.into();
    let content = content.to_string();
    let checksum = Sha256::digest(&content);
    let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
    let beside = path.with_extension("beside");
    fs::write(&beside, format!("{checksum}\n{content}")).expect("a trial");
    fs::rename(&beside, &path).expect("a trial");
    wait_for("the reason", || {
        let (_, said) = lab.tell(&["status"]);
        said.contains("overdue") && said.contains("failed") && said.contains("return to what was")
    });
    assert_eq!(statuses(&lab), ONLY_BAD);
    fs::rename(&away, &back).expect("inputs");
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["detach"]);
}

#[test]
fn a_filter_that_is_detached_for_a_while_comes_back() {
    let lab = Lab::new("pause");
    let policy = lab.write("policy.json", allow(&GOOD));
    let run = ["--policy", &policy];
    let filter = lab.filter(&run);
    done(&lab, &["detach", "--for", "1s"]);
    wait_for_the_end(&lab);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let said = done(&lab, &["detach", "--for", "10m"]);
    assert!(said.contains("the filter is detached; until"), "{said}");
    assert_eq!(statuses(&lab), EVERYONE);
    let (_, said) = lab.tell(&["status"]);
    assert!(said.contains("detached    until"), "{said}");
    refused(&lab, &["confirm"], "nothing to confirm");
    refused(&lab, &["reload"], "detached for a while");
    // The next process attaches it, whatever ended the one before.
    kill(filter);
    assert_eq!(statuses(&lab), EVERYONE);
    let filter = lab.filter(&run);
    assert_eq!(statuses(&lab), ONLY_GOOD);
    done(&lab, &["detach", "--for", "10m"]);
    filter.stop(PATIENCE).expect("it ends");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let (_, said) = lab.tell(&["rollback"]);
    assert!(said.contains("no deployment before"), "{said}");
    // Detached for good is for good.
    let filter = lab.filter(&run);
    done(&lab, &["detach", "--for", "10m"]);
    lab.detach(filter);
    assert!(!trial(&lab).exists());
}

/// The session that asks must be let in by what it asks for.
#[test]
fn a_reload_that_cuts_off_who_asks_is_refused() {
    let lab = Lab::new("guard-reload");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let deny = r#"{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*"},
  {"Sid": "Scanners", "Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
   "Resource": "execute-api:/*", "Condition": {"IpAddress": {"aws:SourceIp": "198.51.100.0/24"}}}]}"#;
    let tell = |arguments: &[&str], from: &str| {
        let mut command = lab.ipfilter(arguments);
        command.env("SSH_CONNECTION", format!("{from} 51234 192.0.2.1 80"));
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (output.status.code(), said)
    };
    lab.write("policy.json", deny);
    for confirm in [&["reload"][..], &["reload", "--confirm", "10m"]] {
        let (code, said) = tell(confirm, "198.51.100.7");
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("policy.json:3:3: Deny `Scanners` matches it")
                && said.contains("--force"),
            "{said}"
        );
        assert_eq!(statuses(&lab), ONLY_GOOD);
    }
    let forced = ["reload", "--force", "--confirm", "10m"];
    assert_eq!(tell(&forced, "198.51.100.7").0, Some(0));
    let (code, said) = tell(&["confirm"], "198.51.100.7");
    assert!(code == Some(2) && said.contains("would cut off"), "{said}");
    assert_eq!(tell(&["confirm"], "203.0.113.7").0, Some(0));
    let (code, said) = tell(&["rollback"], "203.0.113.7");
    assert!(
        code == Some(2) && said.contains("no Allow matches it"),
        "{said}"
    );
    assert_eq!(tell(&["rollback", "--force"], "203.0.113.7").0, Some(0));
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// Whatever a kill leaves on the disk and at the interface, the next process past the deadline has the
/// old plan in force: each state is put together from those before, between and after.
#[test]
fn whatever_was_written_when_the_process_died_is_enough() {
    let lab = Lab::new("confirm-states");
    let policy = lab.write("policy.json", allow(&GOOD));
    let run = ["--policy", &policy];
    let state = trial(&lab).parent().expect("a folder").to_path_buf();
    let read = |name: &str| fs::read(state.join(name)).ok();
    let filter = lab.filter(&run);
    let record_before = read("deployment.json").expect("a record");
    lab.write("policy.json", allow(&BAD));
    done(&lab, &["reload", "--confirm", "2s"]);
    let tried = read("trial.json").expect("a trial");
    let record_after = read("deployment.json").expect("a record");
    kill(filter);
    wait_for("its time is over", || {
        lab.status()["trial"]["overdue"] == true
    });
    for (instant, record) in [
        (
            "after the trial was written, or the plan was put in force",
            &record_before,
        ),
        ("after the record was written", &record_after),
    ] {
        for is_attached in [true, false] {
            if !is_attached {
                // As after a power cut: pins are in memory.
                let output = lab.ipfilter(&["detach"]).output().expect("it starts");
                assert!(output.status.success());
            }
            fs::write(state.join("deployment.json"), record).expect("a record");
            fs::write(state.join("trial.json"), &tried).expect("a trial");
            let filter = lab.filter(&run);
            assert_eq!(statuses(&lab), ONLY_GOOD, "killed {instant}, {is_attached}");
            assert!(!trial(&lab).exists());
            // Killed once more, between the return and the end of the trial.
            kill(filter);
            fs::write(state.join("trial.json"), &tried).expect("a trial");
            let filter = lab.filter(&run);
            assert_eq!(statuses(&lab), ONLY_GOOD, "killed {instant}, {is_attached}");
            kill(filter);
        }
    }
    done(&lab, &["detach"]);
}

/// Killed at arbitrary instants of a change, a return and a confirmation.
#[test]
fn a_kill_at_any_instant_loses_no_deadline() {
    let lab = Lab::new("confirm-chaos");
    let policy = lab.write("policy.json", allow(&GOOD));
    let run = ["--policy", &policy];
    for step in 0..3 {
        lab.write("policy.json", allow(&GOOD));
        let filter = lab.filter(&run);
        done(&lab, &["reload"]);
        lab.write("policy.json", allow(&BAD));
        thread::scope(|scope| {
            scope.spawn(|| lab.tell(&["reload", "--confirm", "400ms"]));
            // At first amid the change, last amid the return.
            thread::sleep(Duration::from_millis(200 * step));
            filter.signal(Signal::KILL).expect("it runs");
        });
        drop(filter);
        let is_over = || !trial(&lab).exists() || lab.status()["trial"]["overdue"] == true;
        wait_for("its time is over", is_over);
        let was_on_trial = trial(&lab).exists();
        let filter = lab.filter(&run);
        if was_on_trial {
            assert_eq!(statuses(&lab), ONLY_GOOD, "{step}: {}", lab.log("run"));
        }
        assert!(!trial(&lab).exists(), "{step}");
        kill(filter);
    }
    for step in 0..3 {
        lab.write("policy.json", allow(&GOOD));
        let filter = lab.filter(&run);
        done(&lab, &["reload"]);
        lab.write("policy.json", allow(&BAD));
        done(&lab, &["reload", "--confirm", "1s"]);
        let (code, said) = thread::scope(|scope| {
            let confirmed = scope.spawn(|| lab.tell(&["confirm"]));
            thread::sleep(Duration::from_millis(20 * step));
            filter.signal(Signal::KILL).expect("it runs");
            confirmed.join().expect("no panic")
        });
        drop(filter);
        let is_over = || !trial(&lab).exists() || lab.status()["trial"]["overdue"] == true;
        wait_for("its time is over", is_over);
        let is_kept = !trial(&lab).exists();
        assert!(
            is_kept || code != Some(0),
            "who was told that it stays was told the truth: {said}"
        );
        let filter = lab.filter(&run);
        let plan = if is_kept { ONLY_BAD } else { ONLY_GOOD };
        assert_eq!(statuses(&lab), plan, "{step}: {said} {}", lab.log("run"));
        kill(filter);
    }
    done(&lab, &["detach"]);
}
