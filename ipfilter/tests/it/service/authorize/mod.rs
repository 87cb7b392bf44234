//! The authorization service beside the filter: one policy, decided in two places, changed in one step.

mod proxies;
mod site;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Instant,
};

use rustix::process::Signal;
use testkit::process::Guard;

use self::site::{SERVICE, Site, page, policy, unix};
use crate::lab::{GOOD, PATIENCE, wait_for};

/// A reload changes interface and service in one step; killed, neither lets a request through that it
/// should not, and the other goes on.
#[test]
fn the_service_follows_the_filter_through_reloads_and_kills() {
    let site = Site::new("authorize");
    site.lab.write("policy.json", policy("old"));
    let daemon = site.daemon();
    let service = site.service("service", SERVICE);
    let nginx = site.nginx();
    assert_eq!(site.get("/old/1"), 200);
    assert_eq!(site.get("/new/1"), 403);
    site.assert_authorization("serving");
    site.under_load(|| {
        let mut now = "old";
        for _ in 0..6 {
            let before = now;
            now = if before == "old" { "new" } else { "old" };
            site.lab.write("policy.json", policy(now));
            let (code, said) = site.lab.tell(&["reload"]);
            assert_eq!(code, Some(0), "{said}");
            // It says so only once it is true.
            assert!(
                said.contains("the authorization service decides by it"),
                "{said}"
            );
            assert_eq!(site.get(&format!("/{before}/1")), 403, "{said}");
            assert_eq!(site.get(&format!("/{now}/1")), 200, "{said}");
        }
    });
    // The policy holds without the filter's process, in both places, and the service says so.
    let mut daemon = daemon;
    site.under_load(|| {
        daemon.signal(Signal::KILL).expect("it runs");
        daemon.wait(PATIENCE).expect("it ends");
        site.lab.wait_log("service", "stay in force", 1);
        assert_eq!(site.get("/old/1"), 200);
        assert_eq!(site.get("/new/1"), 403);
        assert!(site.health().contains("stale"), "{}", site.health());
        site.assert_authorization("unknown");
    });
    site.lab.write("policy.json", policy("new"));
    let daemon = site.daemon();
    wait_for("the service follows the next process", || {
        site.get("/new/1") == 200
    });
    assert_eq!(site.get("/old/1"), 403);
    let digest = site.lab.status()["digest"].to_string();
    assert!(
        site.health().contains(digest.trim_matches('"')),
        "{} is not {digest}",
        site.health()
    );
    site.assert_authorization("serving");
    // Without the service nothing is let through.
    let mut service = service;
    site.under_load(|| {
        service.signal(Signal::KILL).expect("it runs");
        service.wait(PATIENCE).expect("it ends");
        assert_ne!(site.get("/new/1"), 200);
        let (code, said) = site.lab.tell(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("no authorization service"), "{said}");
        site.assert_authorization("gone");
    });
    let service = site.service("again", SERVICE);
    wait_for("nginx asks the new one", || site.get("/new/1") == 200);
    // Overrides are above the policy in both places.
    let source = GOOD[0];
    let (code, said) = site.lab.tell(&["block", source, "--for", "1h"]);
    assert_eq!(code, Some(0), "{said}");
    wait_for("the service has the block", || {
        site.ask_service("/new/1", source.split('/').next().expect("an address")) == 403
    });
    drop((nginx, service));
    site.lab.detach(daemon);
}

/// Whoever is at the other end of the socket gets policies, if it is the service's user, and nothing else.
#[test]
fn the_socket_for_the_service_is_good_for_nothing_else() {
    let site = Site::new("feed");
    site.lab.write("policy.json", policy("old"));
    let daemon = site.daemon();
    // Another user is sent nothing.
    let other = site.service("other", "65533");
    site.lab.wait_log("run", "may not read the policies", 1);
    site.lab.wait_log("other", "deciding nothing", 1);
    drop(other);
    // What a hostile service writes ends its connection, and does nothing.
    for lie in ["{\"reload\":{}}\n", "ready\n", &"x".repeat(100_000)] {
        let mut hostile = UnixStream::connect(site.feed()).expect("root may");
        hostile.set_read_timeout(Some(PATIENCE)).expect("a time");
        // It may be cut off before it has written all.
        let _: std::io::Result<()> = hostile.write_all(lie.as_bytes());
        let mut got = Vec::new();
        let _: std::io::Result<usize> = hostile.read_to_end(&mut got);
        let got = String::from_utf8_lossy(&got);
        assert!(!got.contains("ports") && !got.contains("eth0"), "{got}");
    }
    site.lab.wait_log("run", "is cut off", 3);
    // One that says nothing holds a reload up once, and not for long; one that is forged is no help.
    let silent = UnixStream::connect(site.feed()).expect("root may");
    site.lab.write("policy.json", policy("new"));
    let (code, said) = site.lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 do not decide by it yet"), "{said}");
    site.assert_authorization("late");
    let start = Instant::now();
    site.lab.write("policy.json", policy("old"));
    let (code, said) = site.lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    println!("with a silent service: {:?}", start.elapsed());
    drop(silent);
    site.lab.detach(daemon);
}

/// Denied requests are events and log lines, as denied packets are, and metrics that the shipped rules watch.
#[test]
fn what_the_service_denies_is_seen_at_the_filter() {
    let site = Site::new("requests");
    site.lab.write("policy.json", policy("old"));
    let daemon = site.daemon();
    let service = site.service("service", SERVICE);
    let mut events = site.lab.ipfilter(&["events", "--format", "json"]);
    let log = fs::File::create(site.lab.folder.join("events.log")).expect("a log");
    let events = Guard::spawn_group(events.stdout(log)).expect("it starts");
    let client = GOOD[0].split('/').next().expect("an address");
    wait_for("a denied request is shown", || {
        assert_eq!(site.ask_service("/admin", client), 403);
        site.lab.log("events").contains("explicit_deny")
    });
    let shown = site.lab.log("events");
    let event: serde_json::Value =
        serde_json::from_str(shown.lines().next().expect("a line")).expect("JSON");
    for (field, value) in [
        ("api", "api"),
        ("verdict", "deny"),
        ("reason", "explicit_deny"),
        ("statement", "1"),
        ("source", client),
        ("method", "GET"),
        ("path", "/admin"),
    ] {
        assert_eq!(event[field], value, "{event}");
    }
    assert_eq!(site.ask_service("/new/1", client), 403);
    site.lab.wait_log("events", "\"implicit_deny\"", 1);
    unix(
        &site.socket(),
        "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n",
    );
    site.lab.wait_log("events", "\"no_client\"", 1);
    let line = format!("denied: request api deny explicit_deny by 1 from {client}: GET /admin");
    site.lab.wait_log("run", &line, 1);
    the_shipped_rules_ask_for_what_is_there(&site);
    drop((events, service));
    site.lab.detach(daemon);
}

fn the_shipped_rules_ask_for_what_is_there(site: &Site) {
    let pages = [
        page(&site.folder.join("metrics.sock"), "/metrics"),
        page(&site.lab.folder.join("metrics.sock"), "/metrics"),
    ]
    .concat();
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/alerts.yml");
    let rules = fs::read_to_string(rules).expect("the rules that are shipped");
    let words = rules.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let asked: Vec<&str> = words
        .filter(|word| word.starts_with("ipfilter_authorization"))
        .collect();
    assert!(asked.len() >= 4, "{asked:?}");
    for name in asked {
        let is_there = |line: &str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        assert!(pages.lines().any(is_there), "{name}: {pages}");
    }
}

/// A change of `listen` is in force once `reload` says so, and the old place is closed; where it can't be, that is
/// said, and proxies go on asking where they could.
#[test]
fn the_service_moves_to_where_it_is_to_listen() {
    let site = Site::new("moves");
    site.lab.write("policy.json", policy("old"));
    let daemon = site.daemon();
    let service = site.service("service", SERVICE);
    let client = GOOD[0].split('/').next().expect("an address");
    let (first, second) = (site.socket(), site.folder.join("elsewhere.sock"));
    assert_eq!(site.ask_service("/old/1", client), 200);
    site.configure(&second);
    let (code, said) = site.lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("the authorization service decides by it"),
        "{said}"
    );
    assert_eq!(Site::ask_at(&second, "/old/1", client), 200);
    assert!(!first.exists());
    site.configure(Path::new("/nowhere/authorize.sock"));
    site.lab.write("policy.json", policy("new"));
    let (code, said) = site.lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 do not decide by it yet"), "{said}");
    site.lab.wait_log("service", "can't listen at", 1);
    // What is decided there is what the files say.
    assert_eq!(Site::ask_at(&second, "/old/1", client), 403);
    assert_eq!(Site::ask_at(&second, "/new/1", client), 200);
    site.configure(&first);
    let (code, said) = site.lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    wait_for("the service listens where it did", || first.exists());
    assert_eq!(site.ask_service("/new/1", client), 200);
    assert!(!second.exists());
    drop(service);
    site.lab.detach(daemon);
}
