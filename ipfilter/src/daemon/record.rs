//! What `status` tells of a deployment beyond what the kernel knows: names, files, outcomes.

use std::{fs, io::Write as _, path::PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Spec;
use crate::{instance::Instance, plan::Plan};

/// A deployment as its daemon saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// SHA-256 of the plan, in hexadecimal.
    pub digest: String,
    /// When it was deployed.
    pub since: Timestamp,
    /// The protected APIs, by index.
    pub apis: Vec<ApiRecord>,
    /// How the last reload went, if there was one.
    pub last_reload: Option<Reload>,
}

/// One API of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRecord {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: String,
    /// The file its policy came from.
    pub policy: PathBuf,
    /// What happens to denied sources.
    pub deny: String,
}

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When it was tried.
    pub time: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// Why it failed.
    pub message: Option<String>,
}

/// What came of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The new plan is in force.
    Deployed,
    /// The old plan stays.
    Failed,
}

impl Reload {
    pub(super) fn now(outcome: Outcome, message: Option<String>) -> Self {
        Self {
            time: Timestamp::now(),
            outcome,
            message,
        }
    }
}

impl Record {
    pub(super) fn of(spec: &Spec, plan: &Plan) -> Self {
        let apis = spec.apis.iter().map(|api| ApiRecord {
            name: api.name.clone(),
            ports: api.ports.to_string(),
            policy: api.policy.clone(),
            deny: api.deny.to_string(),
        });
        Self {
            digest: plan.digest().to_string(),
            since: Timestamp::now(),
            apis: apis.collect(),
            last_reload: None,
        }
    }

    /// Whether it is a deployment of `plan`.
    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        self.digest == plan.digest().to_string()
    }

    /// The instance's record, if there is one.
    ///
    /// # Errors
    ///
    /// When it is there and can't be read.
    pub fn load(instance: &Instance) -> anyhow::Result<Option<Self>> {
        let path = path(instance);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("can't read `{}`", path.display()));
            }
        };
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(|| format!("`{}` is damaged", path.display()))
    }

    /// Writes the record whole or not at all: to a file beside it, which then takes its name.
    pub(super) fn save(&self, instance: &Instance) -> anyhow::Result<()> {
        let path = path(instance);
        let beside = path.with_extension("new");
        let write = || {
            fs::create_dir_all(instance.state())?;
            let mut file = fs::File::create(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("can't write `{}`", path.display()))
    }

    /// Forgets it.
    ///
    /// # Errors
    ///
    /// When it can't be removed.
    pub fn remove(instance: &Instance) -> anyhow::Result<()> {
        let path = path(instance);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove `{}`", path.display()))
            }
            _ => Ok(()),
        }
    }
}

fn path(instance: &Instance) -> PathBuf {
    instance.state().join("deployment.json")
}
