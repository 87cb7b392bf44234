//! What no proxy should send: answered with a refusal or by the end of the connection, never with an allow, and
//! in bounded memory.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Command,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with},
    process::{Resource, getrlimit, setrlimit},
};
use serde_json::{Value, json};

use crate::service::{Service, ask};

const PATIENCE: Duration = Duration::from_secs(60);

/// What the service may take in all, whatever is thrown at it.
const MOST_MEMORY: u64 = 256 << 20;

#[test]
fn bad_input_is_never_allowed() {
    let service = Service::start(&policy(), &json!({}), &json!({"stage": "prod"}));
    let line = "GET /pets/1 HTTP/1.1\r\nHost: api\r\n";
    let client = "X-Forwarded-For: 127.0.0.1\r\n";
    for (what, input) in [
        (
            "header flood",
            format!("{line}{client}{}\r\n", headers(100)),
        ),
        (
            "header of 1 MiB",
            format!("{line}{client}A: {}\r\n\r\n", "x".repeat(1 << 20)),
        ),
        (
            "path of 1 MiB",
            format!("GET /pets/{} HTTP/1.1\r\n{client}\r\n", "x".repeat(1 << 20)),
        ),
        ("no client", format!("{line}\r\n")),
        (
            "HTTP/1.0 without a client",
            "GET /pets/1 HTTP/1.0\r\n\r\n".into(),
        ),
        ("HTTP/0.9", "GET /pets/1\r\n\r\n".into()),
        ("HTTP/9", format!("GET /pets/1 HTTP/9.9\r\n{client}\r\n")),
        ("no HTTP", "\u{1}\u{2}\u{3} hello\r\n\r\n".into()),
        (
            "HTTP/2 and then none",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage that is no frame".into(),
        ),
        (
            "a line that is folded",
            format!("{line}X-Forwarded-For: 10.0.0.1\r\n 127.0.0.1\r\n\r\n"),
        ),
        (
            "a body that is not there",
            format!("{line}{client}Content-Length: 5\r\n"),
        ),
        (
            "two lengths",
            format!("{line}{client}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ),
        (
            "a space before the colon",
            format!("{line}X-Forwarded-For : 127.0.0.1\r\n\r\n"),
        ),
        (
            "NUL in a header",
            format!("{line}X-Forwarded-For: 127.0.0.1\0\r\n\r\n"),
        ),
        (
            "CONNECT",
            format!("CONNECT pets:1 HTTP/1.1\r\n{client}\r\n"),
        ),
        ("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\n{client}\r\n")),
        (
            "a method of its own",
            format!("get /pets/1 HTTP/1.1\r\n{client}\r\n"),
        ),
    ] {
        refused(&service, what, input.as_bytes());
    }
    for hops in [
        "garbage",
        "127.0.0.1:",
        "127.0.0.1:99999",
        "127.0.0.1 127.0.0.1",
        "[127.0.0.1]",
        "0x7f.1",
        "2130706433",
        "127.1",
        "::1%lo",
        "fe80::1%eth0",
        "[::1",
        "unknown",
        "_hidden",
        "\"127.0.0.1\"",
        "127.0.0.1, 203.0.113.7",
        "127.0.0.1,unknown",
        "0127.0.0.1",
        "١٢٧.0.0.1",
    ] {
        let input = format!("{line}X-Forwarded-For: {hops}\r\n\r\n");
        refused(&service, hops, input.as_bytes());
    }
    let many = format!(
        "{line}X-Forwarded-For: {}203.0.113.7\r\n\r\n",
        "127.0.0.1, ".repeat(500)
    );
    refused(&service, "500 hops", many.as_bytes());
    // It is well, and a client behind many others is who it is.
    for input in [
        format!(
            "{line}X-Forwarded-For: {}127.0.0.1\r\n\r\n",
            "203.0.113.7, ".repeat(500)
        ),
        format!("{line}X-Forwarded-For: 127.0.0.1:4711\r\n\r\n"),
        format!("GET /pets/1 HTTP/1.0\r\n{client}\r\n"),
    ] {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        assert_eq!(
            ask(&mut stream, input.as_bytes()).unwrap().status,
            200,
            "{input}"
        );
    }
    memory(&service);
}

/// HTTP/2 without an upgrade is understood, as Envoy speaks it, and decides as HTTP/1.1 does.
#[test]
fn http_2_with_prior_knowledge_gets_the_same_answers() {
    let service = Service::start(&policy(), &json!({}), &json!({"stage": "prod"}));
    for (path, header, wanted) in [
        ("/pets/1", "X-Forwarded-For: 127.0.0.1", "200"),
        ("/admin", "X-Forwarded-For: 127.0.0.1", "403"),
        ("/pets/1", "X-Forwarded-For: 203.0.113.7", "403"),
        ("/pets/1", "X-Forwarded-For: 127.0.0.1, garbage", "403"),
        ("/pets/1", "X-Nothing: 1", "403"),
    ] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--http2-prior-knowledge"])
            .args([
                "--max-time",
                "60",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ])
            .args(["--path-as-is", "--header", header, "--unix-socket"])
            .arg(service.socket())
            .arg(format!("http://api{path}"))
            .output()
            .expect("curl, which is needed here: apt-get install curl");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said, wanted, "{path} {header}");
    }
    // More headers than fit, on one connection.
    let many: Vec<String> = (0..2000)
        .map(|number| format!("X-Flood-{number}: {number}"))
        .collect();
    let mut command = Command::new("curl");
    command.args(["--silent", "--http2-prior-knowledge", "--max-time", "60"]);
    command.args([
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--unix-socket",
    ]);
    command
        .arg(service.socket())
        .args(["--header", "X-Forwarded-For: 127.0.0.1"]);
    for header in &many {
        command.args(["--header", header]);
    }
    let output = command.arg("http://api/pets/1").output().expect("curl");
    assert_ne!(String::from_utf8_lossy(&output.stdout), "200");
    memory(&service);
}

/// `Cache-Control: max-age=0` asks API Gateway's cache for a fresh answer, which takes another permission. There
/// is no such cache here, so requests are judged as calls alone.
#[test]
fn permission_to_invalidate_a_cache_allows_no_call() {
    let with = |action: &str, effect: &str| {
        json!({
            "Effect": effect, "Principal": "*", "Resource": "execute-api:/*",
            "Action": format!("execute-api:{action}"),
        })
    };
    for (statements, wanted) in [
        (json!([with("InvalidateCache", "Allow")]), 403),
        (
            json!([with("Invoke", "Allow"), with("InvalidateCache", "Deny")]),
            200,
        ),
        (json!([with("*", "Allow"), with("Invoke", "Deny")]), 403),
    ] {
        let policy = json!({"Version": "2012-10-17", "Statement": statements});
        let service = Service::start(&policy, &json!({}), &json!({"stage": "prod"}));
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        let head = "GET /pets/1 HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 127.0.0.1\r\n\
                    Cache-Control: max-age=0\r\n\r\n";
        assert_eq!(
            ask(&mut stream, head.as_bytes()).unwrap().status,
            wanted,
            "{policy}"
        );
    }
}

#[test]
fn lying_frames_of_haproxy_end_the_connection() {
    let service = Service::start(&policy(), &json!({}), &json!({"stage": "prod"}));
    let frame = |kind: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len() + 1).unwrap().to_be_bytes();
        [&length[..], &[kind], payload].concat()
    };
    let hello = {
        let mut text = vec![0, 0, 0, 1, 0, 0];
        for (key, value) in [("supported-versions", "2.0"), ("capabilities", "")] {
            text.extend([&[u8::try_from(key.len()).unwrap()], key.as_bytes(), &[8]].concat());
            text.extend([&[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat());
        }
        frame(1, &text)
    };
    for (what, input) in [
        ("a frame of 16 MiB", vec![0, 0xff, 0xff, 0xff, 1]),
        ("an empty frame", vec![0, 0, 0, 0]),
        (
            "a kind that there is none of",
            frame(77, &[0, 0, 0, 1, 0, 0]),
        ),
        ("a greeting of zeros", frame(1, &[0; 64])),
        ("a greeting that lacks the size", hello),
        (
            "a string longer than its frame",
            frame(1, &[0, 0, 0, 1, 0, 0, 250, b'x']),
        ),
        (
            "a number that never ends",
            frame(3, &[0, 0, 0, 1, 1, 1, 8, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "messages that are not there",
            frame(3, &[0, 0, 0, 1, 1, 1, 8, b'i', b'p', 0xf0, 0xff]),
        ),
        ("a frame cut off", vec![0, 0, 0, 90, 1, 0, 0]),
    ] {
        let answer = sent(&service, &input);
        let text = String::from_utf8_lossy(&answer);
        // `allowed`, of the transaction, a boolean that is true.
        assert!(!text.contains("allowed\u{11}"), "{what}: {text}");
    }
    memory(&service);
}

#[test]
fn garbage_in_place_of_grpc_is_no_permission() {
    let service = Service::start(&policy(), &json!({}), &json!({"stage": "prod"}));
    let body = service.folder().join("body");
    for (what, content) in [
        ("nothing", vec![]),
        ("an empty message", vec![0, 0, 0, 0, 0]),
        ("garbage", [&[0, 0, 0, 0, 90][..], &[0xff; 90]].concat()),
        ("a length that lies", vec![0, 0xff, 0xff, 0xff, 0xff, 1]),
        ("compressed by nothing", vec![1, 0, 0, 0, 1, 1]),
        (
            "1 MiB",
            [&[0, 0, 0x10, 0, 0][..], &vec![10; 1 << 20]].concat(),
        ),
        (
            "nested without end",
            [&[0, 0, 0, 3, 0xe8][..], &[10; 1000]].concat(),
        ),
    ] {
        fs::write(&body, content).unwrap();
        let output = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--include",
                "--http2-prior-knowledge",
            ])
            .args(["--max-time", "60", "--unix-socket"])
            .arg(service.socket())
            .args([
                "--header",
                "content-type: application/grpc",
                "--header",
                "te: trailers",
            ])
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg("http://api/envoy.service.auth.v3.Authorization/Check")
            .output()
            .expect("curl, which is needed here: apt-get install curl");
        let said = String::from_utf8_lossy(&output.stdout);
        // An answer in a message is a denial: its status is not 0, and its response is 403.
        let denied = said.contains("Forbidden");
        assert!(!said.contains("allowed"), "{what}: {said}");
        assert!(denied || !said.contains("grpc-status: 0"), "{what}: {said}");
    }
    memory(&service);
}

/// Clients that take their time keep nobody else waiting, and as many as there can be take bounded memory.
#[test]
fn ten_thousand_connections_are_borne() {
    let service = Service::start(&policy(), &json!({}), &json!({"stage": "prod"}));
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let room = limit
        .maximum
        .map_or(10_000, |most| most.saturating_sub(200).min(10_000));
    let address = SocketAddrUnix::new(service.socket()).unwrap();
    let head = b"GET /pets/1 HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Slow: ";
    let start = Instant::now();
    let mut open = Vec::new();
    let mut waiting = 0;
    for _ in 0..room {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        match connect(&socket, &address) {
            Ok(()) => {
                let _: rustix::io::Result<usize> = rustix::io::write(&socket, head);
                open.push(socket);
            }
            // The kernel's queue is full.
            Err(Errno::AGAIN) => waiting += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!(
        "{} connections, {waiting} turned away, {:?}",
        open.len(),
        start.elapsed()
    );
    assert!(open.len() > 1000, "{}", open.len());
    memory(&service);
    // Others are answered as soon as some are gone, and while many are there.
    open.truncate(1000);
    let input = "GET /pets/1 HTTP/1.1\r\nHost: api\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n";
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&mut stream, input.as_bytes()).unwrap().status, 200);
    memory(&service);
}

fn policy() -> Value {
    json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
        "Resource": "execute-api:/prod/GET/pets/*",
        "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}},
    }})
}

fn headers(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        write!(text, "X-Flood-{number}: 1\r\n").unwrap();
        text
    })
}

fn refused(service: &Service, what: &str, input: &[u8]) {
    let answer = sent(service, input);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(
        !answer.starts_with("HTTP/") || status != "200",
        "{what}: {answer}"
    );
}

/// What comes back for `input`, to the end.
fn sent(service: &Service, input: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be cut off before all is written.
    let _: std::io::Result<()> = stream.write_all(input);
    let _: std::io::Result<()> = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _: std::io::Result<usize> = stream.read_to_end(&mut answer);
    answer
}

/// The service runs, and has not grown without bounds.
fn memory(service: &Service) {
    let status = fs::read_to_string(format!("/proc/{}/status", service.guard.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let peak = peak.unwrap_or_else(|| panic!("it has ended: {}", service.said())) << 10;
    println!("{} MiB at most", peak >> 20);
    assert!(peak < MOST_MEMORY, "{} MiB", peak >> 20);
}
