//! From what the operator asked for, and the policy files, to a plan.

use std::{
    fmt, fs,
    io::IsTerminal as _,
    net::IpAddr,
    path::PathBuf,
    time::SystemTime,
};

use jiff::Timestamp;

use crate::{
    dataplane::{self, Mode},
    plan::{Api, Deny, Plan, PortSet, Protocols},
    policy::{self, Source},
};

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Interfaces, by name.
    pub interfaces: Vec<String>,
    /// The protected APIs.
    pub apis: Vec<ApiSpec>,
    /// The protected addresses; empty for all.
    pub addresses: Vec<IpAddr>,
    /// Where at the interface.
    pub mode: Mode,
    /// How policies are read.
    pub options: policy::Options,
    /// Whether a policy may be deployed that can only partly be enforced.
    pub allow_partial: bool,
}

/// One protected API.
#[derive(Clone, Debug)]
pub struct ApiSpec {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: PortSet,
    /// Its protocols.
    pub protocols: Protocols,
    /// The file with its policy.
    pub policy: PathBuf,
    /// What happens to denied sources.
    pub deny: Deny,
}

/// A plan, and what to tell the operator about it.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What will be enforced.
    pub plan: Plan,
    /// Warnings, rendered.
    pub warnings: Vec<String>,
}

/// Why there is no deployment.
#[derive(Debug)]
pub enum Failure {
    /// A policy is invalid; its problems, rendered.
    Policy(String),
    /// A policy can only partly be enforced; what it leaves open, rendered.
    Partial(String),
    /// The data plane refused or failed.
    Dataplane(dataplane::Error),
    /// Anything else.
    Other(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(text) | Self::Partial(text) => f.write_str(text),
            Self::Dataplane(error) => error.fmt(f),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<dataplane::Error> for Failure {
    fn from(error: dataplane::Error) -> Self {
        Self::Dataplane(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}
