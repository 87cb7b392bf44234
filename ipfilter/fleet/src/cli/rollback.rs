//! `ipfilter fleet rollback`: the group goes back to an earlier bundle.

use super::{Signing, Target, parse_time, publish, status};
use crate::{
    outcome::{Exit, Stop},
    publish::{Publisher, Rollout},
};

/// Have a group enforce an earlier bundle again
///
/// It is published anew, with a generation of its own, since no host goes back to an earlier generation. Without
/// `--to-generation` it is the one before that in force, or the one in force if another is being tried.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,

    #[command(flatten)]
    signing: Signing,

    /// Go back to the bundle of this generation, which `ipfilter fleet history` lists
    #[arg(long, value_name = "N")]
    to_generation: Option<u64>,

    /// Show nothing and ask nothing
    #[arg(long)]
    yes: bool,

    /// How long a host may take to have it in force
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_time)]
    timeout: std::time::Duration,
}

pub(super) async fn run(args: &Args) -> Result<Exit, Stop> {
    let keys = args.signing.keys()?;
    let store = args.target.store()?;
    let seen = store.desired().await?;
    let history = store.history().await?;
    let stable = seen.desired.stable.as_ref().map(|it| it.release.clone());
    let Some(stable) = stable else {
        return Err(status::nothing(store.group.as_str()));
    };
    let wanted = match (args.to_generation, &seen.desired.canary) {
        (Some(generation), _) => history.iter().find(|it| it.generation() == generation),
        (None, Some(_)) => history
            .iter()
            .find(|it| it.generation() == stable.generation),
        (None, None) => history.iter().rev().find(|it| {
            it.generation() < stable.generation && it.release.release.digest != stable.digest
        }),
    };
    let Some(wanted) = wanted else {
        return Err(Stop::failed(match args.to_generation {
            Some(generation) => format!(
                "generation {generation} is not kept: `ipfilter fleet history` lists those that are"
            ),
            None => "there is no earlier bundle to go back to".to_owned(),
        }));
    };
    let digest = wanted.release.release.digest;
    let generation = wanted.generation();
    store.fetch("the bundle", digest).await?;
    if !args.yes {
        publish::show_difference(&store, Some(stable.digest), digest).await?;
        publish::ask(&format!(
            "have group `{}` enforce the bundle of generation {generation} again?",
            store.group
        ))?;
    }
    let publisher = Publisher {
        store: &store,
        keys: &keys,
    };
    let rollout = Rollout {
        timeout: args.timeout,
        ..Rollout::default()
    };
    publisher.back(seen, digest, generation, &rollout).await
}
