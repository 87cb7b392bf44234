//! Real clients against the real filter, on a network of namespaces.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use testkit::{
    netns::{HOST, Namespace},
    process::output,
};

use crate::lab::{Answer, Lab, PATIENCE, ask, curl, inside, shipped, urls, wait_for};

const MODES: [&str; 3] = ["native", "tc", "generic"];

/// curl's exit code (manual page of curl, "EXIT CODES").
const REFUSED: i32 = 7;

#[test]
fn every_client_meets_every_action_in_every_mode() {
    let lab = Lab::new("actions");
    for mode in MODES {
        every_client_meets_every_action(&lab, mode, &shipped("allow-list.json"));
    }
    for url in urls("http") {
        let got = curl(&lab.network.denied, &[&url]);
        assert_eq!(got, (Some(0), "200".into()), "{url}, without a filter");
    }
}

/// In both families, by a policy that lets the allowed client in, and the other not.
pub(crate) fn every_client_meets_every_action(lab: &Lab, mode: &str, policy: &str) {
    let forbidden = Answer::Status("403".to_owned());
    for (deny, want, exit) in [
        ("drop", Answer::Silence, None),
        ("reject", Answer::Refused, Some(REFUSED)),
        ("respond", forbidden, Some(0)),
    ] {
        let filter = lab.filter(&["--policy", policy, "--mode", mode, "--deny", deny]);
        for (host, url) in [HOST.v4, HOST.v6].into_iter().zip(urls("http")) {
            let (code, status) = curl(&lab.network.allowed, &[&url]);
            let got = (code, status.as_str());
            assert_eq!(got, (Some(0), "200"), "{mode} {deny} {url}, allowed");
            let got = ask(&lab.network.denied, host);
            assert_eq!(got, want, "{mode} {deny} {url}, denied");
            // curl would wait for who is silent.
            if exit.is_some() {
                let got = curl(&lab.network.denied, &[&url]);
                assert_eq!(got, (exit, want.clone().status()), "{mode} {deny} {url}");
            }
        }
        lab.detach(filter);
    }
}

/// Every way of asking gets its 403, and every client notices at once.
#[test]
fn clients_understand_the_response() {
    let lab = Lab::new("respond");
    let megabyte = format!("@{}", lab.write("megabyte", vec![b'x'; 1 << 20]));
    let denied = &lab.network.denied;
    for mode in MODES {
        let policy = shipped("allow-list.json");
        let filter = lab.filter(&["--policy", &policy, "--mode", mode, "--deny", "respond"]);
        for url in urls("http") {
            for (arguments, want) in [
                (&[url.as_str()][..], "403"),
                (&["-I", &url], "403"),
                (&["-IX", "GET", &url], "403"),
                (&["--data-binary", &megabyte, &url], "403"),
                (&["-H", "Expect:", "--data-binary", &megabyte, &url], "403"),
                (&["-X", "DELETE", &url], "403"),
                (&[&url, "--output", "/dev/null", &url], "403 403"),
            ] {
                // At once, unless the machine is busy: then not every time.
                let at_once = (0..5).any(|_| {
                    let start = Instant::now();
                    let got = curl(denied, arguments);
                    assert_eq!(got, (Some(0), want.into()), "{mode} {arguments:?}");
                    start.elapsed() < Duration::from_secs(4)
                });
                assert!(at_once, "{mode} {arguments:?}");
            }
            assert_eq!(python(denied, &url), "403", "{mode} {url}");
            assert_no_body(denied, &url);
        }
        for url in urls("https") {
            let mut curl = denied.command("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--insecure",
                "--noproxy",
                "*",
                &url,
            ]);
            let said = complaint(&mut curl);
            assert!(said.contains("alert access denied"), "{mode} {url}: {said}");
        }
        for address in [format!("{}:80", HOST.v4), format!("[{}]:80", HOST.v6)] {
            let mut client = denied.command("openssl");
            let said = complaint(client.args(["s_client", "-connect", &address]));
            assert!(
                said.contains("alert access denied"),
                "{mode} {address}: {said}"
            );
        }
        lab.detach(filter);
    }
}

/// The answer to a HEAD ends with its headers. curl would not report it, so it is made to expect a body.
fn assert_no_body(client: &Namespace, url: &str) {
    let mut curl = client.command("curl");
    curl.args([
        "--silent",
        "--noproxy",
        "*",
        "--include",
        "--ignore-content-length",
    ]);
    let said = output(curl.args(["-X", "HEAD", "--max-time", "120", url])).expect("curl asks");
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
    assert!(said.ends_with("\r\n\r\n"), "{said}");
}

/// What a command that fails says.
fn complaint(command: &mut std::process::Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The status that Python's own HTTP client reads.
fn python(client: &Namespace, url: &str) -> String {
    const ASK: &str = "import sys, urllib.request, urllib.error
try: print(urllib.request.urlopen(sys.argv[1], timeout=120).status)
except urllib.error.HTTPError as error: print(error.code)";
    let mut python = client.command("python3");
    let said = output(python.args(["-c", ASK, url]).env("no_proxy", "*"));
    said.expect("python3 asks").trim().to_owned()
}

/// Many connections at once, for a while: nothing but 403s, and no socket stays stuck after.
#[test]
fn many_clients_at_once_leave_no_socket_behind() {
    const CLIENTS: usize = 64;
    let lab = Lab::new("many");
    let policy = shipped("allow-list.json");
    let filter = lab.filter(&["--policy", &policy, "--mode", "native", "--deny", "respond"]);
    let denied = &lab.network.denied;
    let until = Instant::now() + Duration::from_secs(3);
    let answers: usize = thread::scope(|scope| {
        let ask = |number| move || ask_until(number, until);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| inside(scope, denied, ask(number)))
            .collect();
        let ended = clients
            .into_iter()
            .map(|client| client.join().expect("403s"));
        ended.sum()
    });
    assert!(answers > CLIENTS, "{answers}");
    // A client sends what was not acknowledged once more before it learns that it is over: after 3
    // seconds if its SYN had got lost (RFC 6298, section 5.7), later if that gets lost too.
    wait_for(
        &format!("the last socket's end, after {answers} answers"),
        || sockets(denied).is_empty(),
    );
    lab.detach(filter);
}

/// Asks again and again, over either family, and counts the answers.
fn ask_until(number: usize, until: Instant) -> usize {
    let host = [HOST.v4, HOST.v6][number % 2];
    let host = SocketAddr::new(host.parse().expect("an address"), 80);
    let mut answers = 0;
    while answers < 2 || Instant::now() < until {
        let mut stream = TcpStream::connect_timeout(&host, PATIENCE).expect("a SYN-ACK");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            .expect("room");
        let mut said = String::new();
        stream
            .read_to_string(&mut said)
            .expect("an answer and its end");
        assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
        answers += 1;
    }
    answers
}

/// The namespace's TCP sockets, but for those that only wait for their number to be free again.
fn sockets(namespace: &Namespace) -> Vec<String> {
    let mut ss = namespace.command("ss");
    let listed = output(ss.args(["-tanH"])).expect("ss lists sockets");
    let lines = listed.lines().filter(|line| !line.starts_with("TIME-WAIT"));
    lines.map(str::to_owned).collect()
}
