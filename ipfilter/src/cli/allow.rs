//! `ipfilter allow`: let a source pass for a while.

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{
    Exit, Stop,
    overrides::{self, About},
};
use crate::{
    instance::Instance,
    overrides::{Effect, Rule, end, parse_duration, parse_source},
};

/// Let a source pass for a while, whatever the policy says
///
/// The override ends by the clock, through restarts. A block of the same source wins over it. The
/// authorization service behind the interface still judges the requests.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// An address, or a block of addresses
    #[arg(value_parser = parse_source)]
    source: IpNet,

    /// How long, such as `90s`, `2h` or `7d`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration, allow_hyphen_values = true)]
    lasts: SignedDuration,

    #[command(flatten)]
    about: About,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    if args.source.prefix_len() == 0 {
        return Err(Stop::usage(format!(
            "`allow {}` would let everyone in: say so in the policy, if that is meant, or use \
             `ipfilter detach`",
            args.source
        ))
        .into());
    }
    let rule = Rule {
        effect: Effect::Allow,
        source: args.source,
        api: args.about.api.clone(),
        until: Some(end(Timestamp::now(), args.lasts)),
        reason: args.about.reason.clone(),
    };
    overrides::add(rule, &args.about, instance)
}
