//! The shipped policies for a service behind a proxy do what their names say.

use std::{fs, os::unix::net::UnixStream, path::Path};

use serde_json::{Value, json};

use crate::service::{Service, ask};

const OFFICE: &str = "198.51.100.7";
const OFFICE_6: &str = "2001:db8:100::7";
const PARTNER: &str = "203.0.113.7";
const STRANGER: &str = "192.0.2.7";

/// A request: who, what, and a header; and the answer's status.
type Case = (&'static str, &'static str, &'static str, &'static str, u16);

fn check(name: &str, cases: &[Case]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../policies")
        .join(name);
    let policy: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let service = Service::start(&policy, &json!({}), &json!({"stage": "prod"}));
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    for (source, method, path, header, wanted) in cases {
        let head = format!(
            "GET / HTTP/1.1\r\nHost: api.example\r\nX-Forwarded-For: {source}\r\n\
             X-Original-Method: {method}\r\nX-Original-URI: {path}\r\n{header}\r\n"
        );
        let answer = ask(&mut stream, head.as_bytes()).unwrap();
        assert_eq!(
            answer.status, *wanted,
            "{name}: {source} {method} {path} {header}: {answer:?}"
        );
    }
}

#[test]
fn behind_a_load_balancer() {
    check(
        "behind-a-load-balancer.json",
        &[
            (STRANGER, "GET", "/pets", "", 200),
            (STRANGER, "HEAD", "/", "", 200),
            (STRANGER, "POST", "/pets", "", 403),
            (STRANGER, "GET", "/admin", "", 403),
            (STRANGER, "GET", "/admin/users", "", 403),
            (STRANGER, "GET", "/pets/%2e%2e/admin/users", "", 403),
            (OFFICE, "POST", "/pets", "", 200),
            (OFFICE_6, "DELETE", "/admin/users/1", "", 200),
        ],
    );
}

#[test]
fn only_these_methods_from_there() {
    check(
        "methods-by-source.json",
        &[
            (PARTNER, "GET", "/pets", "", 200),
            (PARTNER, "POST", "/orders", "", 200),
            (PARTNER, "POST", "/orders/1", "", 403),
            (PARTNER, "DELETE", "/orders", "", 403),
            (OFFICE, "DELETE", "/orders", "", 200),
            (STRANGER, "GET", "/pets", "", 403),
        ],
    );
}

#[test]
fn the_health_check_is_open_to_all() {
    check(
        "health-check.json",
        &[
            (STRANGER, "GET", "/health", "", 200),
            (STRANGER, "GET", "/health?verbose", "", 200),
            (STRANGER, "POST", "/health", "", 403),
            (STRANGER, "GET", "/health/../pets", "", 403),
            (STRANGER, "GET", "/healthy", "", 403),
            (OFFICE, "GET", "/pets", "", 200),
        ],
    );
}

#[test]
fn acme_challenges_stay_open() {
    let token = "/.well-known/acme-challenge/DGyRejmCefe7v4NfDGDKfA";
    check(
        "acme-challenges.json",
        &[
            (STRANGER, "GET", token, "", 200),
            (STRANGER, "GET", "/.well-known/security.txt", "", 403),
            (
                STRANGER,
                "GET",
                "/.well-known/acme-challenge/../../pets",
                "",
                403,
            ),
            (
                STRANGER,
                "GET",
                "/.well-known/acme-challenge/..%2f..%2fpets",
                "",
                403,
            ),
            (OFFICE_6, "GET", "/pets", "", 200),
        ],
    );
}

#[test]
fn only_through_this_cdn() {
    let secret = "Referer: put-a-long-random-text-here\r\n";
    check(
        "behind-a-cdn.json",
        &[
            (STRANGER, "GET", "/pets", secret, 200),
            (STRANGER, "GET", "/pets", "", 403),
            (
                STRANGER,
                "GET",
                "/pets",
                "Referer: https://example.org/\r\n",
                403,
            ),
            (
                OFFICE,
                "GET",
                "/pets",
                "Referer: Put-A-Long-Random-Text-Here\r\n",
                403,
            ),
        ],
    );
}
