//! What can go wrong between a plan and the kernel.

use std::io;

/// Why the data plane could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It needs a privilege or a kernel feature that is not there.
    #[error("{0}")]
    Refused(String),
    /// It was tried, and failed.
    #[error("{what}: {error}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came of it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    pub(super) fn io(what: impl Into<String>, error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return Self::Refused(format!(
                "{}: permission denied; run it as root",
                what.into()
            ));
        }
        Self::failed(what, error)
    }

    pub(super) fn failed(
        what: impl Into<String>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            what: what.into(),
            error: error.into(),
        }
    }
}
