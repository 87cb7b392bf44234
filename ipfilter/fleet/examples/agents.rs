//! A thousand agents, of hosts without filters, that follow one group on one member of etcd: how long publications take
//! to be in force at all of them, and what memory that takes.
//!
//! `cargo build --release -p ipfilter -p ipfilter-fleet && cargo run --release -p ipfilter-fleet --example agents`, as
//! root. A number of hosts may follow.

use std::{
    env, fs,
    path::Path,
    process::{self, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::{
    etcd::{Cluster, Options},
    netns::Star,
    process::output,
};

/// How many publications are timed.
const PUBLICATIONS: usize = 20;

fn main() -> Result<()> {
    let hosts = env::args().nth(1).map_or(Ok(1000), |it| it.parse())?;
    let program = env::current_exe()?;
    let program = program
        .parent()
        .and_then(Path::parent)
        .context("no folder")?;
    let program = program.join("ipfilter-fleet");
    ensure!(program.is_file(), "build `{}` first", program.display());
    let mut star = Star::new("agents")?;
    let (member, desk) = (star.add("etcd1", &[])?, star.add("desk", &[])?);
    let folder = tempfile::tempdir()?;
    let at = [(member.namespace.clone(), member.address)];
    let etcd = Cluster::start(&at, folder.path(), Options::default())?;
    let url = format!("etcd://{}/web", etcd.endpoints());

    let (namespace, group) = (desk.namespace.clone(), url.clone());
    thread::spawn(move || -> Result<()> {
        namespace.enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime
            .block_on(ipfilter_fleet::simulate::run(&group, hosts))
            .map_err(anyhow::Error::msg)
    });
    let command = |arguments: &[&str]| {
        let mut command = desk.namespace.command(&program);
        command.args(arguments).args(["--to", &url]);
        command
    };
    let status = || -> Value {
        let output = command(&["status", "--format", "json"]).output();
        let output = output.ok().map(|it| it.stdout).unwrap_or_default();
        serde_json::from_slice(&output).unwrap_or_default()
    };
    let begun = Instant::now();
    while status()
        .pointer("/hosts")
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
        < hosts
    {
        ensure!(
            begun.elapsed() < Duration::from_secs(120),
            "the hosts do not report"
        );
        thread::sleep(Duration::from_millis(200));
    }
    println!(
        "{hosts} hosts report after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let mut seconds = Vec::new();
    for number in 0..PUBLICATIONS {
        let config = config(folder.path(), number)?;
        let arguments = [
            "publish", "--yes", "--create", "--format", "json", "--config", &config,
        ];
        let outcome: Value = serde_json::from_str(&output(&mut command(&arguments))?)?;
        ensure!(
            outcome.pointer("/hosts") == Some(&hosts.into()),
            "{outcome}"
        );
        seconds.extend(outcome.pointer("/seconds").and_then(Value::as_f64));
    }
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| {
        let index = (seconds.len() * share).div_ceil(100).saturating_sub(1);
        seconds.get(index).copied().unwrap_or_default()
    };
    println!(
        "{} publications of 1,000 prefixes in force at all: median {:.2} s, p99 {:.2} s",
        seconds.len(),
        at(50),
        at(99)
    );
    let inside = output(Command::new("ip").args(["netns", "pids", member.namespace.name()]))?;
    let etcd = inside.lines().next().context("no etcd")?.trim().to_owned();
    let (ours, etcd) = (memory(&process::id().to_string())?, memory(&etcd)?);
    println!("memory: {ours} MB for all agents, {etcd} MB for etcd");
    Ok(())
}

/// The resident memory of a process, in MB.
fn memory(process: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line
        .and_then(|it| it.split_whitespace().next())
        .context("no memory")?;
    Ok(kilobytes.parse::<u64>()? / 1024)
}

/// A configuration with a policy of a thousand prefixes, each time others.
fn config(folder: &Path, number: usize) -> Result<String> {
    let blocks = (0..1000).map(|index| {
        let base: usize = (16 << 24) + 16 * (2 * index + number % 2);
        let [_, _, _, _, a, b, c, d] = base.to_be_bytes();
        format!("{a}.{b}.{c}.{d}/28")
    });
    let policy = json!({"Version": "2012-10-17", "Id": format!("variant-{number}"), "Statement": {
        "Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke", "Resource": "execute-api:/*",
        "Condition": {"IpAddress": {"aws:SourceIp": blocks.collect::<Vec<_>>()}}}});
    fs::write(folder.join("policy.json"), policy.to_string())?;
    let config = json!({"interfaces": ["eth0"],
        "apis": [{"name": "api", "ports": [80], "policy": "policy.json"}]});
    let path = folder.join("config.json");
    fs::write(&path, config.to_string())?;
    Ok(path.display().to_string())
}
