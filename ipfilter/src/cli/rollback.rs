//! `ipfilter rollback`: go back to the deployment before.

use super::{Exit, hand_over::ask_or_do, require_root};
use crate::{
    daemon::{self, Request, Terms},
    instance::Instance,
    session,
};

/// Return to the previous deployment: its interfaces, ports and policies
///
/// Files are not changed: the next reload deploys what they say. A restart by the service manager does
/// not, unless they have changed since. A second rollback undoes the first. While a change waits for its
/// confirmation, this rolls it back at once; after `detach --for` it attaches the filter again.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Roll back even if that cuts off the session that this command runs in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("rolling back the filter")?;
    let terms = Terms {
        sessions: session::guarded_unless(args.force),
        ..Terms::default()
    };
    ask_or_do(instance, terms, Request::Rollback, |lock, terms| {
        daemon::rollback(lock, terms.sessions)
    })
}
