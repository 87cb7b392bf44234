//! `ipfilter confirm`: keep a change that would be rolled back.

use super::{Exit, hand_over::ask_or_do, require_root};
use crate::{
    daemon::{self, Request, Terms},
    instance::Instance,
    session,
};

/// Keep a change made with `--confirm`, which is rolled back otherwise
///
/// Run it in a new connection: that you can make one shows that the change has not locked you out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the change even if it cuts off the session that this command runs in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("confirming a change")?;
    let terms = Terms {
        sessions: session::guarded_unless(args.force),
        ..Terms::default()
    };
    ask_or_do(instance, terms, Request::Confirm, |lock, _| {
        daemon::confirm(lock)
    })
}
