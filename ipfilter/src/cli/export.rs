//! `ipfilter export`: who may call, as configuration for another program.

use std::{io::Write as _, path::PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use ipfilter_exchange::{Target, export};
use jiff::Timestamp;

use super::{
    Exit,
    explain::parse_time,
    policy_file::{self, PolicyFile},
};
use crate::config::PolicyOptions;

/// Export the allowed sources as configuration for another program
///
/// What the other program can't express is an error: nothing is approximated.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy file; `-` is standard input
    #[arg(long = "policy", value_name = "FILE")]
    file: PathBuf,

    /// The format
    #[arg(long, value_enum, value_name = "FORMAT")]
    to: To,

    /// Who may call at this time: RFC 3339, or seconds since 1970. Required if that changes (default: now)
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,

    #[command(flatten)]
    policy: PolicyOptions,
}

/// The choices of `--to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// nftables: a table with two sets and a chain
    Nft,
    /// `ipset restore`
    Ipset,
    /// `iptables-restore` and `ip6tables-restore`
    Iptables,
    /// nginx's `allow` and `deny`
    Nginx,
    /// HAProxy, for a frontend
    Haproxy,
    /// Caddy, for a site
    Caddy,
    /// AWS WAF: an IP set for each family
    Waf,
    /// CIDRs, one per line
    Plain,
}

impl From<To> for Target {
    fn from(to: To) -> Self {
        match to {
            To::Nft => Self::Nft,
            To::Ipset => Self::Ipset,
            To::Iptables => Self::Iptables,
            To::Nginx => Self::Nginx,
            To::Haproxy => Self::Haproxy,
            To::Caddy => Self::Caddy,
            To::Waf => Self::Waf,
            To::Plain => Self::Plain,
        }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the policy can't be read or enforced, or said in that form, or printed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let PolicyFile { policy, exit, .. } = match policy_file::read(&args.file, &args.policy)? {
        Ok(file) => file,
        Err(exit) => return Ok(exit),
    };
    if exit != Exit::Fine {
        return Ok(exit);
    }
    let now = args.at.unwrap_or_else(Timestamp::now);
    let change = policy.changes(now).next();
    if let (None, Some((time, _))) = (args.at, change) {
        bail!(
            "who may call changes at {time}, which a list can't express: choose a time with `--at`"
        );
    }
    let text = export(&policy.at(now).may_pass, args.to.into())?;
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Exit::Fine)
}
