//! An instance's overrides on the disk: written before they take effect.

use std::path::PathBuf;

use anyhow::Context as _;

use super::store;
use crate::{instance::Instance, overrides::Overrides};

/// The overrides of `instance`; none if none were ever made.
///
/// # Errors
///
/// When they can't be read, or the file is damaged.
pub(crate) fn load(instance: &Instance) -> anyhow::Result<Overrides> {
    let path = path(instance);
    let Some(bytes) = store::read(&path)? else {
        return Ok(Overrides::default());
    };
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` can't be read", path.display()))
}

/// Keeps `overrides` for `instance`.
///
/// # Errors
///
/// When they can't be written; then those that were kept before are.
pub(crate) fn save(instance: &Instance, overrides: &Overrides) -> anyhow::Result<()> {
    store::write(&path(instance), &serde_json::to_vec(overrides)?)
}

fn path(instance: &Instance) -> PathBuf {
    instance.state().join("overrides.json")
}
