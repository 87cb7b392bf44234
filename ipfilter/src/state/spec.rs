//! What the operator asks for.

use std::{net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::{
    config::{self, ConfigApi},
    endpoint::Endpoint,
    kernel::Mode,
    plan::{Deny, EVENT_RATE, Lookup, PortSet, Protocols, Response},
    policy,
};

/// How the operator asks: on the command line, or in a file that may change.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// The command line says it all.
    Line(Box<Spec>),
    /// A configuration file does, but for what a command line alone can say.
    File {
        /// The file.
        path: PathBuf,
        /// Which table sources are looked up in.
        lookup: Lookup,
        /// How policies are read.
        options: policy::Options,
        /// Whether a policy may be deployed that can only partly be enforced.
        allow_partial: bool,
        /// Where metrics are served, if not where the file says.
        metrics: Option<Endpoint>,
    },
}

/// What the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The configuration file that it is from; none if it is from the command line.
    pub config: Option<PathBuf>,
    /// Interfaces, by name or pattern.
    pub interfaces: Vec<String>,
    /// The protected APIs.
    pub apis: Vec<ApiSpec>,
    /// The protected addresses; empty for all.
    pub addresses: Vec<IpAddr>,
    /// Where at the interface.
    pub mode: Mode,
    /// The most answers of `reject` that each CPU sends in a second.
    pub reject_rate: u32,
    /// The denied packets that each CPU tells of in a second.
    #[serde(default = "event_rate")]
    pub events: u32,
    /// Whether they are logged.
    #[serde(default)]
    pub log_denied: bool,
    /// Which table sources are looked up in.
    pub lookup: Lookup,
    /// How policies are read.
    pub options: policy::Options,
    /// Whether a policy may be deployed that can only partly be enforced.
    pub allow_partial: bool,
    /// Where metrics are served; none for nowhere.
    #[serde(default)]
    pub metrics: Option<Endpoint>,
}

/// One protected API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What they are told, where they are told something.
    pub response: Response,
}

impl ConfigSource {
    /// What is asked for now.
    ///
    /// # Errors
    ///
    /// When the configuration file can't be read, or makes no sense.
    pub fn spec(&self) -> Result<Spec, Failure> {
        let (path, lookup, options, allow_partial, metrics) = match self {
            Self::Line(spec) => return Ok((**spec).clone()),
            Self::File {
                path,
                lookup,
                options,
                allow_partial,
                metrics,
            } => (path, *lookup, options.clone(), *allow_partial, metrics),
        };
        let read = config::read(path).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Spec {
            config: Some(path.clone()),
            interfaces: read.interfaces,
            apis: read.apis.into_iter().map(ApiSpec::from).collect(),
            addresses: read.addresses,
            mode: read.mode,
            reject_rate: read.reject_rate,
            events: read.events,
            log_denied: read.log_denied,
            lookup,
            options,
            allow_partial,
            metrics: metrics.clone().or(read.metrics),
        })
    }

    /// Where metrics are served while `spec` is in force.
    #[must_use]
    pub fn metrics(&self, spec: &Spec) -> Option<Endpoint> {
        match self {
            Self::Line(asked) => asked.metrics.clone(),
            Self::File { metrics, .. } => metrics.clone().or_else(|| spec.metrics.clone()),
        }
    }

    /// Whether `spec` is an answer to the same question: from the same file, or the same in all that
    /// is filtered.
    #[must_use]
    pub fn is_for(&self, spec: &Spec) -> bool {
        match self {
            Self::Line(asked) => {
                let filters = |spec: &Spec| Spec {
                    metrics: None,
                    ..spec.clone()
                };
                filters(asked) == filters(spec)
            }
            Self::File { path, .. } => spec.config.as_ref() == Some(path),
        }
    }
}

/// For what was written down before there were events.
fn event_rate() -> u32 {
    EVENT_RATE
}

impl From<ConfigApi> for ApiSpec {
    fn from(api: ConfigApi) -> Self {
        Self {
            name: api.name,
            ports: api.ports,
            protocols: api.protocols,
            policy: api.policy,
            deny: api.deny,
            response: api.response,
        }
    }
}
