//! `ipfilter stop`: end the process that keeps the filter current.

use anyhow::bail;

use super::{Exit, require_root};
use crate::{instance::Instance, kernel::Filter};

/// End the process that runs the instance; the filter stays attached
///
/// Nobody picks up changes, boundaries of time and new interfaces until the next `ipfilter run`.
/// `ipfilter detach` detaches the filter as well. A service is better stopped by its service manager.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("stopping the process")?;
    let name = instance.name();
    let Some(pid) = instance.owner()? else {
        bail!(
            "no process runs instance `{name}`; `ipfilter --instance {name} detach` detaches the filter"
        );
    };
    let _lock = instance.take_over()?;
    println!("process {pid} has ended");
    for found in Filter::of(instance).inspect()? {
        println!("`{}` is still filtered", found.interface.name);
    }
    println!("`ipfilter --instance {name} detach` detaches the filter");
    Ok(Exit::Fine)
}
