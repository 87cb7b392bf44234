//! `ipfilter reload`: make the running process read its files again.

use jiff::SignedDuration;

use super::{Exit, Stop, require_root};
use crate::{
    config::duration,
    daemon::{self, Answer, Ending, Request, Terms},
    instance::Instance,
    session,
};

/// Make the running process read its files again, and wait for the outcome
///
/// If anything is wrong, the plan in force stays. Exits with 2 if the configuration is wrong, with 3 if a
/// policy is invalid, with 4 if a policy can be enforced only in part, and with 1 otherwise. A plan that
/// would cut off the session that asks for it, or another login, is refused (2) unless `--force` is given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Close the established TCP connections of sources that the new plan denies
    #[arg(long)]
    cut: bool,

    /// Roll back unless `ipfilter confirm` follows within this time, such as `60s`
    #[arg(long, value_name = "TIME", value_parser = duration)]
    confirm: Option<SignedDuration>,

    /// Deploy even if it cuts off the session that this command runs in
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("reloading the filter")?;
    let request = Request::Reload(Terms {
        cut: args.cut,
        lasts: args.confirm,
        sessions: session::guarded_unless(args.force),
    });
    finish(daemon::ask(instance, &request)?)
}

/// Turns the process' answer into ours.
pub(super) fn finish(answer: Answer) -> anyhow::Result<Exit> {
    let exit = match answer.result {
        Ending::Done | Ending::Queued => {
            println!("{}", answer.message);
            return Ok(Exit::Fine);
        }
        Ending::Misconfigured | Ending::Guarded => Exit::Usage,
        Ending::Invalid => Exit::InvalidPolicy,
        Ending::Partial => Exit::PartialPolicy,
        Ending::Failed | Ending::Waiting => Exit::Failed,
    };
    Err(Stop {
        exit,
        message: answer.message,
        rendered: matches!(answer.result, Ending::Misconfigured | Ending::Invalid),
    }
    .into())
}
