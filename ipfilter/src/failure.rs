//! Why there is no deployment. [`view`](crate::view::failure) says it in words.

use crate::{config::Unusable, document::problem::Findings, kernel};

/// Why there is no deployment.
#[derive(Debug)]
pub enum Failure {
    /// A policy is invalid.
    Policy(Findings),
    /// A policy can be enforced only in part.
    Partial(Findings),
    /// A configuration file is wrong.
    Config(Findings),
    /// The data plane refused or failed.
    Dataplane(kernel::Error),
    /// What was asked for makes no sense.
    Usage(String),
    /// It would cut off the session that asks for it.
    Guarded(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl std::error::Error for Failure {}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Invalid(findings) => Self::Config(findings),
            Unusable::Other(message) => Self::Usage(message),
        }
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Self::Dataplane(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
