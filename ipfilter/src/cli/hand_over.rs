//! What the process that runs the instance does when it is asked, or this one where none runs.

use super::{Exit, reload};
use crate::{
    daemon::{self, Request, Terms},
    failure::Failure,
    instance::Instance,
    lock::Lock,
    session::{self, Session},
};

/// Sends `request` to the process that runs the instance, or does the same by `alone`. Sessions are guarded
/// unless `force`.
pub(super) fn ask_or_do(
    instance: &Instance,
    force: bool,
    request: fn(Terms) -> Request,
    alone: impl FnOnce(&Lock, Vec<Session>) -> Result<String, Failure>,
) -> anyhow::Result<Exit> {
    let sessions = session::guarded_unless(force);
    if instance.owner()?.is_some() {
        let terms = Terms {
            sessions,
            ..Terms::default()
        };
        return reload::finish(daemon::ask(instance, &request(terms))?);
    }
    println!("{}", alone(&instance.lock()?, sessions)?);
    Ok(Exit::Fine)
}
