//! Pipes, devices, sockets and directories where a file should be: refused by name, without waiting.

use std::{fs, os::unix::net::UnixListener, time::Instant};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::lab::{GOOD, Lab, ONLY_GOOD, PATIENCE, allow, statuses};

/// Something special at each of these paths, and what it is called.
fn specials(lab: &Lab) -> Vec<(String, &'static str)> {
    let path = |name: &str| lab.folder.join(name);
    mknodat(CWD, path("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    let zero = makedev(1, 5);
    mknodat(
        CWD,
        path("zero"),
        FileType::CharacterDevice,
        Mode::RUSR,
        zero,
    )
    .expect("a device");
    drop(UnixListener::bind(path("socket")).expect("a socket"));
    fs::create_dir(path("folder")).expect("a directory");
    let names = [
        ("pipe", "a pipe"),
        ("zero", "a device"),
        ("socket", "a socket"),
        ("folder", "a directory"),
    ];
    let names = names.map(|(name, what)| (path(name).display().to_string(), what));
    names.into()
}

#[test]
fn commands_read_regular_files_only() {
    let lab = Lab::empty("specials");
    let policy = lab.write("policy.json", allow(&GOOD));
    let start = Instant::now();
    for (path, what) in specials(&lab) {
        let deploy = ["deploy", "--interface", "eth0", "--port", "80"];
        let with_policy = [&deploy[..], &["--policy", &path]].concat();
        let respond = [
            "--policy",
            &policy,
            "--deny",
            "respond",
            "--respond-body",
            &path,
        ];
        let with_body = [&deploy[..], &respond].concat();
        let with_config = ["deploy", "--config", &path];
        for arguments in [
            &["check", &path][..],
            &with_policy,
            &with_body,
            &with_config,
        ] {
            let (code, said) = lab.tell(arguments);
            assert!(
                matches!(code, Some(1 | 2)),
                "{arguments:?}: {code:?} {said}"
            );
            assert!(said.contains(&format!("it is {what}")), "{said}");
        }
    }
    let large = lab.write("large.json", vec![b' '; 5 << 20]);
    for arguments in [
        &["deploy", "--config", &large][..],
        &[
            "deploy",
            "--interface",
            "eth0",
            "--port",
            "80",
            "--policy",
            &policy,
            "--deny",
            "respond",
            "--respond-body",
            &large,
        ],
    ] {
        let (code, said) = lab.tell(arguments);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("larger than the limit"), "{said}");
    }
    assert!(start.elapsed() < PATIENCE);
    lab.assert_nothing_is_left();
}

/// The policy of a running daemon, and what it keeps, turned into a pipe: it goes on.
#[test]
fn a_daemon_does_not_wait_for_a_pipe() {
    let lab = Lab::new("pipes");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy, "--deny", "reject"]);
    let state = lab.folder.join("state").join(lab.key());
    let files = fs::read_dir(&state).expect("a state");
    let files = files.map(|entry| entry.expect("a file").path());
    for path in files.chain([policy.clone().into()]) {
        fs::remove_file(&path).expect("a file");
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    }
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("it is a pipe"), "{said}");
    fs::remove_file(&policy).expect("a pipe");
    lab.write("policy.json", allow(&[GOOD[0], GOOD[1], "192.0.2.7/32"]));
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let (code, said) = lab.tell(&["rollback"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    lab.detach(filter);
}

/// Names that would write on a terminal.
#[test]
fn no_name_reaches_a_terminal_raw() {
    let lab = Lab::empty("names");
    let evil = "evil\u{1b}]0;title\u{7}\u{202e}.json";
    let policy = lab.write(evil, "{");
    let config = format!(
        r#"{{"interfaces": ["eth0"], "apis": [{{"name": "api", "ports": [80], "policy": {}}}]}}"#,
        serde_json::Value::from(evil)
    );
    let config = lab.write("config.json", config);
    let named = lab.write(
        "named.json",
        r#"{"interfaces": ["eth0"], "apis": [{"name": "a\u001b[31m", "ports": [80], "policy": "p"}]}"#,
    );
    let sid = lab.write("sid.json", r#"{"Statement": {"Sid": "a\u001b]0;x\u0007\u202e", "Effect": "Alow", "Principal": "*", "Action": "*", "Resource": "*"}}"#);
    for arguments in [
        &["check", &policy][..],
        &["explain", "--policy", &policy, "192.0.2.1"],
        &["check", "--config", &config],
        &["check", "--config", &named],
        &["check", &sid],
        &[
            "run",
            "--interface",
            "a\u{1b}[31m",
            "--port",
            "80",
            "--policy",
            &sid,
        ],
        &["probe", "--source", "\u{1b}[31m", "--port", "80"],
    ] {
        let (code, said) = lab.tell(arguments);
        assert_ne!(code, Some(0), "{said}");
        let raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!said.contains(raw), "{arguments:?}: {said:?}");
    }
}
