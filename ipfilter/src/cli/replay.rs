//! `ipfilter replay`: what a policy would have done to recorded traffic.

use std::{
    fs::File as Opened,
    io::{self, Read, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use ipfilter_traffic::{
    Content, Decision, Input, Judged, capture,
    log::{self, Field},
};
use jiff::Timestamp;

use super::{
    Exit, Stop,
    explain::parse_time,
    format::Format,
    require_root,
    subject::{self, File},
};
use crate::{
    config::{Config, GivenOptions},
    files,
    plan::{PortSet, Protocols},
    progress::Progress,
    replay::{Outcome, Periods},
    view::replay::Report,
};

/// Show what a policy would have done to recorded traffic
///
/// Files are packet captures (pcap, pcapng) or access logs (combined, JSON lines, ALB, CloudFront, VPC Flow
/// Logs, API Gateway), also compressed (gzip, zstd). The format is detected. Each record is judged at its own
/// time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Captures and logs; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The policy
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    policy: Option<PathBuf>,

    /// A configuration file with policies, and the ports that they are for
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "port", "udp", "address"])]
    config: Option<PathBuf>,

    /// Show only what changes: compare with this policy or configuration
    #[arg(long, value_name = "OLD")]
    against: Option<PathBuf>,

    /// The API's ports (default: every port)
    #[arg(long, value_delimiter = ',', value_name = "PORTS")]
    port: Vec<PortSet>,

    /// Judge UDP as well as TCP
    #[arg(long)]
    udp: bool,

    /// The API's addresses on the host (default: all)
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    address: Vec<IpAddr>,

    /// The API of logs that have no ports
    #[arg(long, value_name = "NAME")]
    api: Option<String>,

    /// Where a log has the source: a word's number, or a name such as `request.ip`
    #[arg(long, value_name = "FIELD")]
    field: Option<Field>,

    /// Decide whole requests, as to this stage, where a log has their methods and paths (default: only by source)
    #[arg(long, value_name = "STAGE")]
    stage: Option<String>,

    /// Judge all records at this time: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,

    /// Also run the packets of captures through the program in the kernel, and compare the verdicts
    #[arg(long)]
    kernel: bool,

    /// Show at most this many sources (default: 10; all in JSON)
    #[arg(long, value_name = "N")]
    top: Option<usize>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    options: GivenOptions,
}

/// Runs the command.
///
/// # Errors
///
/// When a policy or a file can't be read, or the kernel decides something else.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.kernel {
        require_root("running the program in the kernel")?;
    }
    let mut replay = Replay::new(args)?;
    let done = Arc::new(AtomicU64::new(0));
    let sizes = args
        .files
        .iter()
        .filter_map(|file| std::fs::metadata(file).ok());
    let total = sizes.map(|it| it.len()).sum();
    let progress = Progress::through("reading traffic", total, Arc::clone(&done));
    for file in &args.files {
        replay.file(file, &done)?;
    }
    drop(progress);
    let outcome = replay.outcome;
    let top = args.top.or((args.format == Format::Text).then_some(10));
    let report = Report::new(
        &outcome,
        &replay.names,
        top,
        args.against.is_some(),
        args.kernel,
    );
    let mut out = io::BufWriter::new(anstream::stdout().lock());
    match args.format {
        Format::Text => write!(out, "{report}")?,
        Format::Json => {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    if let Some(example) = &outcome.agreement.example {
        let number = outcome.agreement.different;
        anyhow::bail!(
            "the kernel decides differently about {number} packets; please report this: {example}"
        );
    }
    let nothing = outcome.tally.records == 0 && outcome.tally.unreadable > 0;
    Ok(if nothing { Exit::Failed } else { Exit::Fine })
}

struct Replay<'a> {
    args: &'a Args,
    new: Periods,
    old: Option<Periods>,
    names: Vec<String>,
    /// The API that was asked for.
    api: Option<usize>,
    /// Whether every port is the API's.
    any_port: bool,
    outcome: Outcome,
}

impl<'a> Replay<'a> {
    fn new(args: &'a Args) -> Result<Self, Stop> {
        let ports = args
            .port
            .iter()
            .cloned()
            .reduce(|all, more| all.union(&more));
        let any_port = args.config.is_none() && ports.is_none();
        let every = subject::every_port().map_err(|error| Stop::usage(error.to_string()))?;
        let protocols = if args.udp {
            Protocols::BOTH
        } else {
            Protocols::TCP
        };
        let mut like: Config = subject::one_api(ports.unwrap_or(every), protocols);
        like.addresses.clone_from(&args.address);
        let file = match (&args.config, &args.policy) {
            (Some(config), _) => File::config(config, &args.options)?,
            (None, Some(policy)) => File::read(policy, &args.options)?,
            (None, None) => return Err(Stop::usage("give `--policy` or `--config`")),
        };
        let is_config = file.spec().is_some();
        let new = file.subject(&args.options, &like)?.policies;
        let old = match &args.against {
            None => None,
            Some(path) => {
                let file = File::read(path, &args.options)?;
                Some(file.subject(&args.options, new.spec())?.policies)
            }
        };
        let new = Periods::new(new, args.at, args.kernel);
        let names = new.names();
        let api = args.api.as_ref().map(|wanted| {
            let found = names.iter().position(|name| name == wanted);
            let message = || format!("no API `{wanted}`: there are {}", names.join(", "));
            found.ok_or_else(|| Stop::usage(message()))
        });
        Ok(Self {
            args,
            new,
            old: old.map(|old| Periods::new(old, args.at, false)),
            api: api.transpose()?,
            names,
            any_port: any_port && !is_config,
            outcome: Outcome::default(),
        })
    }

    fn file(&mut self, path: &Path, done: &Arc<AtomicU64>) -> anyhow::Result<()> {
        let shown = files::shown(path);
        let reader: Box<dyn Read + Send> = if path.as_os_str() == "-" {
            Box::new(io::stdin())
        } else {
            Box::new(Opened::open(path).with_context(|| format!("can't open `{shown}`"))?)
        };
        let counted = Counted {
            reader,
            done: Arc::clone(done),
        };
        let opened = Input::open(counted);
        let input = match opened {
            Ok(input) => input,
            Err(error) => {
                self.outcome
                    .tally
                    .unreadable(|| format!("{shown}: can't be read: {error}"));
                return Ok(());
            }
        };
        match input.content {
            Content::Empty => Ok(()),
            Content::Capture => self.capture(input.reader, &shown),
            Content::Log(format) => self.log(input.reader, Some(&format), &shown),
            Content::Lines if self.args.field.is_some() => self.log(input.reader, None, &shown),
            Content::Lines => {
                let what = format!(
                    "{shown}: neither a capture nor a log of a known format: give the place of the source with `--field`"
                );
                self.outcome.tally.unreadable(|| what);
                Ok(())
            }
        }
    }

    fn capture(&mut self, reader: Box<dyn io::BufRead + Send>, shown: &str) -> anyhow::Result<()> {
        let mut failed = None;
        capture::read(reader, |item| {
            let result = match item {
                capture::Item::Unreadable(what) => {
                    self.outcome.tally.unreadable(|| format!("{shown}: {what}"));
                    Ok(())
                }
                capture::Item::Packet(packet) => self.packet(&packet, shown),
            };
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        });
        failed.map_or(Ok(()), Err)
    }

    fn packet(&mut self, packet: &capture::Packet<'_>, shown: &str) -> anyhow::Result<()> {
        let period = self.new.at(packet.time)?;
        let mut judged = period.judge.packet(packet.frame);
        period.compare(packet.frame, &judged, &mut self.outcome.agreement)?;
        if packet.cut && judged.in_the_dark {
            let reason = judged.reason;
            let what = || format!("{shown}: a packet's headers are not in the capture ({reason})");
            self.outcome.tally.unreadable(what);
            return Ok(());
        }
        let mut was = match &mut self.old {
            Some(old) => Some(old.at(packet.time)?.judge.packet(packet.frame).decision),
            None => None,
        };
        if packet.outgoing {
            judged = Judged {
                decision: Decision::Other,
                api: None,
                reason: "outgoing",
                ..judged
            };
            was = was.map(|_| judged.decision);
        }
        self.outcome.tally.add(&judged, was, packet.time);
        Ok(())
    }

    fn log(
        &mut self,
        mut reader: Box<dyn io::BufRead + Send>,
        format: Option<&log::Format>,
        shown: &str,
    ) -> anyhow::Result<()> {
        let field = self.args.field.clone();
        let mut failed = None;
        let end = log::read(&mut reader, format, field.as_ref(), |item| {
            let result = match item {
                log::Item::Unreadable(line, why) => {
                    self.outcome
                        .tally
                        .unreadable(|| format!("{shown}:{line}: {why}"));
                    Ok(())
                }
                log::Item::Record(record) => self.record(&record, shown),
            };
            if let Err(error) = result {
                failed.get_or_insert(error);
            }
        });
        if let Err(error) = end {
            self.outcome
                .tally
                .unreadable(|| format!("{shown}: can't be read any further: {error}"));
        }
        failed.map_or(Ok(()), Err)
    }

    fn record(&mut self, record: &log::Record<'_>, shown: &str) -> anyhow::Result<()> {
        let (api, any, apis) = (self.api, self.any_port, self.names.len());
        let stage = self.args.stage.as_deref();
        let whole = |periods: &Periods, judged: Judged| match stage {
            Some(stage) => periods.request(record, stage, judged),
            None => judged,
        };
        let judged = self.new.at(record.time)?.record(record, api, any, apis);
        let Some(judged) = judged.map(|judged| whole(&self.new, judged)) else {
            let names = self.names.join(", ");
            let message = format!(
                "`{shown}` does not say which port a request was for: choose the API with `--api` ({names})"
            );
            return Err(Stop::usage(message).into());
        };
        let was = match &mut self.old {
            Some(old) => {
                let was = old.at(record.time)?.record(record, api, any, apis);
                was.map(|was| whole(old, was).decision)
            }
            None => None,
        };
        self.outcome.tally.add(&judged, was, record.time);
        Ok(())
    }
}

/// A reader whose progress others see.
struct Counted {
    reader: Box<dyn Read + Send>,
    done: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
