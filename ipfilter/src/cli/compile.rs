//! `ipfilter compile`: how large is what a policy compiles to, and which table would serve it?

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    config::{Choice as _, PolicyOptions, choice},
    plan::{Lookup, Measures, SourceMap},
    policy::Policy,
    view::{compile::Report, map::Map, sources::Meaning},
};

use super::{
    Exit,
    format::Format,
    policy_file::{self, PolicyFile},
};

/// Show what a policy compiles to: prefixes, intervals and table sizes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy file; `-` is standard input
    #[arg(long = "policy", value_name = "FILE")]
    file: PathBuf,

    /// Which table to look up sources in
    #[arg(long, value_parser = choice::<Lookup>(), default_value = Lookup::default().name())]
    lookup: Lookup,

    /// Draw a map of the IPv4 addresses that may call, to this file
    #[arg(long, value_name = "FILE.svg")]
    map: Option<PathBuf>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    policy: PolicyOptions,
}

/// Runs the command.
///
/// # Errors
///
/// When the policy cannot be read, or the outcome cannot be printed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let PolicyFile { name, policy, exit } = match policy_file::read(&args.file, &args.policy)? {
        Ok(file) => file,
        Err(exit) => return Ok(exit),
    };
    if exit != Exit::Fine {
        return Ok(exit);
    }
    let report = compile(&name, &policy, args.lookup)?;
    if let Some(path) = &args.map {
        draw(&name, &policy, path)?;
    }
    print(&report, args.format)?;
    Ok(Exit::Fine)
}

/// Draws what `policy` says now.
fn draw(name: &str, policy: &Policy, path: &Path) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let networks = policy.networks().filter_map(|network| match network {
        IpNet::V4(network) => Some(network),
        IpNet::V6(_) => None,
    });
    let map = Map {
        name,
        now,
        may_pass: &policy.at(now).may_pass.v4,
        networks: networks.collect(),
    };
    fs::write(path, map.to_string()).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Compiles what `policy` says now.
fn compile(name: &str, policy: &Policy, lookup: Lookup) -> anyhow::Result<Report> {
    let now = Timestamp::now();
    let sources = policy.at(now).may_pass;
    let v4 = SourceMap::new(&[&sources.v4])?;
    let v6 = SourceMap::new(&[&sources.v6])?;
    let table = lookup.choose();
    let measures = Measures::of(&v4, &v6);
    Ok(Report::new(
        name,
        &measures,
        table,
        Meaning::of(policy, now),
    ))
}

fn print(report: &Report, format: Format) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match format {
        Format::Text => write!(out, "{report}")?,
        Format::Json => {
            serde_json::to_writer(&mut out, report)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{self, Source};

    #[test]
    fn a_deny_list_is_two_entries() {
        let text = r#"{"Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/*/*/*"},
            {"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
             "Resource": "execute-api:/*/*/*",
             "Condition": {"IpAddress": {"aws:SourceIp": "203.0.113.7"}}}]}"#;
        let source = Source::new("deny.json", text);
        let policy = policy::parse(&source, &policy::Options::default()).policy;
        let report = compile("deny.json", &policy.unwrap(), Lookup::Auto).unwrap();
        let entries: Vec<_> = report.families.iter().map(|f| f.trie.entries).collect();
        assert_eq!(entries, [2, 1]);
        assert_eq!(report.families[0].intervals, 2);
        assert_eq!(report.lookup, "intervals");
        assert!(report.boundaries.is_empty());
    }

    #[test]
    fn future_boundaries_are_listed() {
        let text = r#"{"Statement": {"Effect": "Allow", "Principal": "*",
            "Action": "execute-api:Invoke", "Resource": "execute-api:/*", "Condition": {
            "DateGreaterThanEquals": {"aws:CurrentTime": "2001-01-01T00:00:00Z"},
            "DateLessThan": {"aws:CurrentTime": "2999-12-31T12:00:00Z"}}}}"#;
        let source = Source::new("time.json", text);
        let policy = policy::parse(&source, &policy::Options::default()).policy;
        let report = compile("time.json", &policy.unwrap(), Lookup::Auto).unwrap();
        assert_eq!(report.boundaries, ["2999-12-31T12:00:00Z"]);
        assert!(
            report
                .to_string()
                .contains("from 2999-12-31T12:00:00Z: nobody")
        );
    }
}
