//! Per packet in the kernel: `ipfilter/benches/kernel` measures, here is what it says made rows.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use testkit::process::Guard;

use super::{
    Bench,
    results::{Results, Row, Spread},
};

pub(super) fn run(bench: &Bench<'_>, results: &mut Results) -> Result<()> {
    let sizes: Vec<String> = bench
        .options
        .sizes
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut command = Command::new(&bench.kernel);
    command
        .args(["packets", "--sizes", &sizes.join(",")])
        .args(["--rounds", &bench.options.rounds.to_string()])
        .stdout(Stdio::piped());
    let mut guard = Guard::spawn_group(&mut command)?;
    let stdout = guard.child().stdout.take().context("no pipe")?;
    for line in BufReader::new(stdout).lines() {
        bench.interrupt.check()?;
        results.push(row(&serde_json::from_str(&line?)?)?);
    }
    let status = bench.interrupt.wait(guard)?;
    if !status.success() {
        bail!("measuring packets failed; what went wrong is above");
    }
    Ok(())
}

fn row(line: &Value) -> Result<Row> {
    let text = |key: &str| line.get(key).and_then(Value::as_str).context("no text");
    let number = |key: &str| {
        let value = line.pointer(key).and_then(Value::as_f64);
        value.with_context(|| format!("no number at `{key}`"))
    };
    let mut notes = Vec::new();
    if let Some(instructions) = line.get("instructions").and_then(Value::as_u64) {
        notes.push(format!("{instructions} instructions run"));
    }
    if let Some(bytes) = line.get("bytes").and_then(Value::as_f64) {
        notes.push(format!("{:.2} MB", bytes / 1e6));
    }
    if let Some(verified) = line.get("verified").and_then(Value::as_u64) {
        notes.push(format!("{verified} instructions verified"));
    }
    if let Some(bytes) = line.get("jited_bytes").and_then(Value::as_u64) {
        notes.push(format!("{bytes} bytes of machine code"));
    }
    Ok(Row {
        part: "packet",
        case: format!(
            "{} {} {} {}",
            text("family")?,
            text("list")?,
            number("/prefixes")?,
            text("sources")?
        ),
        contender: text("program")?.to_owned(),
        spread: Spread {
            median: number("/ns/median")?,
            low: number("/ns/low")?,
            high: number("/ns/high")?,
        },
        unit: "ns",
        note: notes.join(", "),
    })
}
