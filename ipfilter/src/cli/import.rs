//! `ipfilter import`: address lists of other programs as a policy.

use std::{
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;
use ipfilter_exchange::{Choice, Format, detect, import, policy as document};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{Exit, Stop};
use crate::{
    addresses::{AddressSet, words},
    files,
    policy::{self, Options, Severity, Source},
};

/// The most bytes of a list.
const LIMIT: u64 = 1 << 30;

/// Convert address lists of other programs to a policy
///
/// The policy admits the sources that the lists admit, and is printed to standard output.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The lists, which are merged; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Their format (default: detected)
    #[arg(long, value_enum, value_name = "FORMAT")]
    from: Option<From>,

    /// Admit everyone except the listed sources
    #[arg(long)]
    deny: bool,

    /// Only the set of this name (nftables, ipset)
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    set: Vec<String>,

    /// The column with the addresses: heading or number (CSV)
    #[arg(long, value_name = "COLUMN")]
    column: Option<String>,

    /// Only this service (`ip-ranges.json`)
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// Only this region (`ip-ranges.json`)
    #[arg(long, value_name = "NAME")]
    region: Option<String>,

    /// Only the rules for this port (security groups)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// The sources that arrive as `aws:VpcSourceIp` (default: the private ranges)
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = parse_cidr)]
    vpc_cidr: Vec<IpNet>,
}

/// The choices of `--from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    /// One address, CIDR or range per line
    Plain,
    /// Comma-separated values
    Csv,
    /// `nft list ruleset`, a set, or elements
    Nft,
    /// `ipset save`
    Ipset,
    /// `iptables-save` or `ip6tables-save`
    Iptables,
    /// nginx's `allow` and `deny`
    Nginx,
    /// AWS's `ip-ranges.json`
    IpRanges,
    /// An IP set of AWS WAF
    Waf,
    /// Security groups of EC2
    SecurityGroup,
    /// What `ipfilter events` prints
    Events,
}

impl std::convert::From<From> for Format {
    fn from(from: From) -> Self {
        match from {
            From::Plain => Self::Plain,
            From::Csv => Self::Csv,
            From::Nft => Self::Nft,
            From::Ipset => Self::Ipset,
            From::Iptables => Self::Iptables,
            From::Nginx => Self::Nginx,
            From::IpRanges => Self::IpRanges,
            From::Waf => Self::Waf,
            From::SecurityGroup => Self::SecurityGroup,
            From::Events => Self::Events,
        }
    }
}

fn parse_cidr(text: &str) -> Result<IpNet, String> {
    policy::parse_block(text)
        .ok_or_else(|| "write a block such as `10.0.0.0/8` or `fc00::/7`".to_owned())
}

/// Runs the command.
///
/// # Errors
///
/// When a list can't be read or understood, or the policy can't be printed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let choice = Choice {
        sets: args.set.clone(),
        column: args.column.clone(),
        service: args.service.clone(),
        region: args.region.clone(),
        port: args.port,
    };
    let mut sets = Vec::new();
    for file in &args.files {
        sets.push(read(file, args.from, &choice)?);
    }
    let listed = AddressSet::union_all(sets);
    let sources = if args.deny {
        listed.complement()
    } else {
        listed
    };
    let options = Options {
        vpc_cidrs: (!args.vpc_cidr.is_empty()).then(|| args.vpc_cidr.clone()),
        ..Options::default()
    };
    let text = document(&sources, &options.vpc_sources());
    prove(&text, &sources, &options)?;
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    // Standard error may be closed; the exit code says all the same.
    let _ = writeln!(anstream::stderr(), "may call: {}", words::sources(&sources));
    Ok(Exit::Fine)
}

/// Reads one list.
fn read(file: &Path, from: Option<From>, choice: &Choice) -> anyhow::Result<AddressSet> {
    let shown = files::shown(file);
    let bytes = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else {
        files::read(file, LIMIT)
    };
    let bytes = bytes.with_context(|| format!("can't read `{shown}`"))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        anyhow::anyhow!("{shown}: byte {place} is not UTF-8: a list is text")
    })?;
    let format = from.map_or_else(|| detect(&text), Format::from);
    match import(&text, format, choice) {
        Ok(imported) => Ok(imported.sources),
        Err(problems) => {
            let problems: Vec<_> = problems
                .iter()
                .map(|problem| format!("{shown}:{problem}"))
                .collect();
            let name = from
                .is_none()
                .then(|| format!(" (read as {}; `--from` says otherwise)", name(format)));
            anyhow::bail!("{}{}", problems.join("\nerror: "), name.unwrap_or_default())
        }
    }
}

fn name(format: Format) -> &'static str {
    match format {
        Format::Plain => "plain",
        Format::Csv => "csv",
        Format::Nft => "nft",
        Format::Ipset => "ipset",
        Format::Iptables => "iptables",
        Format::Nginx => "nginx",
        Format::IpRanges => "ip-ranges",
        Format::Waf => "waf",
        Format::SecurityGroup => "security-group",
        Format::Events => "events",
    }
}

/// What is printed must mean what was read: it is read back.
pub(super) fn prove(text: &str, sources: &AddressSet, options: &Options) -> Result<(), Stop> {
    let source = Source::new("the policy", text);
    let parsed = policy::parse(&source, options);
    let now = Timestamp::now();
    let is_right = parsed.policy.as_ref().is_some_and(|policy| {
        let decisions = policy.at(now);
        decisions.may_pass == *sources && decisions.allowed == *sources
    });
    if !is_right {
        return Err(Stop::failed(
            "the policy would not mean what the lists say; please report this",
        ));
    }
    for problem in parsed
        .problems
        .iter()
        .filter(|it| it.severity != Severity::Error)
    {
        let _ = writeln!(anstream::stderr(), "warning: {}", problem.message);
    }
    Ok(())
}
