//! Refusals: what one costs the server, all its packets together, whoever refuses: nginx's `deny all`, the
//! kernel's reset of a port that nobody listens at, `--deny reject` and `--deny respond`.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testkit::{
    lists::{Family, List, Shape},
    process::{Guard, output},
    tool,
};

use super::{
    Bench,
    bed::{Bed, RECEIVER, RECEIVING_CPU, receiver_busy},
    results::{Results, Row, Spread},
    rivals::{Loaded, Rival, ipfilter},
};

/// Where all listen.
const PORT: &str = "8080";

/// The parts of the results: what a refusal costs the server, and how many a client gets.
pub(super) const COST: &str = "refusal";
const RATE: &str = "refusals";

/// The case of both.
pub(super) const CASE: &str = "on one processor";

/// Who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuser {
    /// nginx's `deny all`, which closes the connection after it.
    Nginx,
    /// The same on a connection that is kept.
    NginxKept,
    /// A port that nobody listens at.
    Closed,
    /// `--deny reject`.
    Reject,
    /// `--deny respond`.
    Respond,
}

impl Refuser {
    const ALL: [Self; 5] = [
        Self::Nginx,
        Self::NginxKept,
        Self::Closed,
        Self::Reject,
        Self::Respond,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx, a connection each",
            Self::NginxKept => "nginx, connections kept",
            Self::Closed => "the kernel's reset of a closed port",
            Self::Reject => "ipfilter, reject",
            Self::Respond => "ipfilter, respond",
        }
    }
}

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    if tool("nginx", "").is_err() {
        eprintln!("   nginx is needed for this part: `--with-rivals` installs it");
        return Ok(());
    }
    let beds: Vec<Bed> = Refuser::ALL
        .iter()
        .map(|_| Bed::new())
        .collect::<Result<_>>()?;
    let servers: Vec<Server<'_>> = Refuser::ALL
        .into_iter()
        .zip(&beds)
        .map(|(refuser, bed)| Server::start(bench, refuser, bed))
        .collect::<Result<_>>()?;
    let mut measured = [const { (Vec::new(), Vec::new()) }; Refuser::ALL.len()];
    for _ in 0..bench.options.rounds {
        for (server, (costs, rates)) in servers.iter().zip(&mut measured) {
            bench.interrupt.check()?;
            let (cost, rate) = server.refuse(bench)?;
            costs.push(cost);
            rates.push(rate);
        }
    }
    for (server, (costs, rates)) in servers.iter().zip(measured) {
        for (part, values, unit) in [
            (COST, costs, "µs of the server's processor, all packets"),
            (RATE, rates, "a second, wall time"),
        ] {
            results.push(Row {
                part,
                case: CASE.to_owned(),
                contender: server.refuser.name().to_owned(),
                spread: Spread::of(values).context("no rounds")?,
                unit,
                note: String::new(),
            });
        }
    }
    Ok(())
}

/// One that refuses.
struct Server<'a> {
    refuser: Refuser,
    bed: &'a Bed,
    _nginx: Option<Guard>,
    _passing: Option<Guard>,
    _loaded: Option<Loaded<'a>>,
}

impl<'a> Server<'a> {
    fn start(bench: &'a Bench<'_>, refuser: Refuser, bed: &'a Bed) -> Result<Self> {
        bed.steered()?;
        let mut server = Self {
            refuser,
            bed,
            _nginx: None,
            _passing: None,
            _loaded: None,
        };
        match refuser {
            Refuser::Closed => {}
            Refuser::Nginx => server._nginx = Some(nginx(bench, bed, "0")?),
            Refuser::NginxKept => server._nginx = Some(nginx(bench, bed, "60")?),
            Refuser::Reject => server._loaded = Some(deny(bench, bed, "reject")?),
            Refuser::Respond => server._loaded = Some(deny(bench, bed, "respond")?),
        }
        if server._loaded.is_some() {
            // A veth takes what XDP at its other end sends only if it has a program itself.
            server._passing = Some(Bed::attach(bench, &bed.sender, "tx0", "pass")?);
        }
        Ok(server)
    }

    /// What a refusal costs, in µs, and how many there are a second.
    fn refuse(&self, bench: &Bench<'_>) -> Result<(f64, f64)> {
        self.bed.pin()?;
        let before = receiver_busy()?;
        let mut command: Command = self.bed.sender.command(tool("taskset", "util-linux")?);
        command
            .args(["-c", "0"])
            .arg(&bench.kernel)
            .args(["call", &format!("{RECEIVER}:{PORT}")]);
        if self.refuser == Refuser::NginxKept {
            command.arg("--keep");
        }
        let told: Value = serde_json::from_str(&output(&mut command)?)?;
        let number = |key: &str| told.get(key).and_then(Value::as_f64).context("no number");
        let (refused, seconds) = (number("refused")?, number("seconds")?);
        let spent = receiver_busy()?.saturating_sub(before);
        Ok((
            spent.as_secs_f64() * 1e6 / refused.max(1.0),
            refused / seconds,
        ))
    }
}

/// ipfilter with a deny action, and a policy that admits others.
fn deny<'a>(bench: &'a Bench<'_>, bed: &'a Bed, action: &str) -> Result<Loaded<'a>> {
    let policy = bench.folder.join("respond.json");
    let list = List::new(Shape::Sparse, Family::V4, 1000);
    fs::write(&policy, list.policy(true))?;
    let mut deploy = ipfilter(bench, bed);
    deploy
        .args(["deploy", "--interface", &bed.interface, "--port", PORT])
        // As many as are asked for: what is measured is the price of one.
        .args(["--reject-rate", "1000000", "--respond-rate", "1000000"])
        .args(["--deny", action, "--policy"])
        .arg(&policy);
    output(&mut deploy)?;
    Ok(Loaded {
        rival: Rival::Ipfilter,
        bench,
        bed,
    })
}

/// nginx with one worker, which denies everybody.
fn nginx(bench: &Bench<'_>, bed: &Bed, keepalive: &str) -> Result<Guard> {
    let folder = bench.folder.join(&bed.interface);
    fs::create_dir_all(&folder)?;
    let path = folder.join("nginx.conf");
    fs::write(
        &path,
        format!(
            "daemon off; master_process off; pid {0}/pid; error_log /dev/null crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_timeout {keepalive}; keepalive_requests 1000000;\n\
             client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c;\n\
             uwsgi_temp_path {0}/d; scgi_temp_path {0}/e;\n\
             server {{ listen {PORT}; location / {{ deny all; }} }} }}\n",
            folder.display()
        ),
    )?;
    let mut command = bed.receiver.command(tool("taskset", "util-linux")?);
    command
        .args(["-c", RECEIVING_CPU])
        .arg(tool("nginx", "nginx-light")?)
        .arg("-c")
        .arg(&path);
    let mut guard = bed.receiver.spawn(&mut command)?;
    listening(bed, &mut guard)?;
    Ok(guard)
}

/// Waits until somebody listens.
fn listening(bed: &Bed, server: &mut Guard) -> Result<()> {
    const READY: Duration = Duration::from_secs(20);
    let start = Instant::now();
    let mut command = bed.receiver.command(tool("ss", "iproute2")?);
    command.args(["-Hltn", &format!("sport = :{PORT}")]);
    while output(&mut command)?.is_empty() {
        if server.ended()?.is_some() || start.elapsed() > READY {
            bail!("nginx does not listen");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
