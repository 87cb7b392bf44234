//! `ipfilter fleet allow`, `block`, `overrides`: temporary decisions for all hosts of a group.

use ipfilter_bundle::{Kind, Release, message::GroupOverrides};
use ipfilter_overrides::{Effect, Rule, end, parse_duration, parse_source, shown};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::{Signing, Target};
use crate::{
    outcome::{Exit, Format, Stop, print, print_json},
    store::{Store, pack},
};

/// How often a change is tried again that somebody else came before.
const TRIES: usize = 10;

/// What both have in common.
#[derive(Debug, clap::Args)]
struct About {
    /// An address, or a block of addresses
    #[arg(value_parser = parse_source)]
    source: IpNet,

    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    signing: Signing,

    /// The API that it is for [default: each]
    #[arg(long, value_name = "NAME")]
    api: Option<String>,

    /// Why, for those who read the list
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// Let a source pass for a while at all hosts of a group, whatever the policy says
#[derive(Debug, clap::Args)]
pub(super) struct Allow {
    #[command(flatten)]
    about: About,

    /// How long, such as `90s`, `2h` or `7d`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    lasts: SignedDuration,
}

/// Deny a source for a while, or for good, at all hosts of a group, whatever the policy says
#[derive(Debug, clap::Args)]
pub(super) struct Block {
    #[command(flatten)]
    about: About,

    /// How long, such as `90s`, `2h` or `7d`
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration, conflicts_with = "forever")]
    lasts: Option<SignedDuration>,

    /// Until `ipfilter fleet overrides --remove` ends it
    #[arg(long)]
    forever: bool,
}

/// List the overrides of a group, or end some
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    signing: Signing,

    /// End those of this source
    #[arg(long, value_name = "SOURCE", value_parser = parse_source)]
    remove: Vec<IpNet>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Allow {
    pub(super) async fn run(self) -> Result<Exit, Stop> {
        if self.about.source.prefix_len() == 0 {
            return Err(Stop::usage(
                "this would let everyone in: say so in the policy, if that is meant",
            ));
        }
        self.about.add(Effect::Allow, Some(self.lasts)).await
    }
}

impl Block {
    pub(super) async fn run(self) -> Result<Exit, Stop> {
        if self.lasts.is_none() && !self.forever {
            return Err(Stop::usage(
                "for how long? give `--for 1h`, or `--forever` until `ipfilter fleet overrides --remove` ends it",
            ));
        }
        if self.about.source.prefix_len() == 0 {
            return Err(Stop::usage(
                "this would deny everyone of that family: say so in the policy, if that is meant",
            ));
        }
        self.about.add(Effect::Block, self.lasts).await
    }
}

impl About {
    async fn add(self, effect: Effect, lasts: Option<SignedDuration>) -> Result<Exit, Stop> {
        if self
            .reason
            .as_ref()
            .is_some_and(|it| it.len() > ipfilter_overrides::LONGEST_REASON)
        {
            return Err(Stop::usage("the reason is too long: shorten it"));
        }
        let now = Timestamp::now();
        let rule = Rule {
            effect,
            source: self.source,
            api: self.api,
            until: lasts.map(|lasts| end(now, lasts)),
            reason: self.reason,
        };
        let store = self.target.store()?;
        let is_same = |other: &Rule| {
            (other.effect, other.source, &other.api) == (rule.effect, rule.source, &rule.api)
        };
        let generation = change(&store, &self.signing, |rules| {
            rules.retain(|other| !is_same(other));
            rules.push(rule.clone());
            Ok(())
        });
        let generation = generation.await?;
        print(&format!(
            "{} {} at all hosts of group `{}`: generation {generation} of its overrides\n",
            effect.name(),
            shown(self.source),
            store.group
        ))?;
        Ok(Exit::Fine)
    }
}

pub(super) async fn run(args: &Args) -> Result<Exit, Stop> {
    let store = args.target.store()?;
    if !args.remove.is_empty() {
        let generation = change(&store, &args.signing, |rules| {
            for source in &args.remove {
                if !rules.iter().any(|rule| rule.source == *source) {
                    let source = shown(*source);
                    return Err(Stop::failed(format!("group has no override of `{source}`")));
                }
            }
            rules.retain(|rule| !args.remove.contains(&rule.source));
            Ok(())
        });
        let generation = generation.await?;
        print(&format!(
            "removed: generation {generation} of the overrides of group `{}`\n",
            store.group
        ))?;
        return Ok(Exit::Fine);
    }
    let (rules, _, _) = read(&store).await?;
    if args.format == Format::Json {
        print_json(&serde_json::json!({ "overrides": rules }))?;
        return Ok(Exit::Fine);
    }
    if rules.is_empty() {
        print(&format!(
            "group `{}` has no overrides: the policy alone decides\n",
            store.group
        ))?;
    }
    for rule in rules {
        let until = rule
            .until
            .map_or_else(|| "until removed".into(), |it| format!("until {it}"));
        let (api, reason) = (rule.api.as_deref(), rule.reason.as_deref());
        print(&format!(
            "{:<5}  {:<18}  {until:<25}  {:<10}  {}\n",
            rule.effect.name(),
            shown(rule.source),
            api.unwrap_or("each API"),
            reason.unwrap_or_default()
        ))?;
    }
    Ok(Exit::Fine)
}

/// The overrides that have not ended, their generation, and the revision of their last change.
async fn read(store: &Store) -> Result<(Vec<Rule>, u64, i64), Stop> {
    let (release, revision) = store.overrides().await?;
    let Some(release) = release else {
        return Ok((Vec::new(), 0, revision));
    };
    let content = store
        .fetch("the list of overrides", release.release.digest)
        .await?;
    let list = GroupOverrides::decode(&content)
        .map_err(|why| Stop::failed(format!("the list of overrides can't be understood: {why}")))?;
    let now = Timestamp::now();
    let mut rules = list.overrides;
    rules.retain(|rule| rule.until.is_none_or(|until| now < until));
    Ok((rules, release.release.generation, revision))
}

/// Changes the overrides, whoever else does so at the same time; their new generation.
async fn change(
    store: &Store,
    signing: &Signing,
    change: impl Fn(&mut Vec<Rule>) -> Result<(), Stop>,
) -> Result<u64, Stop> {
    let keys = signing.keys()?;
    if store.desired().await?.revision == 0 {
        return Err(super::status::nothing(store.group.as_str()));
    }
    let highest = highest(store).await?;
    for _ in 0..TRIES {
        let (mut rules, before, revision) = read(store).await?;
        change(&mut rules)?;
        if rules.len() > ipfilter_overrides::MOST {
            return Err(Stop::failed(
                "the group has as many overrides as there can be: write lasting decisions into the policy",
            ));
        }
        let list = GroupOverrides { overrides: rules };
        let content = list
            .encode()
            .map_err(|error| Stop::failed(error.to_string()))?;
        let packed = pack(&content);
        store.upload(&packed).await?;
        let release = Release {
            group: store.group.clone(),
            kind: Kind::Overrides,
            generation: before.max(highest) + 1,
            digest: packed.digest,
        };
        let generation = release.generation;
        if store.flip_overrides(&release.sign(&keys), revision).await? {
            return Ok(generation);
        }
    }
    Err(Stop::failed(
        "others change the overrides of this group all the time: try again",
    ))
}

/// The highest generation of overrides that a host has: etcd may have been restored from an older backup.
async fn highest(store: &Store) -> Result<u64, Stop> {
    let (found, _) = store.reports().await?;
    let (release, _) = store.overrides().await?;
    let known = release.map_or(0, |it| it.release.generation);
    let generations = found
        .iter()
        .filter_map(|it| Some(it.report.overrides?.generation));
    Ok(generations
        .filter(|generation| *generation <= known + crate::publish::MOST_AHEAD)
        .max()
        .unwrap_or_default())
}
