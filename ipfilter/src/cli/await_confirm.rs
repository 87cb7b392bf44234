//! What `deploy --confirm` and `detach --for` leave behind: a process that goes back at the deadline.

use super::{Exit, require_root};
use crate::{daemon, instance::Instance};

/// Wait for the end of a trial, and go back if it is not settled then
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("going back")?;
    daemon::wait_and_return(instance)?;
    Ok(Exit::Fine)
}
