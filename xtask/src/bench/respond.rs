//! 403s per second: `--deny respond` beside nginx's `deny all`, each on one processor.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use testkit::{
    lists::{Family, List, Shape},
    process::{Guard, output},
    tool,
};

use super::{
    Bench,
    bed::{Bed, RECEIVER, RECEIVING_CPU},
    results::{Results, Row, Spread},
    rivals::{Loaded, Rival, ipfilter},
};

/// Where both listen.
const PORT: &str = "8080";

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    if tool("wrk", "").is_err() || tool("nginx", "").is_err() {
        eprintln!("   wrk and nginx are needed for this part: `--with-rivals` installs them");
        return Ok(());
    }
    let ours = Bed::new()?;
    let policy = bench.folder.join("respond.json");
    fs::write(
        &policy,
        List::new(Shape::Sparse, Family::V4, 1000).policy(true),
    )?;
    let mut deploy = ipfilter(bench, &ours);
    deploy
        .args(["deploy", "--interface", &ours.interface, "--port", PORT])
        .args(["--deny", "respond", "--policy"])
        .arg(&policy);
    output(&mut deploy)?;
    let _loaded = Loaded {
        rival: Rival::Ipfilter,
        bench,
        bed: &ours,
    };
    // A veth takes what XDP at its other end sends only if it has a program itself.
    let _passing = Bed::attach(bench, &ours.sender, "tx0", "pass")?;
    let (kept, closing) = (Bed::new()?, Bed::new()?);
    let _servers = [nginx(bench, &closing, "0")?, nginx(bench, &kept, "60")?];
    let contenders = [
        ("nginx, a connection each", &closing),
        ("nginx, connections kept", &kept),
        ("ipfilter, a connection each", &ours),
    ];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..bench.options.rounds.min(3) {
        for ((_, bed), rates) in contenders.iter().zip(&mut rates) {
            bench.interrupt.check()?;
            rates.push(rate(bed)?);
        }
    }
    for ((name, _), rates) in contenders.iter().zip(rates) {
        results.push(Row {
            part: "403s",
            case: "on one processor".to_owned(),
            contender: (*name).to_owned(),
            spread: Spread::of(rates).context("no rounds")?,
            unit: "a second, wall time",
            note: String::new(),
        });
    }
    Ok(())
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
    let guard = bed.receiver.spawn(&mut command)?;
    // Its socket; wrk would fail before.
    thread::sleep(Duration::from_millis(500));
    Ok(guard)
}

/// Requests that were answered, a second.
fn rate(bed: &Bed) -> Result<f64> {
    bed.pin()?;
    let mut command: Command = bed.sender.command(tool("taskset", "util-linux")?);
    command.args(["-c", "0"]).arg(tool("wrk", "wrk")?).args([
        "-t1",
        "-c64",
        "-d3s",
        &format!("http://{RECEIVER}:{PORT}/"),
    ]);
    let told = output(&mut command)?;
    let denied = number(&told, "Non-2xx or 3xx responses:");
    let all = number(&told, "requests in").or_else(|| requests(&told));
    let seconds = number(&told, "Requests/sec:").context("wrk printed no rate")?;
    if denied.is_none() || all.is_none() {
        anyhow::bail!("not all were denied: {told}");
    }
    Ok(seconds)
}

pub(super) fn number(text: &str, name: &str) -> Option<f64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name))?;
    line.trim().parse().ok()
}

/// The number in `  1234 requests in 3.00s, 1.0MB read`.
fn requests(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    line.trim().split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_tells_is_understood() {
        let told = "  900 requests in 3.00s, 1.0MB read\n  Non-2xx or 3xx responses: 900\n\
                    Requests/sec:    300.10\n";
        assert_eq!(requests(told), Some(900.0));
        assert_eq!(number(told, "Requests/sec:"), Some(300.1));
        assert_eq!(number(told, "Non-2xx or 3xx responses:"), Some(900.0));
    }
}
