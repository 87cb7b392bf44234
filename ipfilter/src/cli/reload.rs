//! `ipfilter reload`: have the running process deploy anew.

use super::{Exit, Stop, require_root};
use crate::{
    daemon::{self, Answer, Ending, Request},
    instance::Instance,
};

/// Have the process that runs the filter deploy anew from its files, and wait until it has
///
/// Ends with 3 if a policy is invalid, with 4 if it can only partly be enforced, with 1 if anything
/// else went wrong; the plan in force then stays.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("reloading the filter")?;
    finish(daemon::ask(instance, Request::Reload)?)
}

/// Turns the process' answer into ours.
pub(super) fn finish(answer: Answer) -> anyhow::Result<Exit> {
    let exit = match answer.result {
        Ending::Done => {
            println!("{}", answer.message);
            return Ok(Exit::Fine);
        }
        Ending::Invalid => Exit::InvalidPolicy,
        Ending::Partial => Exit::PartialPolicy,
        Ending::Failed => Exit::Failed,
    };
    Err(Stop {
        exit,
        message: answer.message,
        rendered: exit == Exit::InvalidPolicy,
    }
    .into())
}
