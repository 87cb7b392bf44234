//! Why the policies can't be used.

use std::fmt;

use ipfilter_config::Unusable;
use ipfilter_diagnostics::render_all;
use ipfilter_document::problem::Findings;

/// Why the policies can't be used.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A policy is invalid.
    Policy(Findings),
    /// A configuration file is wrong.
    Config(Findings),
    /// The command line makes no sense, or the configuration file can't be read.
    Usage(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl Failure {
    /// The exit code of a process that ends because of it: that of `ipfilter`.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Policy(_) => 3,
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Other(_) => 1,
        }
    }
}

/// Problems with their places in the document; anything else in a line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(findings) | Self::Config(findings) => {
                f.write_str(&render_all(&findings.source, &findings.problems))
            }
            Self::Usage(message) => write!(f, "error: {message}"),
            Self::Other(error) => write!(f, "error: {error:#}"),
        }
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Invalid(findings) => Self::Config(findings),
            Unusable::Other(message) => Self::Usage(message),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
