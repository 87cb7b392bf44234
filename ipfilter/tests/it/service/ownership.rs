//! Who runs an instance: one process, which nobody else can pretend to be.

use std::{
    fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::Command, thread, time::Instant,
};

use rustix::process::Signal;
use testkit::process::{Guard, TICK};

use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses};

fn runtime(lab: &Lab) -> PathBuf {
    lab.folder.join("run").join(lab.key())
}

fn mode(path: PathBuf) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

/// However the files were before, and whatever the mask.
#[test]
fn the_lock_and_the_state_are_roots_alone() {
    let lab = Lab::empty("modes");
    let policy = lab.write("policy.json", allow(&GOOD));
    fs::create_dir_all(runtime(&lab)).expect("a folder");
    fs::write(runtime(&lab).join("lock"), "1").expect("a file");
    for path in [runtime(&lab), runtime(&lab).join("lock")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    let filter = lab.filter(&["--policy", &policy]);
    assert_eq!(mode(runtime(&lab)), 0o700);
    assert_eq!(mode(runtime(&lab).join("lock")), 0o600);
    let state = lab.folder.join("state").join(lab.key());
    assert_eq!(mode(state.clone()), 0o700);
    for entry in fs::read_dir(state).expect("a state") {
        assert_eq!(mode(entry.expect("a file").path()), 0o600);
    }
    lab.detach(filter);
}

/// A process that has nothing to do with it, and whose number a lock file names.
#[test]
fn a_stale_number_is_never_signalled() {
    let lab = Lab::empty("stale");
    let mut stranger = Guard::spawn(Command::new("sleep").arg("600")).expect("it starts");
    fs::create_dir_all(runtime(&lab)).expect("a folder");
    let lock = runtime(&lab).join("lock");
    fs::write(&lock, stranger.id().to_string()).expect("a file");
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    // Held by someone who does not run the instance: waited for, named, and not signalled.
    fs::write(&lock, stranger.id().to_string()).expect("a file");
    let mut holder = Command::new("flock");
    holder.arg(&lock).args(["sleep", "600"]);
    let mut holder = Guard::spawn_group(&mut holder).expect("it starts");
    let start = Instant::now();
    while !held(&lock) {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(TICK);
    }
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("process {}", holder.id())), "{said}");
    assert!(stranger.ended().expect("it can be asked").is_none());
    assert!(holder.ended().expect("it can be asked").is_none());
}

fn held(lock: &PathBuf) -> bool {
    let file = fs::File::open(lock).expect("a lock");
    file.try_lock().is_err()
}

/// Another runtime directory is another lock, but the same pins.
#[test]
fn two_daemons_never_share_their_pins() {
    let lab = Lab::new("pinlock");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--deny", "reject"]);
    for command in [
        &["detach"][..],
        &[
            "run",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
        ],
    ] {
        let mut second = lab.ipfilter(command);
        second.env("RUNTIME_DIRECTORY", lab.folder.join("other"));
        let output = second.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("process {}", filter.id())), "{said}");
        assert!(said.contains("RUNTIME_DIRECTORY"), "{said}");
    }
    assert_eq!(statuses(&lab), ONLY_GOOD);
    // A storm of requests does not keep it from ending.
    for _ in 0..50 {
        filter.signal(Signal::HUP).expect("it runs");
    }
    let (code, said) = lab.tell(&["detach"]);
    assert_eq!(code, Some(0), "{said}");
    lab.assert_nothing_is_left();
}
