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
    #[arg(value_name = "ID", required_unless_present_any = ["allow", "block"])]
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

    /// How to print the override
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("overriding the policy")?;
    match args.command {
        None => list(args.format, instance),
        Some(Command::Remove(remove)) => {
            let format = remove.format;
            finish(change(remove.into_change(), instance)?, format)
        }
    }
}

/// Adds an override, and waits until it is in force.
pub(super) fn add(rule: Rule, about: &About, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("overriding the policy")?;
    finish(change(Change::Add(rule), instance)?, about.format)
}

impl Remove {
    fn into_change(self) -> Change {
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
fn change(change: Change, instance: &Instance) -> anyhow::Result<Answer> {
    if instance.owner()?.is_some() {
        return daemon::ask(instance, &Request::Override(change));
    }
    let lock = instance.lock()?;
    Ok(daemon::change(&lock, &change)?)
}

fn finish(answer: Answer, format: Format) -> anyhow::Result<Exit> {
    if format == Format::Json && answer.result == Ending::Done {
        return print_json(answer.overrides.iter());
    }
    reload::finish(answer)
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
