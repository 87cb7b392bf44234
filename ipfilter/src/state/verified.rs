//! How the last verification went: written by `verify`, shown by the daemon's metrics.

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::store;
use crate::instance::Instance;

/// How a verification went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// When it ended.
    pub time: Timestamp,
    /// How many differences it found.
    pub differences: u64,
}

impl Verified {
    /// The last one of `instance`, if there was one.
    ///
    /// # Errors
    ///
    /// When it is there and can't be read.
    pub fn load(instance: &Instance) -> anyhow::Result<Option<Self>> {
        let path = instance.state().join(NAME);
        let Some(text) = store::read(&path)? else {
            return Ok(None);
        };
        let verified = serde_json::from_slice(&text);
        verified.with_context(|| format!("`{}` can't be read", path.display()))
    }

    pub(crate) fn save(self, instance: &Instance) -> anyhow::Result<()> {
        store::write(&instance.state().join(NAME), &serde_json::to_vec(&self)?)
    }
}

const NAME: &str = "verified.json";
