//! `ipfilter detach`: take the filter off.

use super::{Exit, require_root};
use crate::{instance::Instance, kernel::Filter};

/// Detach the filter from all interfaces: everyone can reach the API again
///
/// Stops a process that runs the instance first (SIGTERM), since its next reload would attach the filter
/// again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("taking the filter off")?;
    let _lock = instance.take_over()?;
    let interfaces = Filter::of(instance).detach()?;
    if interfaces.is_empty() {
        println!("nothing was attached as instance `{}`", instance.name());
        for other in instance.others() {
            println!(
                "instance `{other}` is there: `ipfilter --instance {other} detach` detaches it"
            );
        }
    }
    for interface in interfaces {
        println!("detached from `{}`", interface.name);
    }
    Ok(Exit::Fine)
}
