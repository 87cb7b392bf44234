//! A policy file that a command is to act on.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;

use super::Exit;
use crate::{
    config::PolicyOptions,
    files::read_policy,
    policy::{self, Policy},
    view::diagnostics,
};

/// A legal policy.
pub(super) struct PolicyFile {
    /// As it was named.
    pub(super) name: String,
    pub(super) policy: Policy,
    /// [`Exit::PartialPolicy`] if it can only partly be enforced and that was not accepted.
    pub(super) exit: Exit,
}

/// Reads the policy in a file. Says on standard error why it is refused; `Err` if it is not even legal.
///
/// # Errors
///
/// When the file cannot be read.
pub(super) fn read(
    path: &Path,
    options: &PolicyOptions,
) -> anyhow::Result<Result<PolicyFile, Exit>> {
    let source = read_policy(path)
        .with_context(|| format!("cannot read the policy `{}`", path.display()))?;
    let parsed = policy::parse(&source, &options.into());
    let (policy, exit) = match parsed.accept(options.allow_partial) {
        Ok(accepted) => (Some(accepted.policy), Exit::Fine),
        Err(refused) => {
            let mut err = anstream::stderr().lock();
            for problem in &refused.problems {
                writeln!(err, "{}\n", diagnostics::render(&source, problem))?;
            }
            (refused.policy.map(|policy| *policy), Exit::PartialPolicy)
        }
    };
    let name = source.name().to_owned();
    Ok(policy
        .map(|policy| PolicyFile { name, policy, exit })
        .ok_or(Exit::InvalidPolicy))
}
