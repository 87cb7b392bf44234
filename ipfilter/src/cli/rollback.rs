//! `ipfilter rollback`: go back to the deployment before.

use super::{Exit, reload, require_root};
use crate::{
    daemon::{self, Request},
    instance::Instance,
};

/// Return to the previous deployment: its interfaces, ports and policies
///
/// Files are not changed: the next reload deploys what they say. A restart by the service manager does
/// not, unless they have changed since. A second rollback undoes the first.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("rolling back the filter")?;
    if instance.owner()?.is_some() {
        return reload::finish(daemon::ask(instance, &Request::Rollback)?);
    }
    let lock = instance.lock()?;
    println!("{}", daemon::rollback(&lock)?);
    Ok(Exit::Fine)
}
