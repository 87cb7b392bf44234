//! `ipfilter explain`: whether a source or request is allowed, and which statements decide it.

use std::{
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write},
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::{
    config::PolicyOptions,
    daemon::InForce,
    instance::Instance,
    view::{explain::View, past::Report},
};

use super::{
    Exit,
    format::Format,
    live::{Live, Wanted},
    policy_file::{self, PolicyFile},
    requests, require_root,
};

/// Show whether an address or a request is allowed, and which statements decide it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policy file; `-` is standard input
    #[arg(long = "policy", value_name = "FILE", required_unless_present = "live")]
    file: Option<PathBuf>,

    /// Compare the deployed policy, its table and the program in the kernel instead. Exits with 1 if they
    /// differ. With `--at`, ask the policy that was deployed then, if it is kept
    #[arg(long, conflicts_with_all = ["file", "api_arn", "authorizer", "vpc_cidr", "allow_partial"])]
    live: bool,

    #[command(flatten)]
    wanted: Wanted,

    /// Source addresses; `-` reads them from standard input, one per line
    #[arg(long, required_unless_present = "request", value_name = "IP,...", value_delimiter = ',', value_parser = parse_source)]
    source: Vec<SourceArg>,

    /// Judge whole requests from this file, one JSON object per line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["source", "at", "live"])]
    request: Option<PathBuf>,

    /// The time of the request: RFC 3339, or seconds since 1970 (default: now)
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,

    /// Output format (default: text on a terminal, else JSON, one object per line)
    #[arg(long, value_enum)]
    format: Option<Format>,

    #[command(flatten)]
    policy: PolicyOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceArg {
    Address(IpAddr),
    Stdin,
}

fn parse_source(text: &str) -> Result<SourceArg, String> {
    if text == "-" {
        return Ok(SourceArg::Stdin);
    }
    text.parse()
        .map(SourceArg::Address)
        .map_err(|_| "write one IPv4 or IPv6 address, or `-` for standard input".to_owned())
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    let parsed = match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_second(seconds),
        Err(_) => text.parse(),
    };
    parsed.map_err(|_| {
        "write a time such as `2026-01-31T12:00:00Z`, or seconds since 1970".to_owned()
    })
}

/// Runs the command.
///
/// # Errors
///
/// When the policy or a source cannot be read, or an answer cannot be printed.
pub fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let Some(file) = &args.file else {
        return match args.at {
            Some(at) => args.ask_past(instance, at),
            None => args.ask_live(instance),
        };
    };
    let asked = args.request.iter().any(|path| path.as_os_str() == "-");
    if file.as_os_str() == "-" && (asked || args.source.contains(&SourceArg::Stdin)) {
        bail!("standard input cannot be both the policy and what is asked about it");
    }
    let PolicyFile { policy, exit, .. } = match policy_file::read(file, &args.policy)? {
        Ok(file) => file,
        Err(exit) => return Ok(exit),
    };
    if let Some(path) = &args.request {
        let format = args.format.unwrap_or(Format::Json);
        let all_answered = requests::answer(&policy, path, format)?;
        return Ok(if all_answered { exit } else { Exit::Failed });
    }
    args.each(|source, format, out| {
        let now = args.at.unwrap_or_else(Timestamp::now);
        let view = View::of_source(source, &policy.explain(source, now));
        match format {
            Format::Text => writeln!(out, "{view}")?,
            Format::Json => {
                serde_json::to_writer(&mut *out, &view)?;
                writeln!(out)?;
            }
        }
        Ok(())
    })?;
    Ok(exit)
}

fn default_format() -> Format {
    if io::stdout().is_terminal() {
        Format::Text
    } else {
        Format::Json
    }
}

impl Args {
    /// Asks the policy that was deployed at `at`.
    fn ask_past(&self, instance: &Instance, at: Timestamp) -> anyhow::Result<Exit> {
        require_root("reading what was deployed")?;
        let past = InForce::at(instance, at)?;
        let exact = past.deployed().is_ok();
        let plan = past.plan(past.planned)?;
        let targets = self.wanted.targets(&plan)?;
        self.each(|source, format, out| {
            for target in &targets {
                let explanation = past.explain(target.api, source, past.planned);
                let overruled = past.overruled(target.api, source, past.planned);
                let api = plan.apis.get(target.api);
                let (explanation, api) = explanation.zip(api).context("no such API")?;
                let report = Report {
                    at,
                    api: api.name.clone(),
                    view: View::of_source(source, &explanation),
                    overruled: overruled.filter(|one| one.since <= at).cloned(),
                    digest: past.digest().to_owned(),
                    since: past.since,
                    cause: past.cause.name(),
                    exact,
                };
                match format {
                    Format::Text => write!(out, "{report}")?,
                    Format::Json => {
                        serde_json::to_writer(&mut *out, &report)?;
                        writeln!(out)?;
                    }
                }
            }
            Ok(())
        })?;
        Ok(Exit::Fine)
    }

    /// Compares what the policy, the table and the kernel say.
    fn ask_live(&self, instance: &Instance) -> anyhow::Result<Exit> {
        require_root("asking the filter")?;
        let live = Live::of(instance)?;
        let tables = live.plan.tables()?;
        let targets = self.wanted.targets(&live.plan)?;
        let mut differing = 0_usize;
        self.each(|source, format, out| {
            let callable = tables.at(source);
            for target in &targets {
                let report = live.ask(*target, source, callable)?;
                differing += usize::from(!report.agrees());
                match format {
                    Format::Text => write!(out, "{report}")?,
                    Format::Json => {
                        serde_json::to_writer(&mut *out, &report)?;
                        writeln!(out)?;
                    }
                }
            }
            Ok(())
        })?;
        let answers = match differing {
            0 => return Ok(Exit::Fine),
            1 => "the answers differ".to_owned(),
            _ => format!("{differing} answers differ"),
        };
        bail!("{answers}: `ipfilter reload` deploys anew; please report this")
    }

    /// Has `answer` write the answer to each source, in the format that was asked for.
    ///
    /// # Errors
    ///
    /// When a source cannot be read, or `answer` fails.
    fn each(
        &self,
        mut answer: impl FnMut(IpAddr, Format, &mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        let format = self.format.unwrap_or_else(default_format);
        for source in &self.source {
            match source {
                SourceArg::Address(address) => answer(*address, format, &mut out)?,
                SourceArg::Stdin => {
                    each_of_stdin(&mut out, |source, out| answer(source, format, out))?;
                }
            }
        }
        Ok(out.flush()?)
    }
}

fn each_of_stdin<W: Write>(
    out: &mut W,
    mut answer: impl FnMut(IpAddr, &mut W) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut line = String::new();
    for number in 1_u64.. {
        line.clear();
        if input
            .read_line(&mut line)
            .with_context(|| format!("-:{number}: cannot read"))?
            == 0
        {
            break;
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        let Ok(address) = text.parse() else {
            out.flush()?;
            bail!(
                "-:{number}: `{}` is not an IPv4 or IPv6 address",
                text.escape_debug()
            );
        };
        answer(address, out)?;
        // A caller that waits for an answer before the next question gets it.
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    Ok(())
}
