//! The sources that all of this is about, and the Cargo that builds them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The repository.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
