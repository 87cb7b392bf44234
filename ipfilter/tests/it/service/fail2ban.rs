//! The shipped fail2ban action with a real fail2ban: a real log, a real ban, a client that sees it; and
//! the script for CrowdSec, called as its bouncer calls it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use testkit::{
    netns::{DENIED, HOST},
    process::Guard,
    program::FAIL2BAN,
};

use crate::lab::{EVERYONE, Lab, PATIENCE, allow, ask, statuses, wait_for};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dist/integrations");

/// How long a ban lasts here, and how many are banned at once.
const BAN: u64 = 10;
const MANY: usize = 40;

/// Configures fail2ban with the shipped action, filter and jail, and starts it in the host's namespace.
fn fail2ban(lab: &Lab, log: &str) -> Guard {
    let folder = lab.folder.display();
    for (from, to) in [
        ("ipfilter.conf", "action.d/ipfilter.conf"),
        ("filter.conf", "filter.d/api.conf"),
        ("jail.conf", "jail.conf"),
    ] {
        let to = lab.folder.join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(format!("{SHIPPED}/fail2ban/{from}"), to).expect("a shipped file");
    }
    lab.write(
        "fail2ban.conf",
        format!(
            "[Definition]\nloglevel = INFO\nlogtarget = STDOUT\nsyslogsocket = auto\n\
             socket = {folder}/fail2ban.sock\npidfile = {folder}/fail2ban.pid\ndbfile = None\n\
             dbmaxmatches = 10\ndbpurgeage = 1d\nallowipv6 = auto\n"
        ),
    );
    lab.write(
        "jail.local",
        format!(
            "[api]\nlogpath = {log}\nbantime = {BAN}\n\
             banaction = ipfilter[program={}, instance={}, api=api]\naction = %(banaction)s\n",
            env!("CARGO_BIN_EXE_ipfilter"),
            lab.instance
        ),
    );
    let program = FAIL2BAN.command().expect("fail2ban");
    let mut command = lab.network.host.command(program.get_program());
    for (name, value) in program.get_envs() {
        command.env(name, value.expect("a value"));
    }
    command
        .args(["-f", "-x", "-c", &folder.to_string()])
        .args(["-s", &format!("{folder}/fail2ban.sock")])
        .args(["-p", &format!("{folder}/fail2ban.pid")])
        .env("STATE_DIRECTORY", lab.folder.join("state"))
        .env("RUNTIME_DIRECTORY", lab.folder.join("run"))
        .stdin(Stdio::null())
        .stdout(File::create(lab.folder.join("fail2ban.log")).expect("a log"))
        .stderr(Stdio::null());
    let guard = Guard::spawn_group(&mut command).expect("it starts");
    lab.wait_log("fail2ban", "Jail 'api' started", 1);
    guard
}

/// Has the API's log say that it denied this client, as often as the jail wants it.
fn denied(log: &str, client: &str) {
    let mut file = OpenOptions::new().append(true).open(log).expect("a log");
    let time = Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
    for _ in 0..5 {
        writeln!(
            file,
            "{client} - - [{time}] \"GET /pets HTTP/1.1\" 403 23 \"-\" \"-\""
        )
        .expect("a disk");
    }
}

fn overrides(lab: &Lab) -> String {
    lab.tell(&["overrides"]).1
}

#[test]
fn fail2ban_bans_and_unbans_at_the_interface() {
    let lab = Lab::new("fail2ban");
    let policy = lab.write("policy.json", allow(&["0.0.0.0/0", "::/0"]));
    let filter = lab.filter(&["--policy", &policy]);
    let log = lab.write("access.log", "");
    let fail2ban = fail2ban(&lab, &log);
    assert_eq!(statuses(&lab), EVERYONE);
    denied(&log, DENIED.v4);
    let start = Instant::now();
    wait_for("the ban", || {
        ask(&lab.network.denied, HOST.v4).status() == "000"
    });
    println!("banned within {:?} of the line in the log", start.elapsed());
    assert_eq!(statuses(&lab), ["200", "200", "000", "200"], "IPv4 alone");
    let listed = overrides(&lab);
    assert!(
        listed.contains(DENIED.v4) && listed.contains("fail2ban api"),
        "{listed}"
    );
    // The ban's end is fail2ban's, and comes before the override's.
    wait_for("the unban", || statuses(&lab) == EVERYONE);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(BAN + 55), "{took:?}");
    lab.wait_log("fail2ban", "Unban", 1);
    assert!(
        overrides(&lab).contains("no overrides"),
        "{}",
        overrides(&lab)
    );
    // Other overrides are none of fail2ban's business.
    let other = [
        "block",
        "192.0.2.77",
        "--for",
        "1h",
        "--reason",
        "fail2ban apis",
    ];
    let (code, said) = lab.tell(&other);
    assert_eq!(code, Some(0), "{said}");
    denied(&log, DENIED.v6);
    wait_for("the ban", || {
        ask(&lab.network.denied, HOST.v6).status() == "000"
    });
    // Many bans are few deployments: none waits for the one before.
    let deployments = || lab.log("run").matches("overrides changed").count();
    let before = deployments();
    let many: Vec<_> = (1..=MANY).map(|last| format!("198.18.0.{last}")).collect();
    let start = Instant::now();
    many.iter().for_each(|client| denied(&log, client));
    wait_for("all bans", || {
        let log = lab.log("run");
        let banned = |client| log.contains(&format!("in force: {client} block"));
        many.iter().all(banned)
    });
    let deployed = deployments() - before;
    println!(
        "{MANY} bans in {:?}, in {deployed} deployments",
        start.elapsed()
    );
    assert!(deployed < MANY, "{deployed}");
    // The jail's end is the end of all its bans, and of no other override.
    fail2ban.stop(PATIENCE).expect("it ends");
    assert_eq!(statuses(&lab), EVERYONE);
    let left = overrides(&lab);
    assert!(
        left.lines().count() == 1 && left.contains("192.0.2.77"),
        "{left}"
    );
    let said = lab.log("fail2ban");
    println!("{said}");
    assert!(!said.contains("ERROR"), "{said}");
    lab.detach(filter);
}

#[test]
fn the_script_for_crowdsec_blocks_and_lifts() {
    let lab = Lab::new("crowdsec");
    let policy = lab.write("policy.json", allow(&["0.0.0.0/0", "::/0"]));
    let filter = lab.filter(&["--policy", &policy]);
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_ipfilter"));
    let path = format!(
        "{}:{}",
        bin.parent().expect("a folder").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let bouncer = |arguments: &[&str]| {
        let mut command: Command = lab
            .network
            .host
            .command(format!("{SHIPPED}/crowdsec/ipfilter-bouncer"));
        command
            .args(arguments)
            .env("PATH", &path)
            .env("IPFILTER_INSTANCE", &lab.instance)
            .env("STATE_DIRECTORY", lab.folder.join("state"))
            .env("RUNTIME_DIRECTORY", lab.folder.join("run"));
        command.output().expect("a shell")
    };
    let source = format!("{}/32", DENIED.v4);
    let output = bouncer(&["add", &source, "14400", "crowdsecurity/http-probing", "{}"]);
    assert!(output.status.success(), "{output:?}");
    wait_for("the block", || {
        statuses(&lab) == ["200", "200", "000", "200"]
    });
    let listed = overrides(&lab);
    assert!(
        listed.contains("crowdsec crowdsecurity/http-probing"),
        "{listed}"
    );
    let output = bouncer(&["del", &source, "0", "crowdsecurity/http-probing", "{}"]);
    assert!(output.status.success(), "{output:?}");
    wait_for("the end", || statuses(&lab) == EVERYONE);
    for wrong in [&["add"][..], &["add", &source, "soon"], &["ban", &source]] {
        assert_eq!(bouncer(wrong).status.code(), Some(2), "{wrong:?}");
    }
    lab.detach(filter);
}
