//! `ipfilter reload`: make the running process read its files again.

use super::{Exit, Stop, require_root};
use crate::{
    daemon::{self, Answer, Ending, Request},
    instance::Instance,
};

/// Make the running process read its files again, and wait for the outcome
///
/// If anything is wrong, the plan in force stays. Exits with 2 if the configuration is wrong, with 3 if a
/// policy is invalid, with 4 if a policy can be enforced only in part, and with 1 otherwise.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Close the established TCP connections of sources that the new plan denies
    #[arg(long)]
    cut: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("reloading the filter")?;
    let request = if args.cut {
        Request::ReloadAndCut
    } else {
        Request::Reload
    };
    finish(daemon::ask(instance, &request)?)
}

/// Turns the process' answer into ours.
pub(super) fn finish(answer: Answer) -> anyhow::Result<Exit> {
    let exit = match answer.result {
        Ending::Done => {
            println!("{}", answer.message);
            return Ok(Exit::Fine);
        }
        Ending::Misconfigured => Exit::Usage,
        Ending::Invalid => Exit::InvalidPolicy,
        Ending::Partial => Exit::PartialPolicy,
        Ending::Failed => Exit::Failed,
    };
    Err(Stop {
        exit,
        message: answer.message,
        rendered: matches!(exit, Exit::Usage | Exit::InvalidPolicy),
    }
    .into())
}
