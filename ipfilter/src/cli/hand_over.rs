//! What the process that runs the instance does when it is asked, or this one where none runs.

use super::{Exit, reload};
use crate::{
    daemon::{self, Request, Terms},
    failure::Failure,
    instance::Instance,
    lock::Lock,
};

/// Sends `request` to the process that runs the instance, or does the same by `alone`.
pub(super) fn ask_or_do(
    instance: &Instance,
    terms: Terms,
    request: fn(Terms) -> Request,
    alone: impl FnOnce(&Lock, Terms) -> Result<String, Failure>,
) -> anyhow::Result<Exit> {
    if instance.is_run()? {
        return reload::finish(daemon::ask(instance, &request(terms))?);
    }
    println!("{}", alone(&instance.lock()?, terms)?);
    Ok(Exit::Fine)
}
