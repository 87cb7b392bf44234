//! `ipfilter explain`: what becomes of a source, and which statements say so.

use std::{
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Write},
    net::IpAddr,
    path::PathBuf,
};

use anyhow::{Context, bail};
use jiff::Timestamp;

use crate::{
    files::read_policy,
    policy::{self, Parsed, Policy},
    report::{diagnostics, explain::View},
};

use super::{Exit, format::Format, policy_options::PolicyOptions};

/// Tell what becomes of a source, and which statements say so
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file; `-` is standard input
    #[arg(long = "policy", value_name = "FILE")]
    file: PathBuf,

    /// The sources (repeat or list); `-` reads them from standard input, one a line
    #[arg(long, required = true, value_name = "IP", value_delimiter = ',', value_parser = parse_source)]
    source: Vec<SourceArg>,

    /// The time of the request: RFC 3339, or seconds since 1970 (default: now)
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,

    /// How to print the answers (default: text on a terminal, else JSON, one object a line)
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

fn parse_time(text: &str) -> Result<Timestamp, String> {
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
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.file.as_os_str() == "-" && args.source.contains(&SourceArg::Stdin) {
        bail!("standard input cannot be both the policy and the sources");
    }
    let source = read_policy(&args.file)
        .with_context(|| format!("cannot read the policy `{}`", args.file.display()))?;
    let Parsed {
        policy, problems, ..
    } = policy::parse(&source, &(&args.policy).into());
    let refused = policy.as_ref().is_none_or(Policy::is_partial) && !args.policy.allow_partial;
    if policy.is_none() || refused {
        let mut err = anstream::stderr().lock();
        for problem in &problems {
            writeln!(err, "{}\n", diagnostics::render(&source, problem))?;
        }
    }
    let Some(policy) = policy else {
        return Ok(Exit::InvalidPolicy);
    };
    Answers {
        policy: &policy,
        at: args.at,
        format: args.format.unwrap_or_else(default_format),
        out: BufWriter::new(io::stdout().lock()),
    }
    .all(&args.source)?;
    Ok(if refused {
        Exit::PartialPolicy
    } else {
        Exit::Fine
    })
}

fn default_format() -> Format {
    if io::stdout().is_terminal() {
        Format::Text
    } else {
        Format::Json
    }
}

struct Answers<'p, W> {
    policy: &'p Policy,
    at: Option<Timestamp>,
    format: Format,
    out: W,
}

impl<W: Write> Answers<'_, W> {
    fn all(&mut self, sources: &[SourceArg]) -> anyhow::Result<()> {
        for source in sources {
            match source {
                SourceArg::Address(address) => self.one(*address)?,
                SourceArg::Stdin => self.each_of_stdin()?,
            }
        }
        Ok(self.out.flush()?)
    }

    fn each_of_stdin(&mut self) -> anyhow::Result<()> {
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
                self.out.flush()?;
                bail!(
                    "-:{number}: `{}` is not an IPv4 or IPv6 address",
                    text.escape_debug()
                );
            };
            self.one(address)?;
            // Whoever waits for an answer before asking on gets it.
            if input.buffer().is_empty() {
                self.out.flush()?;
            }
        }
        Ok(())
    }

    fn one(&mut self, source: IpAddr) -> io::Result<()> {
        let now = self.at.unwrap_or_else(Timestamp::now);
        let view = View::from(&self.policy.explain(source, now));
        match self.format {
            Format::Text => writeln!(self.out, "{view}"),
            Format::Json => {
                serde_json::to_writer(&mut self.out, &view)?;
                writeln!(self.out)
            }
        }
    }
}
