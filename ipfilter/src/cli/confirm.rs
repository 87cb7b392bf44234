//! `ipfilter confirm`: keep a change that would be taken back.

use super::{Exit, reload, require_root};
use crate::{
    daemon::{self, Request, Terms},
    instance::Instance,
    session,
};

/// Keep the change that `--confirm` would take back
///
/// Type it in a new connection: that one can be made shows that the change has not locked you out.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep even what cuts off the session that this command is given in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("confirming a change")?;
    if instance.owner()?.is_some() {
        let terms = Terms {
            sessions: session::guarded_unless(args.force),
            ..Terms::default()
        };
        return reload::finish(daemon::ask(instance, &Request::Confirm(terms))?);
    }
    let lock = instance.lock()?;
    println!("{}", daemon::confirm(&lock)?);
    Ok(Exit::Fine)
}
