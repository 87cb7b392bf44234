//! The other proxies than nginx: what they let through while the filter's process and the service are killed.

use rustix::process::Signal;
use testkit::{process::Guard, proxy::Proxy};

use super::site::{Site, policy};
use crate::lab::{GOOD, PATIENCE, wait_for};

/// Each proxy by the configuration that we ship, and its port.
const PROXIES: [(Proxy, &str, u16); 4] = [
    (Proxy::Caddy, "Caddyfile", 8001),
    (Proxy::Haproxy, "haproxy.cfg", 8002),
    (Proxy::Envoy, "envoy.yaml", 8003),
    (Proxy::Envoy, "envoy-http.yaml", 8004),
];

/// Killed under load, neither the filter's process nor the service lets a request through any proxy that it should
/// not: without the process the last plan stays, without the service nothing is let through.
#[test]
fn no_proxy_lets_anything_through_that_it_should_not_when_either_is_killed() {
    let site = Site::new("proxies");
    site.lab.write("policy.json", policy("old"));
    let mut daemon = site.daemon();
    let mut service = site.service("service", super::SERVICE);
    let proxies = PROXIES.map(|(proxy, snippet, port)| site.proxy(proxy, snippet, port));
    let ports = PROXIES.map(|(.., port)| port);
    let decides = |by: &str| {
        let not = if by == "old" { "new" } else { "old" };
        for port in ports {
            assert_eq!(site.get_at(port, &format!("/{by}/1")), 200, "at {port}");
            assert_eq!(site.get_at(port, &format!("/{not}/1")), 403, "at {port}");
        }
        assert_eq!(traefik(&site, &format!("/{by}/1")), 200);
        assert_eq!(traefik(&site, &format!("/{not}/1")), 403);
    };
    site.under_load_at(&ports, || {
        decides("old");
        // What the files say by then is not what was deployed last.
        site.lab.write("policy.json", policy("new"));
        kill(&mut daemon);
        site.lab.wait_log("service", "stay in force", 1);
        decides("old");
        daemon = site.daemon();
        wait_for("the service follows the next process", || {
            traefik(&site, "/new/1") == 200
        });
        decides("new");
        kill(&mut service);
        for port in ports {
            for path in ["/new/1", "/old/1", "/admin"] {
                assert_ne!(site.get_at(port, path), 200, "{path} at {port}");
            }
        }
        service = site.service("again", super::SERVICE);
        for port in ports {
            wait_for("each proxy asks the new one", || {
                site.get_at(port, "/new/1") == 200
            });
        }
        decides("new");
    });
    drop((proxies, service));
    site.lab.detach(daemon);
}

fn kill(one: &mut Guard) {
    one.signal(Signal::KILL).expect("it runs");
    one.wait(PATIENCE).expect("it ends");
}

/// What Traefik is answered, which documents what it sends.
fn traefik(site: &Site, path: &str) -> u16 {
    let client = GOOD[0].split('/').next().expect("an address");
    site.ask(&format!(
        "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\nX-Forwarded-For: {client}\r\n\
         X-Forwarded-Host: api\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Port: 80\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Server: traefik\r\nX-Forwarded-Uri: {path}\r\n\r\n"
    ))
}
