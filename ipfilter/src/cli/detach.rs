//! `ipfilter detach`: detach the filter.

use jiff::SignedDuration;

use super::{Exit, hand_over::ask_or_do, require_root};
use crate::{
    config::duration,
    daemon::{self, Request, Terms},
    instance::Instance,
    kernel::Filter,
    state::{Entry, Kind, Requester, Trial, note},
};

/// Detach the filter from all interfaces: everyone can reach the API again
///
/// Stops a process that runs the instance first (SIGTERM), since its next reload would attach the filter
/// again. With `--for` the filter comes back by itself, at the latest when a process of the instance
/// starts or ends.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Attach it again after this time, such as `60s`; the process that runs the instance stays, and without
    /// one a small process stays until then
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<SignedDuration>,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("detaching the filter")?;
    if let Some(lasts) = args.lasts {
        return pause(lasts, instance);
    }
    let _lock = instance.take_over()?;
    let filter = Filter::of(instance);
    let interfaces = filter.detach()?;
    // Nothing is to come back.
    Trial::remove(instance)?;
    if !interfaces.is_empty() {
        let names: Vec<_> = interfaces.iter().map(|one| one.name.as_str()).collect();
        let entry = Entry::now(Kind::Detach, Requester::own(), None, &names.join(", "));
        note(instance, &[entry]);
    }
    if interfaces.is_empty() {
        println!("nothing was attached as instance `{}`", instance.name());
        for other in instance.others() {
            println!(
                "instance `{other}` is there: `ipfilter --instance {other} detach` detaches it"
            );
        }
        for other in instance.elsewhere() {
            println!("instance {other} is there too: detach it from there");
        }
    }
    for interface in interfaces {
        println!("detached from `{}`", interface.name);
    }
    tell_of_others(instance, &filter)?;
    Ok(Exit::Fine)
}

/// Detaches it for a while.
fn pause(lasts: SignedDuration, instance: &Instance) -> anyhow::Result<Exit> {
    let terms = Terms {
        lasts: Some(lasts),
        ..Terms::default()
    };
    ask_or_do(instance, terms, Request::Detach, |lock, _| {
        daemon::detach_for(lock, lasts)
    })
}

/// What stays, of which someone who detaches may think that it is gone.
fn tell_of_others(instance: &Instance, filter: &Filter) -> anyhow::Result<()> {
    let name = instance.name();
    for namespace in filter.namesakes() {
        println!("an instance `{name}` of {namespace} is left alone: detach it from there");
    }
    for stray in filter.strays()? {
        println!(
            "at `{}` a program of ipfilter stays attached ({}) whose pins are not in sight: it ends with \
             the process or the mount namespace that holds it, or by `bpftool link`",
            stray.interface, stray.program
        );
    }
    Ok(())
}
