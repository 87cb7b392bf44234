//! What `export` writes, loaded by the programs that it is written for: they decide sources as we do.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use testkit::{
    netns::{Namespace, Network},
    process::{Guard, TICK},
    program::{CADDY, HAPROXY, IPSET, IPTABLES, NFT, NGINX, Program},
};

use super::Folder;
use crate::{
    corpus::{Case, EXACT, lines},
    lab::{PATIENCE, inside},
};

/// One policy in so many of the corpus is tried.
const EVERY: usize = 9;

/// Where the servers are, and who asks where nothing is denied.
const SERVER: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0, 0, 0, 1)),
];

/// The port of the first server.
const FIRST_PORT: u16 = 8000;

/// A policy as another program's configuration, and what each source is answered.
struct Export {
    name: String,
    text: String,
    answers: Vec<(IpAddr, bool)>,
}

/// Policies of the corpus in the form of `target`.
fn exports(folder: &Folder, target: &str) -> Vec<Export> {
    let cases = lines::<Case<'_>>(EXACT).step_by(EVERY).filter_map(|case| {
        folder.write("policy.json", case.policy.get());
        let output = folder.run(&["export", "--policy", "policy.json", "--to", target], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("can't say \"nobody\"") {
            return None;
        }
        assert!(output.status.success(), "{}: {said}", case.name);
        let answers = case.probes.iter().filter(|probe| can_send(probe.source));
        let answers = answers.map(|probe| (probe.source, probe.expected == "allow"));
        Some(Export {
            name: case.name.to_owned(),
            text: String::from_utf8(output.stdout).expect("UTF-8"),
            answers: answers.collect(),
        })
    });
    let exports: Vec<_> = cases.collect();
    let answers = || exports.iter().flat_map(|export| &export.answers);
    assert!(
        answers().filter(|(_, allow)| *allow).count() > 10,
        "{target}"
    );
    assert!(
        answers().filter(|(_, allow)| !*allow).count() > 10,
        "{target}"
    );
    exports
}

/// Whether a host can have this address, and send from it.
fn can_send(source: IpAddr) -> bool {
    match source {
        IpAddr::V4(source) => {
            let [first, ..] = source.octets();
            first != 0 && first < 224 && !source.is_loopback()
        }
        IpAddr::V6(source) => {
            let first = source.segments()[0];
            let embedded = source.to_ipv4().is_some();
            !embedded && !(0xfe80..=0xfebf).contains(&first) && first < 0xff00
        }
    }
}

/// A host of its own that has all of these addresses.
struct Host {
    namespace: Namespace,
    _network: Network,
}

impl Host {
    fn new(tag: &str, exports: &[Export]) -> Self {
        let mut network = Network::new(tag).expect("root");
        let namespace = network.add("host").expect("a namespace");
        let sources = exports.iter().flat_map(|export| &export.answers);
        let mut addresses: Vec<_> = sources.map(|(source, _)| *source).chain(SERVER).collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            let address = address.to_string();
            let add = ["address", "add", &address, "dev", "lo"];
            namespace
                .ip(add)
                .unwrap_or_else(|error| panic!("{error:#}"));
        }
        Self {
            namespace,
            _network: network,
        }
    }

    /// The program, to be run in this host.
    fn command(&self, program: Program) -> Command {
        let inner = program.command().expect("the program");
        let mut command = self.namespace.command(inner.get_program());
        command.args(inner.get_args());
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
    }

    /// Runs a program that reads `input`: whether it succeeds, and what it says.
    fn run(&self, program: Program, arguments: &[&str], input: &str) -> (bool, String) {
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // It may well end before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    }

    fn must(&self, program: Program, arguments: &[&str], input: &str) {
        let (done, said) = self.run(program, arguments, input);
        assert!(done, "{arguments:?}: {said}\n{input}");
    }

    fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            inside(scope, &self.namespace, what)
                .join()
                .expect("no panic")
        })
    }

    /// Which of the sources get a datagram through to the host.
    fn passing(&self, export: &Export) -> Vec<IpAddr> {
        self.inside(|| {
            let mut passing = Vec::new();
            for server in SERVER {
                let receiver = UdpSocket::bind((server, FIRST_PORT)).expect("a socket");
                receiver
                    .set_read_timeout(Some(PATIENCE))
                    .expect("a timeout");
                let of_family = |source: &IpAddr| source.is_ipv4() == server.is_ipv4();
                let wanted = export.answers.iter();
                let wanted = wanted
                    .filter(|(source, allow)| of_family(source) && *allow)
                    .count();
                let sources = export.answers.iter().map(|(source, _)| *source);
                for source in sources.filter(of_family).chain([server]) {
                    let sender = UdpSocket::bind((source, 0)).expect("a socket");
                    // What the firewall drops, some hooks report to the sender.
                    let _ = sender.send_to(b"?", (server, FIRST_PORT));
                }
                let (mut seen, mut ended) = (Vec::new(), false);
                while seen.len() < wanted || !ended {
                    let (_, from) = receiver.recv_from(&mut [0; 8]).expect("what must pass");
                    if from.ip() == server {
                        ended = true;
                    } else {
                        seen.push(from.ip());
                    }
                }
                passing.extend(seen);
            }
            passing
        })
    }

    fn check_passing(&self, export: &Export) {
        let mut passing = self.passing(export);
        let allowed = export.answers.iter().filter(|(_, allow)| *allow);
        let mut allowed: Vec<_> = allowed.map(|(source, _)| *source).collect();
        passing.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(passing, allowed, "{}\n{}", export.name, export.text);
    }
}

#[test]
fn nft_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "nft");
    let host = Host::new("nft", &exports);
    let [v4, v6] = SERVER;
    let hook = format!(
        "table inet ipfilter {{\n\tchain input {{\n\t\ttype filter hook input priority 0;\n\
         \t\tip saddr {v4} accept\n\t\tip6 saddr {v6} accept\n\t\tjump sources\n\t}}\n}}\n"
    );
    for export in &exports {
        host.must(
            NFT,
            &["-f", "-"],
            &format!("flush ruleset\n{}{hook}", export.text),
        );
        host.check_passing(export);
    }
}

#[test]
fn iptables_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "iptables");
    let host = Host::new("iptables", &exports);
    for export in &exports {
        for (tool, server) in ["iptables", "ip6tables"].into_iter().zip(SERVER) {
            let restore = format!("{tool}-restore");
            let begin =
                format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s {server} -j ACCEPT\nCOMMIT\n");
            host.must(IPTABLES, &[&restore], &begin);
            host.must(IPTABLES, &[&restore, "--noflush"], &export.text);
            host.must(IPTABLES, &[tool, "-A", "INPUT", "-j", "ipfilter"], "");
        }
        host.check_passing(export);
    }
}

#[test]
fn ipset_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "ipset");
    let host = Host::new("ipset", &exports);
    for export in &exports {
        host.must(IPSET, &["destroy"], "");
        host.must(IPSET, &["restore"], &export.text);
        for (source, allow) in &export.answers {
            let set = if source.is_ipv4() {
                "ipfilter4"
            } else {
                "ipfilter6"
            };
            let (found, said) = host.run(IPSET, &["test", set, &source.to_string()], "");
            let told = said.contains("is in set") || said.contains("is NOT in set");
            assert!(told, "{said}");
            assert_eq!(found, *allow, "{}: {source}: {said}", export.name);
        }
    }
}

/// Starts a server that has a port for each export, and asks it from each source.
fn serve(tag: &str, exports: &[Export], command: &dyn Fn(&Host) -> Command) {
    let host = Host::new(tag, exports);
    let log = tempfile(tag);
    let output = fs::File::create(&log).expect("a log");
    let mut command = command(&host);
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output);
    let mut running = Guard::spawn(&mut command).expect("it starts");
    host.inside(|| {
        for (port, export) in (FIRST_PORT..).zip(exports) {
            wait(SocketAddr::new(SERVER[0], port), &mut running, &log);
            for (source, allow) in &export.answers {
                let server = SERVER[usize::from(source.is_ipv6())];
                let status = get(*source, SocketAddr::new(server, port));
                let wanted = if *allow { "200" } else { "403" };
                let said = fs::read_to_string(&log).unwrap_or_default();
                assert_eq!(status, wanted, "{tag}: {}: {source}\n{said}", export.name);
            }
        }
    });
    drop(running);
    fs::remove_file(log).expect("a log");
}

fn tempfile(tag: &str) -> std::path::PathBuf {
    let name = format!("export-{}-{tag}.log", std::process::id());
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn wait(server: SocketAddr, running: &mut Guard, log: &Path) {
    let start = Instant::now();
    while TcpStream::connect(server).is_err() {
        let said = fs::read_to_string(log).unwrap_or_default();
        assert!(
            running.ended().expect("it can be asked").is_none(),
            "{said}"
        );
        assert!(start.elapsed() < PATIENCE, "never listens: {said}");
        thread::sleep(TICK);
    }
}

/// The status of a request from `source`.
fn get(source: IpAddr, server: SocketAddr) -> String {
    let family = if source.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = socket(family, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::new(source, 0)).expect("an address of this host");
    connect(&socket, &server).unwrap_or_else(|error| panic!("{source}: {error}"));
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let request = b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1);
    status.unwrap_or_default().to_owned()
}

fn servers(exports: &[Export], one: impl Fn(u16, &str) -> String) -> String {
    let numbered = (FIRST_PORT..).zip(exports);
    numbered
        .map(|(port, export)| one(port, &export.text))
        .collect()
}

#[test]
fn nginx_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "nginx");
    let servers = servers(&exports, |port, text| {
        format!(
            "server {{ listen {port}; listen [::]:{port};\nlocation / {{\n{text}empty_gif;\n}} }}\n"
        )
    });
    let home = folder.write("x", "");
    let home = home.parent().expect("a folder").display().to_string();
    let text = format!(
        "daemon off; master_process off; pid {home}/pid; error_log stderr;\n\
         events {{ }}\nhttp {{ access_log off;\n\
         client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;\n\
         uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n{servers}\n}}\n"
    );
    let file = folder.write("nginx.conf", text).display().to_string();
    serve("nginx", &exports, &|host| {
        let mut command = host.command(NGINX);
        command.args(["-p", &home, "-c", &file, "-e", "stderr"]);
        command
    });
}

#[test]
fn haproxy_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "haproxy");
    let servers = servers(&exports, |port, text| {
        format!(
            "frontend f{port}\nbind :{port}\nbind [::]:{port} v6only\n{text}\
             http-request return status 200\n"
        )
    });
    let text = format!("defaults\nmode http\ntimeout client 60s\n{servers}");
    let file = folder.write("haproxy.cfg", text).display().to_string();
    serve("haproxy", &exports, &|host| {
        let mut command = host.command(HAPROXY);
        command.args(["-db", "-f", &file]);
        command
    });
}

#[test]
fn caddy_loads_it_and_decides_as_we_do() {
    let folder = Folder::new();
    let exports = exports(&folder, "caddy");
    let servers = servers(&exports, |port, text| {
        format!(":{port} {{\n{text}respond 200\n}}\n")
    });
    let text = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{servers}");
    let file = folder.write("Caddyfile", text).display().to_string();
    let home = Path::new(&file).parent().expect("a folder").to_owned();
    serve("caddy", &exports, &|host| {
        let mut command = host.command(CADDY);
        command.args(["run", "--adapter", "caddyfile", "--config", &file]);
        command.env("HOME", &home).env("XDG_DATA_HOME", &home);
        command.env("XDG_CONFIG_HOME", &home);
        command
    });
}
