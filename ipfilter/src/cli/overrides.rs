//! `ipfilter overrides`: what is decided above the policy for a while.

use anyhow::Context as _;
use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::json;

use super::{Exit, format::Format, reload, require_root};
use crate::{
    daemon::{self, Answer, Ending, Request},
    instance::Instance,
    overrides::{Change, Effect, Override, Rule, parse_source, shown},
    state::load_overrides,
};

/// List the overrides in force, or remove some
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Remove(Remove),
}

/// End overrides before their time
#[derive(Debug, clap::Args)]
struct Remove {
    /// Their numbers
    #[arg(value_name = "ID", required_unless_present_any = ["allow", "block", "reason"])]
    ids: Vec<u64>,

    /// The one that allows this source
    #[arg(long, value_name = "SOURCE", value_parser = parse_source, conflicts_with_all = ["ids", "block"])]
    allow: Option<IpNet>,

    /// The one that blocks this source
    #[arg(long, value_name = "SOURCE", value_parser = parse_source, conflicts_with = "ids")]
    block: Option<IpNet>,

    /// The API of that one, if it is for one API
    #[arg(long, value_name = "NAME", conflicts_with = "ids")]
    api: Option<String>,

    /// All with this reason, of which there may be none
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["ids", "allow", "block", "api"])]
    reason: Option<String>,

    /// Return once the process that runs the instance has accepted it, before it is in force
    #[arg(long)]
    no_wait: bool,

    /// How to print what was removed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What `allow` and `block` have in common.
#[derive(Debug, clap::Args)]
pub(super) struct About {
    /// The API that it is for [default: each]
    #[arg(long, value_name = "NAME")]
    pub(super) api: Option<String>,

    /// Why, for those who read `ipfilter overrides`
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,

    /// Return once the process that runs the instance has accepted it, before it is in force
    ///
    /// For programs that give many one after the other. Whether it is refused, such as for an API that there
    /// is not, only the log says then; and if the process dies within that second it is forgotten.
    #[arg(long)]
    pub(super) no_wait: bool,

    /// How to print the override
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("overriding the policy")?;
    match args.command {
        None => list(args.format, instance),
        Some(Command::Remove(remove)) => {
            let (format, no_wait) = (remove.format, remove.no_wait);
            finish(change(remove.into_change(), no_wait, instance)?, format)
        }
    }
}

/// Adds an override, and waits until it is in force unless that is not wanted.
pub(super) fn add(rule: Rule, about: &About, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("overriding the policy")?;
    finish(
        change(Change::Add(rule), about.no_wait, instance)?,
        about.format,
    )
}

impl Remove {
    fn into_change(self) -> Change {
        if let Some(reason) = self.reason {
            return Change::LiftReason(reason);
        }
        let sources = [(Effect::Allow, self.allow), (Effect::Block, self.block)];
        let mut sources = sources.into_iter();
        match sources.find_map(|(effect, source)| Some((effect, source?))) {
            Some((effect, source)) => Change::Lift {
                effect,
                source,
                api: self.api,
            },
            None => Change::Remove(self.ids),
        }
    }
}

/// Has the daemon make the change, or makes it where none runs.
fn change(change: Change, no_wait: bool, instance: &Instance) -> anyhow::Result<Answer> {
    if instance.is_run()? {
        let request = if no_wait {
            Request::Queue(change)
        } else {
            Request::Override(change)
        };
        return daemon::ask(instance, &request);
    }
    let lock = instance.lock()?;
    Ok(daemon::change(&lock, &change)?)
}

fn finish(answer: Answer, format: Format) -> anyhow::Result<Exit> {
    match (format, answer.result) {
        (Format::Json, Ending::Done) => print_json(answer.overrides.iter()),
        (Format::Json, Ending::Queued) => {
            println!("{}", json!({ "accepted": true }));
            Ok(Exit::Fine)
        }
        _ => reload::finish(answer),
    }
}

fn list(format: Format, instance: &Instance) -> anyhow::Result<Exit> {
    let overrides = load_overrides(instance).context("the overrides can't be shown")?;
    let now = Timestamp::now();
    if format == Format::Json {
        return print_json(overrides.active(now));
    }
    if overrides.active(now).next().is_none() {
        println!("no overrides: the policy alone decides");
    }
    for one in overrides.active(now) {
        let Rule {
            effect,
            source,
            api,
            until,
            reason,
        } = &one.rule;
        println!(
            "{:>6}  {:<5}  {:<18}  {:<25}  {:<10}  {}",
            one.id,
            effect.name(),
            shown(*source),
            until.map_or_else(|| "until removed".into(), |until| format!("until {until}")),
            api.as_deref().unwrap_or("each API"),
            reason.as_deref().unwrap_or_default()
        );
    }
    Ok(Exit::Fine)
}

fn print_json<'o>(overrides: impl Iterator<Item = &'o Override>) -> anyhow::Result<Exit> {
    let overrides: Vec<_> = overrides.collect();
    println!("{}", json!({ "overrides": overrides }));
    Ok(Exit::Fine)
}
