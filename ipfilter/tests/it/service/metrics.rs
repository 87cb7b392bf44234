//! What is served to Prometheus, by the real process: the page, its health, and clients that mean no
//! good.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::lab::{
    BAD, GOOD, Lab, ONLY_BAD, ONLY_GOOD, PATIENCE, allow, inside, statuses, wait_for,
};

const ADDRESS: &str = "127.0.0.1:9477";

/// The status and the text of the answer to a request in the host's namespace.
fn get(lab: &Lab, more: &[&str], path: &str) -> (String, String) {
    let output = lab
        .network
        .host
        .command("curl")
        .args(["--silent", "--noproxy", "*", "--max-time", "120"])
        .args(["--write-out", "\n%{http_code}"])
        .args(more)
        .arg(format!("http://{ADDRESS}{path}"))
        .output()
        .expect("curl");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

fn page(lab: &Lab) -> String {
    let (status, page) = get(lab, &[], "/metrics");
    assert_eq!(status, "200", "{page}");
    page
}

/// The sum of the samples that begin with `name` and have all `labels`; none if there are none.
fn sample(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let samples = page.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let ends = rest.starts_with(' ') || rest.starts_with('{');
        let (labelled, value) = rest.rsplit_once(' ')?;
        let all = labels.iter().all(|label| labelled.contains(label));
        (ends && all).then(|| value.parse::<f64>().expect("a number"))
    });
    let samples: Vec<f64> = samples.collect();
    (!samples.is_empty()).then(|| samples.iter().sum())
}

/// Runs `promtool`, and returns what it says.
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut command = testkit::program::PROMTOOL.command().expect("promtool");
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}\n{input}");
    said
}

/// A policy that is exact, and says something else some day.
fn until(year: u32, blocks: &[&str]) -> String {
    let mut policy: Value = serde_json::from_str(&allow(blocks)).expect("JSON");
    policy["Statement"]["Condition"]["DateLessThan"] =
        serde_json::json!({"aws:CurrentTime": format!("{year}-01-01T00:00:00Z")});
    policy.to_string()
}

fn run<'a>(policy: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["run", "--interface", "eth0", "--port", "80", "--policy"];
    arguments.extend([policy, "--deny", "reject", "--metrics", ADDRESS]);
    arguments.extend(more);
    arguments
}

/// The page agrees with `status`, goes on over reloads, and Prometheus's own checker likes it.
#[test]
fn a_page_shows_what_the_filter_does() {
    let lab = Lab::new("page");
    let policy = lab.write("policy.json", until(2999, &GOOD));
    let filter = lab.run(&run(&policy, &["--lookup", "trie"]), &[]);
    let before = page(&lab);
    assert_eq!(promtool(&["check", "metrics"], &before), "");
    let denied = ["api=\"api\"", "verdict=\"reject\"", "reason=\"reset\""];
    assert_eq!(
        sample(&before, "ipfilter_packets_total", &denied),
        Some(0.0)
    );
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let after = page(&lab);
    let counters = lab.status()["counters"].clone();
    let counted = counters.as_array().expect("counters").iter().filter(|one| {
        one["reason"] == "reset" && one["verdict"] == "reject" && one["api"] == "api"
    });
    for (name, field) in [
        ("ipfilter_packets_total", "packets"),
        ("ipfilter_bytes_total", "bytes"),
    ] {
        let told: u64 = counted.clone().filter_map(|one| one[field].as_u64()).sum();
        assert!(told >= 2, "{counters}");
        #[expect(clippy::cast_precision_loss, reason = "a handful of packets")]
        let told = told as f64;
        assert_eq!(sample(&after, name, &denied), Some(told), "{after}");
    }
    for (name, labels, value) in [
        ("ipfilter_interfaces", &["filtered"][..], 1.0),
        ("ipfilter_interfaces", &["waiting"], 0.0),
        ("ipfilter_healthy", &[], 1.0),
        ("ipfilter_degraded", &[], 0.0),
        ("ipfilter_last_reload_successful", &[], 1.0),
        ("ipfilter_reload_failures_total", &[], 0.0),
        ("ipfilter_deployments_total", &["start"], 1.0),
        ("ipfilter_deployments_total", &["signal"], 0.0),
        (
            "ipfilter_next_boundary_timestamp_seconds",
            &[],
            32_472_144_000.0,
        ),
        ("ipfilter_table_entries", &["table=\"trie\"", "ipv4"], 1.0),
        ("ipfilter_table_bytes", &["table=\"trie\"", "ipv4"], 128.0),
        ("ipfilter_build_info", &[env!("CARGO_PKG_VERSION")], 1.0),
    ] {
        assert_eq!(sample(&after, name, labels), Some(value), "{name}: {after}");
    }
    // Nothing is missing from a log that nobody asked for.
    let missed = |reader| sample(&after, "ipfilter_events_unreported_total", &[reader]);
    assert_eq!((missed("events"), missed("log")), (Some(0.0), None));
    lab.write("policy.json", until(2999, &BAD));
    lab.reload(&filter);
    lab.write("policy.json", "{");
    lab.reload(&filter);
    let later = page(&lab);
    for (name, labels, value) in [
        ("ipfilter_deployments_total", &["signal"][..], 1.0),
        ("ipfilter_reload_failures_total", &[], 1.0),
        ("ipfilter_last_reload_successful", &[], 0.0),
        ("ipfilter_healthy", &[], 1.0),
    ] {
        assert_eq!(sample(&later, name, labels), Some(value), "{name}: {later}");
    }
    let digest = lab.status()["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let labels = [digest.as_str()];
    assert_eq!(
        sample(&later, "ipfilter_deployment_info", &labels),
        Some(1.0)
    );
    assert_eq!(
        sample(&later, "ipfilter_packets_total", &denied),
        sample(&after, "ipfilter_packets_total", &denied)
    );
    the_shipped_files_ask_for_what_is_there(&later);
    lab.detach(filter);
}

/// Each name and label of the dashboard and the rules is on the page.
fn the_shipped_files_ask_for_what_is_there(page: &str) {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist");
    let rules = dist.join("alerts.yml");
    let said = promtool(&["check", "rules", &rules.display().to_string()], "");
    assert!(said.contains("SUCCESS"), "{said}");
    let there: BTreeSet<&str> = names(page).collect();
    for file in ["alerts.yml", "grafana.json"] {
        let text = fs::read_to_string(dist.join(file)).expect("a file");
        let asked: BTreeSet<&str> = names(&text).collect();
        assert!(asked.len() >= 5, "{asked:?}");
        // Those of the authorization service are on a page of its own, and those of a fleet on its hosts' only.
        let elsewhere = ["ipfilter_authorization", "ipfilter_fleet"];
        let missing = asked.difference(&there);
        let missing: Vec<_> = missing
            .filter(|name| !elsewhere.iter().any(|start| name.starts_with(start)))
            .collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}");
        for label in labels(&text) {
            // These are Prometheus's own.
            let known = ["job", "instance"].contains(&label.as_str());
            let on_page = page.contains(&format!("{label}=\""));
            assert!(known || on_page, "{file} asks for label {label}");
        }
    }
    let dashboard = fs::read_to_string(dist.join("grafana.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    each_panel_says_one_thing(&dashboard);
}

/// One question each, in a place of its own.
fn each_panel_says_one_thing(dashboard: &Value) {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert_eq!(
            panel["targets"].as_array().map(Vec::len),
            Some(1),
            "{title}"
        );
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its id is taken");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| place[name].as_u64().expect("a number"));
        assert!(x + w <= 24, "{title} is too wide");
        for cell in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
            assert!(taken.insert(cell), "{title} covers another panel");
        }
    }
}

/// Whatever looks like a metric of ours.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("ipfilter_"))
}

/// The labels in `{…}` after a metric, and after `by`.
fn labels(text: &str) -> BTreeSet<String> {
    let text = text.replace("\\\"", "\"");
    let selectors = text.split("ipfilter_").skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
        rest.strip_prefix('{')?.split('}').next()
    });
    let matched = selectors.flat_map(|selector| selector.split(','));
    let matched = matched.filter_map(|part| part.split(['=', '!']).next());
    let grouped = text.split("by (").skip(1);
    let grouped = grouped.filter_map(|rest| rest.split(')').next());
    let grouped = grouped.flat_map(|group| group.split(','));
    matched
        .chain(grouped)
        .map(|label| label.trim().to_owned())
        .filter(|label| !label.is_empty())
        .collect()
}

#[test]
fn health_is_what_is_in_force_and_not_that_somebody_answers() {
    let lab = Lab::new("health");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &["--on-error", "deny-all"]), &[]);
    assert_eq!(get(&lab, &[], "/healthz"), ("200".into(), "ok\n".into()));
    for path in ["/", "/metrics/", "/metricsx", "/healthz2", "/%6detrics"] {
        assert_eq!(get(&lab, &[], path).0, "404", "{path}");
    }
    assert_eq!(get(&lab, &["--request", "POST"], "/metrics").0, "405");
    assert_eq!(get(&lab, &["--head"], "/healthz").0, "200");
    // The interface goes, and comes again.
    let host = &lab.network.host;
    let router = &lab.network.router;
    let away = [
        "link",
        "set",
        "eth0",
        "netns",
        router.name(),
        "name",
        "eth9",
    ];
    host.ip(away).expect("an interface");
    wait_for("an interface to be missed", || {
        let (status, told) = get(&lab, &[], "/healthz");
        status == "503"
            && told.contains("no interface is filtered")
            && told.contains("not there: eth0")
    });
    let missed = page(&lab);
    assert_eq!(sample(&missed, "ipfilter_healthy", &[]), Some(0.0));
    for (reason, value) in [
        ("nothing_filtered", 1.0),
        ("waiting", 1.0),
        ("overdue", 0.0),
    ] {
        let label = format!("reason=\"{reason}\"");
        let told = sample(&missed, "ipfilter_unhealthy", &[&label]);
        assert_eq!(told, Some(value), "{missed}");
    }
    let back = ["link", "set", "eth9", "netns", host.name(), "name", "eth0"];
    router.ip(back).expect("an interface");
    wait_for("health", || get(&lab, &[], "/healthz").0 == "200");
    drop(filter);
    lab.write("policy.json", "{");
    let filter = lab.run(&run(&policy, &["--on-error", "deny-all"]), &[]);
    let (status, told) = get(&lab, &[], "/healthz");
    assert_eq!(status, "503", "{told}");
    assert!(told.starts_with("degraded"), "{told}");
    let degraded = page(&lab);
    for (name, value) in [
        ("ipfilter_degraded", 1.0),
        ("ipfilter_last_reload_successful", 0.0),
    ] {
        assert_eq!(sample(&degraded, name, &[]), Some(value), "{degraded}");
    }
    lab.detach(filter);
}

/// More connections that say nothing than clients are served at a time.
#[test]
fn idle_clients_do_not_delay_health() {
    let lab = Lab::empty("idle");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &[]), &[]);
    thread::scope(|scope| {
        let idle = inside(scope, &lab.network.host, || {
            let connect = |_| TcpStream::connect(ADDRESS).expect("a connection");
            let idle: Vec<TcpStream> = (0..300).map(connect).collect();
            idle
        });
        let idle = idle.join().expect("connections");
        let start = Instant::now();
        assert_eq!(get(&lab, &[], "/healthz").0, "200");
        // They would be given five seconds each.
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{:?}",
            start.elapsed()
        );
        drop(idle);
    });
    lab.detach(filter);
}

/// Silence, nonsense, readers that don't read and everyone at once: the process goes on, and so does
/// the filter.
#[test]
fn clients_that_mean_no_good_do_none_harm() {
    const CROWD: usize = 1000;
    let lab = Lab::new("crowd");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.run(&run(&policy, &[]), &[]);
    let descriptors = || {
        let folder = format!("/proc/{}/fd", filter.id());
        fs::read_dir(folder).expect("a process").count()
    };
    let before = descriptors();
    let answered = thread::scope(|scope| {
        let crowd = || {
            let connect = || TcpStream::connect(ADDRESS).expect("a connection");
            let idle: Vec<_> = (0..20).map(|_| connect()).collect();
            for nonsense in [
                &b"\0\0\0\0"[..],
                b"GET /metrics HTTP/9.9\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                &[b'A'; 100_000],
                b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            ] {
                // It may hang up before all is said.
                let _: std::io::Result<()> = connect().write_all(nonsense);
            }
            // They ask and don't read.
            let slow = (0..20).map(|_| {
                let mut stream = connect();
                let _: std::io::Result<()> = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
                stream
            });
            let slow: Vec<_> = slow.collect();
            let crowd = (0..CROWD).map(|_| {
                let mut stream = connect();
                let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
                let _: std::io::Result<()> = stream.write_all(request);
                stream
            });
            let crowd: Vec<_> = crowd.collect();
            let answered = crowd.into_iter().filter_map(|mut stream| {
                let limit = Some(PATIENCE);
                stream.set_read_timeout(limit).expect("a limit");
                let mut text = String::new();
                stream.read_to_string(&mut text).ok()?;
                text.starts_with("HTTP/1.1 200 OK").then_some(())
            });
            let answered = answered.count();
            drop((idle, slow));
            answered
        };
        let crowd = inside(scope, &lab.network.host, crowd);
        // Meanwhile it does as it is told, and the filter filters.
        lab.write("policy.json", allow(&BAD));
        let (code, said) = lab.tell(&["reload"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(statuses(&lab), ONLY_BAD);
        crowd.join().expect("the crowd")
    });
    assert_eq!(answered, CROWD);
    wait_for("all to have been let go", || descriptors() <= before + 2);
    assert_eq!(get(&lab, &[], "/healthz").0, "200");
    lab.detach(filter);
}

fn config(lab: &Lab, metrics: Option<&str>) -> String {
    let api = serde_json::json!({"name": "api", "ports": [80], "policy": "policy.json"});
    let mut config = serde_json::json!({"interfaces": ["eth0"], "apis": [api]});
    if let Some(metrics) = metrics {
        config["metrics"] = metrics.into();
    }
    lab.write("ipfilter.json", config.to_string())
}

/// Where it is served is the configuration's to say, and a reload's to change.
#[test]
fn where_it_is_served_can_change() {
    let lab = Lab::new("where");
    lab.write("policy.json", allow(&GOOD));
    let path = config(&lab, Some("unix:metrics"));
    let socket = lab.folder.join("metrics");
    // What a process has left that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let filter = lab.run(&["run", "--config", &path], &[]);
    let kind = fs::symlink_metadata(&socket).expect("a socket");
    assert!(kind.file_type().is_socket());
    assert_eq!(kind.permissions().mode() & 0o777, 0o660);
    let unix = socket.display().to_string();
    let through = ["--unix-socket", unix.as_str()];
    assert_eq!(get(&lab, &through, "/healthz").0, "200");
    config(&lab, Some(ADDRESS));
    lab.reload(&filter);
    wait_for("the other address", || {
        get(&lab, &[], "/healthz").0 == "200"
    });
    assert!(!socket.exists());
    // The same port of all addresses.
    config(&lab, Some("0.0.0.0:9477"));
    lab.reload(&filter);
    lab.wait_log(
        "run",
        "anyone who can reach 0.0.0.0:9477 can read the metrics",
        1,
    );
    assert_eq!(get(&lab, &[], "/healthz").0, "200");
    config(&lab, None);
    lab.reload(&filter);
    wait_for("an end", || get(&lab, &[], "/healthz").0 == "000");
    // Something of someone's is in the way: it stays, and so does the filter.
    lab.write("metrics", "precious");
    config(&lab, Some("unix:metrics"));
    lab.reload(&filter);
    lab.wait_log("run", "something else is there", 1);
    assert_eq!(fs::read_to_string(&socket).expect("a file"), "precious");
    fs::remove_file(&socket).expect("a file");
    lab.reload(&filter);
    wait_for("a socket", || get(&lab, &through, "/healthz").0 == "200");
    lab.detach(filter);
    assert!(!socket.exists());
    let (code, said) = lab.tell(&["run", "--config", &path, "--metrics", "everywhere"]);
    assert_eq!(code, Some(2), "{said}");
    config(&lab, Some("everywhere"));
    let (code, said) = lab.tell(&["run", "--config", &path]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("`everywhere` is not"), "{said}");
}
