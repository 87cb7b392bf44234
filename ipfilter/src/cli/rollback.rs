//! `ipfilter rollback`: go back to the deployment before.

use super::{Exit, reload, require_root};
use crate::{
    daemon::{self, Request, Terms},
    instance::Instance,
    session,
};

/// Return to the previous deployment: its interfaces, ports and policies
///
/// Files are not changed: the next reload deploys what they say. A restart by the service manager does
/// not, unless they have changed since. A second rollback undoes the first. While a change waits for its
/// confirmation, this takes it back at once; after `detach --for` it attaches the filter again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go back even to what cuts off the session that this command is given in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("rolling back the filter")?;
    if instance.owner()?.is_some() {
        let terms = Terms {
            sessions: session::guarded_unless(args.force),
            ..Terms::default()
        };
        return reload::finish(daemon::ask(instance, &Request::Rollback(terms))?);
    }
    let lock = instance.lock()?;
    let guarded = session::guarded_unless(args.force);
    println!("{}", daemon::rollback(&lock, guarded)?);
    Ok(Exit::Fine)
}
