//! `ipfilter block`: keep a source out for a while, or for good.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{
    Exit, Stop,
    overrides::{self, About},
};
use crate::{
    instance::Instance,
    overrides::{Effect, Rule, end, parse_duration, parse_source, shown},
    session,
};

/// Deny a source for a while, or for good, whatever the policy says
///
/// The override ends by the clock, through restarts, and wins over every `allow`. A source that
/// somebody is logged in from is refused unless `--force` is given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An address, or a block of addresses
    #[arg(value_parser = parse_source)]
    source: IpNet,

    /// How long, such as `90s`, `2h` or `7d`
    #[arg(
        long = "for",
        value_name = "TIME",
        value_parser = parse_duration,
        allow_hyphen_values = true,
        conflicts_with = "forever"
    )]
    lasts: Option<SignedDuration>,

    /// Until `ipfilter overrides remove` ends it
    #[arg(long)]
    forever: bool,

    /// Block it even if somebody is logged in from there, or if it is everyone
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    about: About,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    if args.lasts.is_none() && !args.forever {
        return Err(Stop::usage(
            "for how long? give `--for 1h`, or `--forever` until `ipfilter overrides remove` ends it",
        )
        .into());
    }
    if !args.force {
        guard(args.source)?;
    }
    let now = Timestamp::now();
    let rule = Rule {
        effect: Effect::Block,
        source: args.source,
        api: args.about.api.clone(),
        until: args.lasts.map(|lasts| end(now, lasts)),
        reason: args.about.reason.clone(),
    };
    overrides::add(rule, &args.about, instance)
}

/// Refuses to block whoever is at this host.
fn guard(source: IpNet) -> Result<(), Stop> {
    let mut sessions = session::all().into_iter();
    if let Some(session) = sessions.find(|session| source.contains(&session.from)) {
        return Err(Stop::usage(format!(
            "`{}` would block {}, {}: choose a smaller block, or give `--force`",
            shown(source),
            session.from,
            session.known_by
        )));
    }
    if source.prefix_len() == 0 {
        return Err(Stop::usage(format!(
            "`block {source}` would deny everyone of that family: give `--force` if that is meant"
        )));
    }
    Ok(())
}
