//! Why there is no deployment.

use std::fmt;

use anstream::adapter::strip_str;

use crate::{
    config::{Invalid, Unusable},
    kernel,
    view::diagnostics,
};

/// Why there is no deployment.
#[derive(Debug)]
pub enum Failure {
    /// A policy is invalid; its problems, rendered.
    Policy(String),
    /// A policy can only partly be enforced; what it leaves open, rendered.
    Partial(String),
    /// A configuration file is wrong.
    Config(Invalid),
    /// The data plane refused or failed.
    Dataplane(kernel::Error),
    /// What was asked for makes no sense.
    Usage(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(text) | Self::Usage(text) => f.write_str(text),
            Self::Partial(text) => write!(
                f,
                "the policy can be enforced only in part, which `--allow-partial` permits:

{text}"
            ),
            Self::Config(Invalid { source, problems }) => {
                f.write_str(&diagnostics::render_all(source, problems))
            }
            Self::Dataplane(error) => error.fmt(f),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl Failure {
    /// Without colours, to be kept.
    pub(super) fn plain(&self) -> String {
        strip_str(&self.to_string()).to_string()
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Invalid(invalid) => Self::Config(invalid),
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
