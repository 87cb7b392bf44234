//! `ipfilter diff`: who gains or loses access when one policy replaces another.

use std::{io::Write as _, path::PathBuf};

use jiff::Timestamp;

use super::{
    Exit, Stop,
    explain::parse_time,
    format::Format,
    require_root,
    subject::{self, File, Subject},
};
use crate::{
    compare::{self, Period},
    config::{Config, GivenOptions},
    impact::Impact,
    instance::Instance,
    kernel::Filter,
    plan::Protocols,
    prepare::Policies,
    view::{
        diff::{Labels, Report},
        event::wall,
        impact::ImpactView,
    },
};

/// Show which sources gain or lose access to which API, and the statements behind it
///
/// OLD and NEW are policies or configuration files. Without `--at`, compares them now and at each later
/// time at which a policy changes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// OLD and NEW, or only NEW with `--live`; `-` is a policy on standard input
    #[arg(required = true, num_args = 1..=2, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Compare with what is deployed, and list the sources that called lately and would lose access
    #[arg(long)]
    live: bool,

    /// Compare at this time only: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    at: Option<Timestamp>,

    /// Exit with 6 if anything differs
    #[arg(long)]
    exit_code: bool,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    policy: GivenOptions,
}

/// Runs the command.
///
/// # Errors
///
/// When something can't be read, or is no policy, or the outcome can't be printed.
pub fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let (before, after) = args.subjects(instance)?;
    let periods = match args.at {
        Some(at) => vec![compare::at(&before.policies, &after.policies, at)?],
        None => {
            let now = Timestamp::now();
            compare::from(&before.policies, &after.policies, now)?
        }
    };
    let differs = periods.iter().any(|period| !period.is_empty());
    let labels = Labels {
        before: &before.policies,
        after: &after.policies,
    };
    let impact = args
        .live
        .then(|| impact(instance, &before.policies, &periods));
    let report = Report::new(&periods, &labels, impact);
    let mut out = std::io::BufWriter::new(anstream::stdout().lock());
    match args.format {
        Format::Text => write!(out, "{report}")?,
        Format::Json => {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(if args.exit_code && differs {
        Exit::Different
    } else {
        Exit::Fine
    })
}

/// What the change does to the sources that called lately.
fn impact(instance: &Instance, before: &Policies, periods: &[Period]) -> ImpactView {
    let now = Timestamp::now();
    let seen = || {
        if before.spec().allowed_sources == 0 {
            return Err("the setting `allowed_sources` is 0".to_owned());
        }
        let callers = Filter::of(instance)
            .callers()
            .map_err(|error| error.to_string())?;
        let plan = before.plan(now).map_err(|error| error.to_string())?;
        let changes = compare::union(periods);
        Ok(Impact::new(&callers, &plan, &changes, wall))
    };
    ImpactView::new(seen(), now)
}

impl Args {
    fn subjects(&self, instance: &Instance) -> Result<(Subject, Subject), Stop> {
        let options = &self.policy;
        let any = subject::one_api(
            subject::every_port().map_err(|error| Stop::usage(error.to_string()))?,
            Protocols::TCP,
        );
        match (self.live, self.files.as_slice()) {
            (true, [new]) => {
                require_root("reading what is deployed")?;
                let before = Subject::live(instance)?;
                let new = File::read(new, options)?;
                let after = new.subject(options, before.policies.spec())?;
                Ok((before, after))
            }
            (false, [old, new]) => {
                let twice = old == new && old.as_os_str() == "-";
                if twice {
                    return Err(Stop::usage("standard input can't be both policies"));
                }
                let (old, new) = (File::read(old, options)?, File::read(new, options)?);
                let like = |other: &File| other.spec().unwrap_or(&any).clone();
                let (like_new, like_old): (Config, Config) = (like(&new), like(&old));
                Ok((
                    old.subject(options, &like_new)?,
                    new.subject(options, &like_old)?,
                ))
            }
            (true, _) => Err(Stop::usage("give NEW alone with `--live`")),
            (false, _) => Err(Stop::usage(
                "give OLD and NEW, or `--live` and NEW to compare with what is deployed",
            )),
        }
    }
}
