//! Real proxies, configured by the snippets that are shipped, between a client and an API.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{
    process::Guard,
    program::{CADDY, ENVOY, HAPROXY, NGINX},
};

use crate::service::{Answer, Service, ask};

const SNIPPETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/integrations");

const PATIENCE: Duration = Duration::from_secs(60);

/// What the API answers to what reaches it.
const REACHED: &str = "reached";

/// Requests of 127.0.0.1 that must not reach the API.
const DENIED: &[(&str, &str, &str)] = &[
    ("GET", "/", ""),
    ("GET", "/admin", ""),
    ("DELETE", "/pets/1", ""),
    // Another client's rights are not to be had by naming it.
    ("GET", "/partner/1", "X-Forwarded-For: 203.0.113.9\r\n"),
    ("GET", "/partner/1", "X-Real-IP: 203.0.113.9\r\n"),
    ("GET", "/partner/1", "Forwarded: for=203.0.113.9\r\n"),
    // Nor is another request.
    ("GET", "/admin", "X-Original-URI: /pets/1\r\n"),
    ("GET", "/admin", "X-Original-URL: http://api/pets/1\r\n"),
    ("GET", "/admin", "X-Forwarded-Uri: /pets/1\r\n"),
    ("DELETE", "/pets/1", "X-Original-Method: GET\r\n"),
    ("DELETE", "/pets/1", "X-Forwarded-Method: GET\r\n"),
    ("GET", "/admin", "X-Ipfilter-Api: api\r\n"),
    // Nor a path that somebody reads as another one.
    ("GET", "/pets/../admin", ""),
    ("GET", "/pets/%2e%2e/admin", ""),
    ("GET", "/pets/%2e%2e%2fadmin", ""),
    ("GET", "/pets/%252e%252e%252fadmin", ""),
    ("GET", "/pets/..%5cadmin", ""),
    ("GET", "/pets/..;/admin", ""),
    ("GET", "/pets/..%c0%afadmin", ""),
    ("GET", "//admin", ""),
    ("GET", "/pets/./../admin", ""),
    ("GET", "/pets/%00/../../admin", ""),
    ("GET", "http://api.example/admin", ""),
];

/// Requests of 127.0.0.1 that must reach it.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("GET", "/pets/1", ""),
    ("GET", "/pets/1?from=/admin", ""),
    ("GET", "/pets/a%20b", ""),
    ("HEAD", "/pets/1", ""),
    ("GET", "/pets/1", "User-Agent: curl/8.5\r\nReferer: x\r\n"),
];

/// A proxy, and the configuration that we ship for it.
struct Proxy {
    name: &'static str,
    snippet: &'static str,
    /// How the snippet says where to listen.
    port: &'static str,
    /// How it says to listen here.
    there: fn(SocketAddr) -> String,
    /// How to run it in this folder by this configuration.
    command: fn(&Path, &str) -> Command,
    /// Whether it names a client on this host by another address than that of its connection.
    renames_local_clients: bool,
}

#[test]
fn nginx_asks() {
    converse(&Proxy {
        name: "nginx",
        snippet: "nginx.conf",
        port: "listen 80;",
        there: |front| format!("listen {front};"),
        command: |home, text| {
            let text = format!(
                "daemon off; master_process off; pid {0}/pid; error_log stderr;\n\
                 events {{ }}\nhttp {{ access_log off;\n\
                 client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
                 uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n{text}\n}}\n",
                home.display()
            );
            let file = written(home, "nginx.conf", &text);
            let mut command = NGINX.command().unwrap();
            command.arg("-p").arg(home).arg("-c").arg(file);
            command.args(["-e", "stderr"]);
            command
        },
        renames_local_clients: false,
    });
}

#[test]
fn haproxy_asks() {
    converse(&Proxy {
        name: "haproxy",
        snippet: "haproxy.cfg",
        port: "bind :80",
        there: |front| format!("bind {front}"),
        command: |home, text| {
            let messages =
                fs::read_to_string(Path::new(SNIPPETS).join("haproxy-spoe.conf")).unwrap();
            let messages = written(home, "haproxy-spoe.conf", &messages);
            let here = messages.display().to_string();
            let text = replaced(text, "/etc/haproxy/haproxy-spoe.conf", &here);
            let file = written(home, "haproxy.cfg", &text);
            let mut command = HAPROXY.command().unwrap();
            command.arg("-db").arg("-f").arg(file);
            command
        },
        renames_local_clients: false,
    });
}

#[test]
fn caddy_asks() {
    converse(&Proxy {
        name: "caddy",
        snippet: "Caddyfile",
        port: ":80 {",
        // Caddy answers 200, and nothing else, to a host that it does not know.
        there: |front| format!(":{} {{\n\tbind {}", front.port(), front.ip()),
        command: |home, text| {
            let file = written(home, "Caddyfile", &format!("{{\n\tadmin off\n}}\n{text}"));
            let mut command = CADDY.command().unwrap();
            command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(file);
            command.env("HOME", home).env("XDG_DATA_HOME", home);
            command.env("XDG_CONFIG_HOME", home);
            command
        },
        renames_local_clients: false,
    });
}

#[test]
fn envoy_asks_by_grpc() {
    converse(&Proxy {
        name: "envoy, gRPC",
        snippet: "envoy.yaml",
        port: ENVOY_PORT,
        there: envoy_listens,
        command: run_envoy,
        renames_local_clients: false,
    });
}

#[test]
fn envoy_asks_by_http() {
    converse(&Proxy {
        name: "envoy, HTTP",
        snippet: "envoy-http.yaml",
        port: ENVOY_PORT,
        there: envoy_listens,
        command: run_envoy,
        renames_local_clients: true,
    });
}

const ENVOY_PORT: &str = "{ address: 0.0.0.0, port_value: 80 }";

fn envoy_listens(front: SocketAddr) -> String {
    format!(
        "{{ address: {}, port_value: {} }}",
        front.ip(),
        front.port()
    )
}

fn run_envoy(home: &Path, text: &str) -> Command {
    let file = written(home, "envoy.yaml", text);
    let mut command = ENVOY.command().unwrap();
    command.arg("--config-path").arg(file);
    // Nothing that another one on this machine may have too.
    command.args(["--concurrency", "1", "--disable-hot-restart"]);
    command
}

/// Puts a proxy between us and an API, and tries it; then again when the service has been killed.
fn converse(proxy: &Proxy) {
    let mut service = Service::start(&policy(proxy), &json!({}), &json!({"stage": "prod"}));
    let api = api();
    let front = free();
    let text = fs::read_to_string(Path::new(SNIPPETS).join(proxy.snippet)).unwrap();
    let socket = service.socket().display().to_string();
    let text = replaced(&text, "/run/ipfilter-authorize/authorize.sock", &socket);
    let text = match api.port() {
        port if proxy.port == ENVOY_PORT => {
            replaced(&text, "port_value: 8080", &format!("port_value: {port}"))
        }
        _ => replaced(&text, "127.0.0.1:8080", &api.to_string()),
    };
    let text = replaced(&text, proxy.port, &(proxy.there)(front));
    let mut command = (proxy.command)(service.folder(), &text);
    let proxy = proxy.name;
    let log = service.folder().join("proxy.log");
    let output = fs::File::create(&log).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let mut running = Guard::spawn(&mut command).unwrap();
    wait(front, &mut running, &log);
    for &request in ALLOWED {
        let answer = try_one(front, request);
        let said = service.said();
        assert_eq!(
            answer.status, 200,
            "{proxy}: {request:?}: {answer:?}\n{said}"
        );
        if request.0 != "HEAD" {
            assert_eq!(answer.body, REACHED, "{proxy}: {request:?}");
        }
    }
    for &request in DENIED {
        let answer = try_one(front, request);
        let (method, path, header) = request;
        println!(
            "| {proxy} | {method} {path} | {} | {} |",
            header.trim_end(),
            answer.status
        );
        assert_ne!(answer.status, 200, "{proxy}: {request:?}: {answer:?}");
        assert!(
            !answer.body.contains(REACHED),
            "{proxy}: {request:?}: {answer:?}"
        );
    }
    let plain = try_one(front, ("GET", "/admin", ""));
    assert_eq!(plain.status, 403, "{proxy}: {plain:?}");
    assert!(
        plain.body.starts_with("{\"Message\":\""),
        "{proxy}: {plain:?}"
    );
    assert_eq!(
        plain.headers["x-amzn-errortype"], "ForbiddenException",
        "{proxy}"
    );
    for path in ["/pets/1", "/admin"] {
        println!("{}", shown(proxy, front, path));
    }
    killed(proxy, front, &mut service);
}

/// A conversation as a person has it.
fn shown(proxy: &str, front: SocketAddr, path: &str) -> String {
    let url = format!("http://{front}{path}");
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--include",
            "--noproxy",
            "*",
            &url,
        ])
        .output()
        .expect("curl, which is needed here: apt-get install curl");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    format!("{proxy}: curl -i {url}\n{said}\n")
}

/// Each guide page shows the very files that are tried here.
#[test]
fn the_guide_shows_what_is_tried() {
    let guide = Path::new(SNIPPETS).join("../../docs/guide/proxies");
    for (page, files) in [
        ("nginx", &["nginx.conf"][..]),
        ("caddy", &["Caddyfile"]),
        ("haproxy", &["haproxy.cfg", "haproxy-spoe.conf"]),
        ("envoy", &["envoy.yaml", "envoy-http.yaml"]),
        ("traefik", &["traefik.yaml"]),
    ] {
        let text = fs::read_to_string(guide.join(format!("{page}.md"))).unwrap();
        for file in files {
            let snippet = fs::read_to_string(Path::new(SNIPPETS).join(file)).unwrap();
            assert!(
                text.contains(snippet.trim_end()),
                "{page}.md differs from {file}"
            );
        }
    }
}

/// Kills the service while requests come in: none gets through that must not, and after it none at all.
fn killed(proxy: &str, front: SocketAddr, service: &mut Service) {
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let strangers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        let answer = try_one(front, ("GET", "/admin", ""));
                        assert_ne!(answer.status, 200, "{proxy}: {answer:?}");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for _ in 0..20 {
            try_one(front, ("GET", "/pets/1", ""));
        }
        service.guard.signal(Signal::KILL).unwrap();
        assert!(service.guard.wait(PATIENCE).unwrap().is_some());
        for _ in 0..20 {
            let answer = try_one(front, ("GET", "/pets/1", ""));
            assert_ne!(
                answer.status, 200,
                "{proxy} without the service: {answer:?}"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for stranger in strangers {
            assert!(stranger.join().unwrap() > 0);
        }
    });
}

fn policy(proxy: &Proxy) -> Value {
    let mut here = json!({"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}});
    if proxy.renames_local_clients {
        here = json!({"NotIpAddress": {"aws:SourceIp": "203.0.113.9/32"}});
    }
    let allow = |resource: &str, condition: Value| {
        json!({
            "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": resource,
            "Condition": condition,
        })
    };
    json!({"Version": "2012-10-17", "Statement": [
        allow("execute-api:/prod/GET/pets/*", here.clone()),
        allow("execute-api:/prod/HEAD/pets/*", here),
        allow(
            "execute-api:/prod/GET/partner/*",
            json!({"IpAddress": {"aws:SourceIp": "203.0.113.9/32"}}),
        ),
        {
            "Sid": "Admin", "Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": ["execute-api:/prod/*/admin", "execute-api:/prod/*/admin/*"],
        },
    ]})
}

/// An API that answers 200 to everything.
fn api() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            thread::spawn(move || {
                let lines = BufReader::new(&stream).lines();
                let lines = lines.map_while(Result::ok);
                let _: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let length = REACHED.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{REACHED}"
                );
                let _: std::io::Result<()> = stream.write_all(answer.as_bytes());
            });
        }
    });
    address
}

/// An address to listen at.
fn free() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn wait(front: SocketAddr, running: &mut Guard, log: &Path) {
    let start = Instant::now();
    while TcpStream::connect(front).is_err() {
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(running.ended().unwrap().is_none(), "{said}");
        assert!(start.elapsed() < PATIENCE, "never listens: {said}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn try_one(front: SocketAddr, (method, target, headers): (&str, &str, &str)) -> Answer {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: api.example\r\n{headers}Connection: close\r\n\r\n"
    );
    ask(&mut stream, head.as_bytes()).unwrap_or_else(|error| panic!("{target}: {error}"))
}

fn written(home: &Path, name: &str, text: &str) -> PathBuf {
    let file = home.join(name);
    fs::write(&file, text).unwrap();
    file
}

/// `text` with `from`, which must be there, replaced.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the snippet does not say `{from}`");
    text.replace(from, to)
}
