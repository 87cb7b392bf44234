//! Traefik's forwardAuth, replayed: the requests that its documentation describes, as `traefik.yaml` has them.

use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::service::{Service, ask};

/// What Traefik sends for a request: the client's headers that it is to hand on, and its own.
fn head(method: &str, uri: &str, from: &str, proto: &str, handed_on: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:9478\r\nUser-Agent: curl/8.5\r\n{handed_on}\
         X-Forwarded-For: {from}\r\nX-Forwarded-Host: api.example\r\nX-Forwarded-Method: {method}\r\n\
         X-Forwarded-Port: 80\r\nX-Forwarded-Proto: {proto}\r\nX-Forwarded-Server: traefik\r\n\
         X-Forwarded-Uri: {uri}\r\nAccept-Encoding: gzip\r\n\r\n"
    )
}

#[test]
fn traefik_gets_its_answers() {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {
            "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": "execute-api:/prod/GET/pets/*",
            "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.9"}},
        },
        {
            "Sid": "Encrypted", "Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
            "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    ]});
    let service = Service::start(&policy, &json!({}), &json!({"stage": "prod"}));
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    let (good, bad) = ("203.0.113.9", "203.0.113.8");
    for (method, uri, from, proto, handed_on, wanted) in [
        ("GET", "/pets/1?a=b", good, "https", "", 200),
        (
            "GET",
            "/pets/1",
            good,
            "https",
            "Referer: https://api.example/\r\n",
            200,
        ),
        ("GET", "/pets/1", bad, "https", "", 403),
        ("POST", "/pets/1", good, "https", "", 403),
        ("GET", "/pets/1", good, "http", "", 403),
        ("GET", "/pets/../admin", good, "https", "", 403),
        ("GET", "/pets/%2e%2e/admin", good, "https", "", 403),
        // Without `authRequestHeaders` Traefik hands on what a client sends; that gains it nothing.
        (
            "POST",
            "/pets/1",
            good,
            "https",
            "X-Original-Method: GET\r\n",
            403,
        ),
        (
            "GET",
            "/admin",
            good,
            "https",
            "X-Original-URI: /pets/1\r\n",
            403,
        ),
        (
            "GET",
            "/pets/1",
            bad,
            "https",
            "X-Real-IP: 203.0.113.9\r\n",
            403,
        ),
        (
            "GET",
            "/pets/1",
            bad,
            "https",
            "Forwarded: for=203.0.113.9\r\n",
            403,
        ),
        (
            "GET",
            "/pets/1",
            bad,
            "https",
            "X-Forwarded-For: 203.0.113.9\r\n",
            403,
        ),
    ] {
        let head = head(method, uri, from, proto, handed_on);
        let answer = ask(&mut stream, head.as_bytes()).unwrap();
        assert_eq!(answer.status, wanted, "{head}: {answer:?}");
    }
}
