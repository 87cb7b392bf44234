//! An API with proxies before it, the service beside it, and the filter before all.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use serde_json::json;
use testkit::{netns::HOST, process::Guard, proxy::Proxy};

use crate::lab::{GOOD, Lab, PATIENCE, inside, wait_for};

/// The user that the service runs as here.
pub(super) const SERVICE: &str = "65534";

/// The port that the filter protects.
pub(super) const HTTP: u16 = 80;

/// Allows clients to read below one path, and nobody to read `/admin`.
pub(super) fn policy(path: &str) -> String {
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

/// An API with proxies before it, the service beside it, and the filter before all.
pub(super) struct Site {
    pub(super) lab: Lab,
    /// Where the service may write.
    pub(super) folder: PathBuf,
    _api: Guard,
}

impl Site {
    pub(super) fn new(tag: &str) -> Self {
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
    pub(super) fn configure(&self, socket: &Path) {
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
    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join("authorize.sock")
    }

    /// The filter, once it is ready.
    pub(super) fn daemon(&self) -> Guard {
        let config = self.lab.folder.join("config.json");
        self.lab
            .run(&["run", "--config", &config.display().to_string()], &[])
    }

    pub(super) fn feed(&self) -> PathBuf {
        let run = self.lab.folder.join("run");
        run.join(format!("{}.policies", self.lab.key()))
    }

    /// The service as this user, who has no rights.
    pub(super) fn service(&self, log: &str, user: &str) -> Guard {
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

    pub(super) fn nginx(&self) -> Guard {
        self.proxy(Proxy::Nginx, "nginx.conf", HTTP)
    }

    /// A proxy at this port by a configuration that we ship, once it lets what is allowed through.
    pub(super) fn proxy(&self, proxy: Proxy, snippet: &str, port: u16) -> Guard {
        let home = self.lab.folder.join(snippet.replace('.', "-"));
        fs::create_dir_all(&home).expect("a folder");
        let snippets = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/integrations");
        let read = |name| fs::read_to_string(snippets.join(name)).expect("what is shipped");
        let socket = self.socket().display().to_string();
        let place = "/run/ipfilter-authorize/authorize.sock";
        let text = read(snippet);
        assert!(text.contains(place), "{text}");
        let mut text = text.replace(place, &socket);
        if proxy == Proxy::Haproxy {
            let messages = home.join("haproxy-spoe.conf");
            fs::write(&messages, read("haproxy-spoe.conf")).expect("a file");
            text = text.replace(
                "/etc/haproxy/haproxy-spoe.conf",
                &messages.display().to_string(),
            );
        }
        let here = SocketAddr::new([0, 0, 0, 0].into(), port);
        let text = proxy.listening(&text, here).expect("a port");
        let command = proxy.command(&home, &text).expect("a proxy");
        let guard = self
            .lab
            .spawn(self.lab.network.host.within(&command), snippet);
        wait_for("a proxy answers", || self.get_at(port, "/old/1") == 200);
        guard
    }

    /// The status that an allowed client gets for this path; 0 without an answer.
    pub(super) fn get(&self, path: &str) -> u16 {
        self.get_at(HTTP, path)
    }

    /// What it gets at this port.
    pub(super) fn get_at(&self, port: u16, path: &str) -> u16 {
        thread::scope(|scope| {
            let asking = inside(scope, &self.lab.network.allowed, || get(port, path));
            asking.join().expect("no panic")
        })
    }

    /// What the service says of a client, asked by a local program.
    pub(super) fn ask_service(&self, path: &str, client: &str) -> u16 {
        Self::ask_at(&self.socket(), path, client)
    }

    /// What the service answers to a request with this head.
    pub(super) fn ask(&self, head: &str) -> u16 {
        status(&unix(&self.socket(), head))
    }

    pub(super) fn ask_at(socket: &Path, path: &str, client: &str) -> u16 {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\
             X-Original-Method: GET\r\nX-Original-URI: {path}\r\n\r\n"
        );
        status(&unix(socket, &head))
    }

    /// `status` says this of the service, and that its plan is the one in force if it is.
    pub(super) fn assert_authorization(&self, state: &str) {
        // The service decides by a plan a moment before it has said so.
        let mut status = self.lab.status();
        wait_for(&format!("status says {state} of the service"), || {
            status = self.lab.status();
            status["authorization"]["state"] == state
        });
        let all = &status["authorization"];
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

    pub(super) fn health(&self) -> String {
        page(&self.folder.join("metrics.sock"), "/healthz")
    }

    /// Does something while clients ask for what nobody may have, which nobody gets.
    pub(super) fn under_load(&self, act: impl FnOnce()) {
        self.under_load_at(&[HTTP], act);
    }

    /// The same at each of these ports.
    pub(super) fn under_load_at(&self, ports: &[u16], act: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        let asked: Vec<_> = ports.iter().map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            let stop = &stop;
            let asking = ports.iter().zip(&asked).flat_map(|(port, asked)| {
                ["/admin", "/old/../admin"].map(|path| {
                    inside(scope, &self.lab.network.allowed, move || {
                        while !stop.load(Relaxed) {
                            let status = get(*port, path);
                            assert_ne!(status, 200, "{path} at {port}");
                            asked.fetch_add(u64::from(status != 0), Relaxed);
                        }
                    })
                })
            });
            let asking: Vec<_> = asking.collect();
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            stop.store(true, Relaxed);
            for one in asking {
                one.join().expect("nobody gets it");
            }
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic);
            }
        });
        println!("requests meanwhile, at {ports:?}: {asked:?}");
        assert!(asked.iter().all(|asked| asked.load(Relaxed) > 0));
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
fn get(port: u16, path: &str) -> u16 {
    let address = SocketAddr::new(HOST.v4.parse().expect("an address"), port);
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

pub(super) fn unix(socket: &Path, head: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What is served at a socket for this path, with its head.
pub(super) fn page(socket: &Path, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    unix(socket, &head)
}

fn status(answer: &str) -> u16 {
    let code = answer.split(' ').nth(1);
    code.and_then(|code| code.parse().ok()).unwrap_or_default()
}
