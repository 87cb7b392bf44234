//! The files that a plan was made from, so that it can be seen when they say something else.

use std::path::{Path, PathBuf, absolute};

use serde::{Deserialize, Serialize};

use super::store;
use crate::{
    config::ConfigSource,
    files,
    policy::{SIZE_LIMIT, Source},
};

/// A file that a plan was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its path, from the root.
    pub path: PathBuf,
    /// SHA-256 of what it held, in hexadecimal; none if it could not be read.
    digest: Option<String>,
}

/// What a file holds by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// What the plan was made from.
    Same,
    /// Something else.
    Changed,
    /// It can't be read.
    Unreadable,
}

impl FileState {
    /// As programs read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl InputFile {
    /// One that held this text.
    pub(super) fn holding(path: &Path, text: &str) -> Self {
        Self {
            path: absolute(path).unwrap_or_else(|_| path.to_owned()),
            digest: Some(store::checksum(text.as_bytes())),
        }
    }

    /// One as it is now.
    pub(super) fn now(path: &Path) -> Self {
        Self {
            path: absolute(path).unwrap_or_else(|_| path.to_owned()),
            digest: digest(path),
        }
    }

    /// The configuration file of `source`, if there is one. To be called before that is read: a change
    /// in between then shows.
    pub(crate) fn of_config(source: &ConfigSource) -> Option<Self> {
        source.path().map(Self::now)
    }

    /// What it holds by now.
    #[must_use]
    pub fn state(&self) -> FileState {
        match digest(&self.path) {
            None => FileState::Unreadable,
            now if now == self.digest => FileState::Same,
            Some(_) => FileState::Changed,
        }
    }
}

fn digest(path: &Path) -> Option<String> {
    let bytes = files::read(path, SIZE_LIMIT as u64 + 1).ok()?;
    // Policies are known by their text.
    Some(store::checksum(Source::new("", bytes).text().as_bytes()))
}
