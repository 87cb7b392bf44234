//! What the authorization service costs: how fast it answers over a Unix socket on one processor, asked from the other,
//! and what it costs nginx on one processor to ask it.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use testkit::{
    lists::{Family, List, Shape},
    process::{Guard, output},
    tool,
};

use super::{
    Bench,
    bed::RECEIVING_CPU,
    results::{Results, Row, Spread},
};
use crate::build::{self, Profile};

/// The processor of whoever asks.
const ASKING_CPU: &str = "0";

/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(3);

/// How many questions a second latency is measured at.
const RATE: u32 = 10_000;

/// How many connections a proxy keeps.
const CONNECTIONS: usize = 32;

/// Where nginx listens, with the service and without.
const PORTS: [&str; 2] = ["47181", "47180"];

/// What is asked.
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: api\r\nX-Original-Method: GET\r\n\
    X-Original-URI: /pets/1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let program = build::service(Profile::Release, bench.interrupt)?;
    for size in [10, 1_000_000] {
        let service = Service::start(bench, &program, size, RECEIVING_CPU)?;
        let (mut rates, mut latencies) = (Vec::new(), Vec::new());
        for _ in 0..bench.options.rounds.min(3) {
            bench.interrupt.check()?;
            let mut saturated = Asking::new(&service, CONNECTIONS)?;
            rates.push(f64::from(saturated.run(None)?) / TIME.as_secs_f64());
            let mut paced = Asking::new(&service, CONNECTIONS)?;
            paced.run(Some(RATE))?;
            latencies.push(paced.percentile(99)?);
        }
        let case = format!("{size} prefixes");
        for (part, unit, values) in [
            (SATURATED, "a second", rates),
            (LATENCY, "µs, 99th percentile at 10,000 a second", latencies),
        ] {
            results.push(Row {
                part,
                case: case.clone(),
                contender: "ipfilter-authorize".to_owned(),
                spread: Spread::of(values).context("no rounds")?,
                unit,
                note: String::new(),
            });
        }
    }
    if tool("wrk", "").is_err() || tool("nginx", "").is_err() {
        eprintln!("   wrk and nginx are needed for the rest: `--with-rivals` installs them");
        return Ok(());
    }
    proxied(bench, &program, results)
}

/// The parts of the results.
pub(super) const SATURATED: &str = "authorize";
pub(super) const LATENCY: &str = "authorize, latency";
pub(super) const PROXIED: &str = "auth_request";

/// nginx on one processor that asks, and nginx that does not. The service has the processor of whoever asks nginx, or
/// that of nginx.
fn proxied(bench: &Bench<'_>, program: &Path, results: &mut Results) -> Result<()> {
    for (case, processor) in [(APART, ASKING_CPU), (TOGETHER, RECEIVING_CPU)] {
        let service = Service::start(bench, program, 10, processor)?;
        let _nginx = nginx(&service)?;
        let mut rates = [const { Vec::new() }; 2];
        for _ in 0..bench.options.rounds.min(3) {
            for (port, rates) in PORTS.iter().zip(&mut rates) {
                bench.interrupt.check()?;
                rates.push(rate(port)?);
            }
        }
        let [asking, alone] = rates;
        for (contender, rates) in [(ALONE, alone), (ASKING, asking)] {
            results.push(Row {
                part: PROXIED,
                case: case.to_owned(),
                contender: contender.to_owned(),
                spread: Spread::of(rates).context("no rounds")?,
                unit: "a second, wall time",
                note: String::new(),
            });
        }
    }
    Ok(())
}

/// Where the service is.
pub(super) const APART: &str = "nginx on one processor, the service on another";
pub(super) const TOGETHER: &str = "nginx and the service on one processor";

pub(super) const ALONE: &str = "nginx alone";
pub(super) const ASKING: &str = "nginx with auth_request";

/// The service on a processor.
struct Service {
    folder: PathBuf,
    socket: PathBuf,
    _guard: Guard,
}

impl Service {
    fn start(bench: &Bench<'_>, program: &Path, size: usize, processor: &str) -> Result<Self> {
        let folder = bench.folder.join("authorize");
        fs::create_dir_all(&folder)?;
        let policy = folder.join("policy.json");
        // Denied are the prefixes of the list; the client of the question is allowed.
        fs::write(
            &policy,
            List::new(Shape::Sparse, Family::V4, size).policy(false),
        )?;
        let socket = folder.join("authorize.sock");
        let mut command = on(processor)?;
        command
            .arg(program)
            .arg("--policy")
            .arg(&policy)
            .arg("--listen")
            .arg(format!("unix:{}", socket.display()))
            .args(["--stage", "prod"])
            .stderr(Stdio::null());
        let guard = Guard::spawn(&mut command)?;
        let start = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            ensure!(
                start.elapsed() < Duration::from_secs(60),
                "it never listens"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self {
            folder,
            socket,
            _guard: guard,
        })
    }
}

/// A command on one processor.
fn on(processor: &str) -> Result<Command> {
    let mut command = Command::new(tool("taskset", "util-linux")?);
    command.args(["-c", processor]).stdin(Stdio::null());
    Ok(command)
}

/// Whoever asks, by itself on its processor, without ever sleeping: what waits is seen at once.
struct Asking {
    connections: Vec<Connection>,
    microseconds: Vec<f64>,
}

struct Connection {
    stream: UnixStream,
    /// When the question was due that is not answered yet.
    asked: Option<Instant>,
    answer: Vec<u8>,
}

impl Asking {
    fn new(service: &Service, connections: usize) -> Result<Self> {
        let connect = |_| {
            let stream = UnixStream::connect(&service.socket)?;
            stream.set_nonblocking(true)?;
            Ok(Connection {
                stream,
                asked: None,
                answer: Vec::new(),
            })
        };
        Ok(Self {
            connections: (0..connections).map(connect).collect::<Result<_>>()?,
            microseconds: Vec::new(),
        })
    }

    /// Asks at this rate, or as fast as it is answered; how many were answered.
    fn run(&mut self, rate: Option<u32>) -> Result<u32> {
        let start = Instant::now();
        let pause = rate.map(|rate| Duration::from_secs(1) / rate);
        let (mut asked, mut answered) = (0, 0);
        while start.elapsed() < TIME {
            for connection in &mut self.connections {
                if let Some(due) = connection.asked {
                    if connection.is_answered()? {
                        let took = due.elapsed().as_secs_f64() * 1e6;
                        self.microseconds.push(took);
                        connection.asked = None;
                        answered += 1;
                    }
                    continue;
                }
                // One that could not be asked in time has waited since then.
                let due = pause.map_or_else(Instant::now, |pause| start + pause * asked);
                if due <= Instant::now() {
                    connection.stream.write_all(QUESTION)?;
                    connection.asked = Some(due);
                    asked += 1;
                }
            }
        }
        ensure!(answered > 0, "nothing was answered");
        Ok(answered)
    }

    fn percentile(&mut self, percent: usize) -> Result<f64> {
        self.microseconds.sort_by(f64::total_cmp);
        let at = (self.microseconds.len() * percent / 100).saturating_sub(1);
        let value = self.microseconds.get(at).copied();
        value.context("nothing was measured")
    }
}

impl Connection {
    /// Whether the answer is there, which must allow.
    fn is_answered(&mut self) -> Result<bool> {
        let mut buffer = [0; 512];
        match self.stream.read(&mut buffer) {
            Ok(0) => bail!("the service has closed a connection"),
            Ok(count) => self.answer.extend(buffer.iter().take(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let is_whole = self.answer.ends_with(b"\r\n\r\n");
        if is_whole {
            let answer = std::mem::take(&mut self.answer);
            ensure!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
        Ok(is_whole)
    }
}

/// nginx with one worker, on the service's processor: it asks about each request at one port, and about none at
/// the other.
fn nginx(service: &Service) -> Result<Guard> {
    let home = service.folder.join("nginx");
    fs::create_dir_all(&home)?;
    fs::write(home.join("index.html"), "{\"pets\": []}\n")?;
    let [asking, alone] = PORTS;
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log /dev/null crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000; root {0};\n\
         client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c;\n\
         uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;\n\
         upstream ipfilter_authorize {{ server unix:{1}; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{alone}; }}\n\
         server {{ listen 127.0.0.1:{asking}; auth_request /.ipfilter-authorize;\n\
         location = /.ipfilter-authorize {{ internal; proxy_pass http://ipfilter_authorize/;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
         proxy_pass_request_body off; proxy_set_header Content-Length \"\";\n\
         proxy_pass_request_headers off; proxy_set_header User-Agent $http_user_agent;\n\
         proxy_set_header Referer $http_referer; proxy_set_header X-Forwarded-Host $host;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Original-Method $request_method;\n\
         proxy_set_header X-Original-URI $request_uri;\n\
         proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n",
        home.display(),
        service.socket.display()
    );
    let path = home.join("nginx.conf");
    fs::write(&path, text)?;
    let mut command = on(RECEIVING_CPU)?;
    command
        .arg(tool("nginx", "nginx-light")?)
        .arg("-c")
        .arg(path);
    let guard = Guard::spawn(&mut command)?;
    let start = Instant::now();
    while std::net::TcpStream::connect(format!("127.0.0.1:{asking}")).is_err() {
        ensure!(
            start.elapsed() < Duration::from_secs(30),
            "nginx never listens"
        );
        thread::sleep(Duration::from_millis(20));
    }
    Ok(guard)
}

/// Requests a second that nginx answers with 200.
fn rate(port: &str) -> Result<f64> {
    let mut command = on(ASKING_CPU)?;
    command
        .arg(tool("wrk", "wrk")?)
        .args(["-t1", "-c32", "-d3s"])
        .arg(format!("http://127.0.0.1:{port}/index.html"));
    let told = output(&mut command)?;
    ensure!(!told.contains("Non-2xx"), "not all were allowed: {told}");
    printed_rate(&told).context("wrk printed no rate")
}

/// The number that wrk prints behind `Requests/sec:`.
fn printed_rate(told: &str) -> Option<f64> {
    let mut lines = told.lines();
    let line = lines.find_map(|line| line.trim().strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_tells_is_understood() {
        let told = "  900 requests in 3.00s, 1.0MB read\n  Non-2xx or 3xx responses: 900\n\
                    Requests/sec:    300.10\n";
        assert_eq!(printed_rate(told), Some(300.1));
    }
}
