//! The authorization service beside the filter: one policy, decided in two places, changed in one step.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::json;
use testkit::{
    netns::{HOST, Namespace},
    process::Guard,
    program::NGINX,
};

use crate::lab::{GOOD, Lab, PATIENCE, inside, wait_for};

/// The user that the service runs as here.
const SERVICE: &str = "65534";

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

/// Allows clients to read below one path, and nobody to read `/admin`.
fn policy(path: &str) -> String {
    json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": format!("execute-api:/prod/GET/{path}/*"),
            "Condition": {"IpAddress": {"aws:SourceIp": GOOD}},
        },
        {
            "Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/*/admin",
        },
    ]})
    .to_string()
}

/// nginx before an API, the service beside it, and the filter before both.
struct Site {
    lab: Lab,
    /// Where the service may write.
    folder: PathBuf,
    _api: Guard,
}

impl Site {
    fn new(tag: &str) -> Self {
        let lab = Lab::empty(tag);
        let folder = lab.folder.join("service");
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("its mode");
        let api = lab.ipfilter(&["mock", "--listen", "127.0.0.1:8080"]);
        let api = lab.spawn(api, "mock");
        lab.wait_log("mock", "listening", 1);
        let site = Self {
            lab,
            folder,
            _api: api,
        };
        site.configure(&site.socket());
        site
    }

    /// Has the service listen at `socket`.
    fn configure(&self, socket: &Path) {
        let config = json!({
            "interfaces": ["eth0"],
            "apis": [{"name": "api", "ports": [80], "policy": "policy.json"}],
            "log_denied": true,
            "metrics": format!("unix:{}", self.lab.folder.join("metrics.sock").display()),
            "authorize": {
                "listen": format!("unix:{}", socket.display()),
                "stage": "prod",
                "user": SERVICE.parse::<u32>().expect("a number"),
            },
        });
        self.lab.write("config.json", config.to_string());
    }

    /// Where proxies ask.
    fn socket(&self) -> PathBuf {
        self.folder.join("authorize.sock")
    }

    /// The filter, once it is ready.
    fn daemon(&self) -> Guard {
        let config = self.lab.folder.join("config.json");
        self.lab
            .run(&["run", "--config", &config.display().to_string()], &[])
    }

    fn feed(&self) -> PathBuf {
        let run = self.lab.folder.join("run");
        run.join(format!("{}.policies", self.lab.key()))
    }

    /// The service as this user, who has no rights.
    fn service(&self, log: &str, user: &str) -> Guard {
        let socket = self.folder.join("metrics.sock");
        let _: std::io::Result<()> = fs::remove_file(&socket);
        let host = &self.lab.network.host;
        let mut command = host.command("setpriv");
        command
            .args(["--reuid", user, "--regid", user, "--clear-groups"])
            .args(["--no-new-privs", "--bounding-set=-all"])
            .arg(service_program())
            .arg("--follow")
            .arg(self.feed())
            .arg("--metrics")
            .arg(format!("unix:{}", socket.display()));
        let guard = self.lab.spawn(command, log);
        if user == SERVICE {
            self.lab.wait_log(log, "ready", 1);
        }
        guard
    }

    fn nginx(&self) -> Guard {
        let snippet = "../ipfilter/dist/integrations/nginx.conf";
        let snippet = Path::new(env!("CARGO_MANIFEST_DIR")).join(snippet);
        let text = fs::read_to_string(snippet).expect("the configuration that is shipped");
        let socket = self.socket().display().to_string();
        let place = "/run/ipfilter-authorize/authorize.sock";
        assert!(text.contains(place) && text.contains("listen 80;"));
        let home = self.lab.folder.join("nginx");
        fs::create_dir_all(&home).expect("a folder");
        let text = format!(
            "daemon off; master_process off; user root; pid {0}/pid; error_log stderr;\nevents {{ }}\n\
             http {{ access_log off;\n\
             client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
             uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{1}\n}}\n",
            home.display(),
            text.replace(place, &socket)
        );
        let config = self.lab.write("nginx.conf", text);
        let program = NGINX.command().expect("nginx");
        let mut command = self.lab.network.host.command(program.get_program());
        for (name, value) in program.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
            .arg("-p")
            .arg(home)
            .args(["-e", "stderr", "-c", &config]);
        let guard = self.lab.spawn(command, "nginx");
        wait_for("nginx answers", || self.get("/old/1") != 0);
        guard
    }

    /// The status that an allowed client gets for this path; 0 without an answer.
    fn get(&self, path: &str) -> u16 {
        thread::scope(|scope| {
            let asking = inside(scope, &self.lab.network.allowed, || get(path));
            asking.join().expect("no panic")
        })
    }

    /// What the service says of a client, asked by a local program.
    fn ask_service(&self, path: &str, client: &str) -> u16 {
        Self::ask_at(&self.socket(), path, client)
    }

    fn ask_at(socket: &Path, path: &str, client: &str) -> u16 {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\
             X-Original-Method: GET\r\nX-Original-URI: {path}\r\n\r\n"
        );
        status(&unix(socket, &head))
    }

    /// `status` says this of the service, and that its plan is the one in force if it is.
    fn assert_authorization(&self, state: &str) {
        let status = self.lab.status();
        let all = &status["authorization"];
        assert_eq!(all["state"], state, "{all}");
        let is_serving = state == "serving";
        let problems = status["problems"].as_array().expect("problems");
        let is_problem = problems.iter().any(|one| one["kind"] == "authorization");
        assert_eq!(is_problem, !is_serving, "{problems:?}");
        if is_serving {
            let service = &all["services"][0];
            assert_eq!(service["digest"], status["digest"], "{all}");
            assert_eq!(service["uid"].to_string(), SERVICE, "{all}");
            assert_eq!(all["digest"], status["digest"], "{all}");
        }
        let text = self.lab.tell(&["status"]).1;
        assert!(text.contains("\nauthorize   "), "{text}");
    }

    fn health(&self) -> String {
        page(&self.folder.join("metrics.sock"), "/healthz")
    }

    /// Does something while clients ask for what nobody may have, which nobody gets.
    fn under_load(&self, act: impl FnOnce()) {
        let (stop, asked) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let (stop, asked) = (&stop, &asked);
            let ask = |namespace: &Namespace, path: &'static str| {
                inside(scope, namespace, move || {
                    while !stop.load(Relaxed) {
                        let status = get(path);
                        assert_ne!(status, 200, "{path}");
                        asked.fetch_add(u64::from(status != 0), Relaxed);
                    }
                })
            };
            let allowed = &self.lab.network.allowed;
            let asking = [ask(allowed, "/admin"), ask(allowed, "/old/../admin")];
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            stop.store(true, Relaxed);
            for one in asking {
                one.join().expect("nobody gets it");
            }
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
        println!("{} requests meanwhile", asked.load(Relaxed));
        assert!(asked.load(Relaxed) > 0);
    }
}

/// The service, which `cargo test --workspace` builds beside the filter.
fn service_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_ipfilter")).with_file_name("ipfilter-authorize");
    assert!(
        program.is_file(),
        "{} is not there: build it with `cargo build --package ipfilter-authorize`",
        program.display()
    );
    program
}

/// The status that a client here gets for this path; 0 without an answer.
fn get(path: &str) -> u16 {
    let address = SocketAddr::new(HOST.v4.parse().expect("an address"), 80);
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().map_or(0, |answer| status(&answer))
}

fn unix(socket: &Path, head: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What is served at a socket for this path, with its head.
fn page(socket: &Path, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    unix(socket, &head)
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}
