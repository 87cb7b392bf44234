//! Real proxies, configured by the snippets that are shipped, between a client and an API.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{process::Guard, proxy::Proxy};

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
struct Tried {
    name: &'static str,
    proxy: Proxy,
    snippet: &'static str,
    /// Whether it names a client on this host by another address than that of its connection.
    renames_local_clients: bool,
}

#[test]
fn nginx_asks() {
    converse(&Tried {
        name: "nginx",
        proxy: Proxy::Nginx,
        snippet: "nginx.conf",
        renames_local_clients: false,
    });
}

#[test]
fn haproxy_asks() {
    converse(&Tried {
        name: "haproxy",
        proxy: Proxy::Haproxy,
        snippet: "haproxy.cfg",
        renames_local_clients: false,
    });
}

#[test]
fn caddy_asks() {
    converse(&Tried {
        name: "caddy",
        proxy: Proxy::Caddy,
        snippet: "Caddyfile",
        renames_local_clients: false,
    });
}

#[test]
fn envoy_asks_by_grpc() {
    converse(&Tried {
        name: "envoy, gRPC",
        proxy: Proxy::Envoy,
        snippet: "envoy.yaml",
        renames_local_clients: false,
    });
}

#[test]
fn envoy_asks_by_http() {
    converse(&Tried {
        name: "envoy, HTTP",
        proxy: Proxy::Envoy,
        snippet: "envoy-http.yaml",
        renames_local_clients: true,
    });
}

/// The snippet that we ship, with these places instead of its own.
fn configured(
    tried: &Tried,
    home: &Path,
    socket: &Path,
    api: SocketAddr,
    front: SocketAddr,
) -> String {
    let read = |name| fs::read_to_string(Path::new(SNIPPETS).join(name)).unwrap();
    let socket = socket.display().to_string();
    let text = replaced(
        &read(tried.snippet),
        "/run/ipfilter-authorize/authorize.sock",
        &socket,
    );
    let text = match tried.proxy {
        Proxy::Envoy => {
            let port = format!("port_value: {}", api.port());
            replaced(&text, "port_value: 8080", &port)
        }
        _ => replaced(&text, "127.0.0.1:8080", &api.to_string()),
    };
    let text = match tried.proxy {
        Proxy::Haproxy => {
            let messages = home.join("haproxy-spoe.conf");
            fs::write(&messages, read("haproxy-spoe.conf")).unwrap();
            let messages = messages.display().to_string();
            replaced(&text, "/etc/haproxy/haproxy-spoe.conf", &messages)
        }
        _ => text,
    };
    tried.proxy.listening(&text, front).unwrap()
}

/// Puts a proxy between us and an API, and tries it; then again when the service has been killed.
fn converse(tried: &Tried) {
    let mut service = Service::start(&policy(tried), &json!({}), &json!({"stage": "prod"}));
    let front = free();
    let text = configured(tried, service.folder(), &service.socket(), api(), front);
    let mut command = tried.proxy.command(service.folder(), &text).unwrap();
    let proxy = tried.name;
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

fn policy(tried: &Tried) -> Value {
    let mut here = json!({"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}});
    if tried.renames_local_clients {
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

/// `text` with `from`, which must be there, replaced.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the snippet does not say `{from}`");
    text.replace(from, to)
}
