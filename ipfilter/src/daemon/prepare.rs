//! From what the operator asked for, and the policy files, to a plan.

use std::{fmt, net::IpAddr, path::PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;

use super::ephemeral;
use crate::{
    config::{self, ConfigApi},
    dataplane::{self, Mode},
    files::read_policy,
    plan::{Api, Deny, Lookup, Plan, PlanError, PortSet, Protocols, Response},
    policy::{self, Parsed, Policy, Severity, Source},
    report::diagnostics,
};

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The configuration file that says the rest, except for `lookup` and how policies are read;
    /// none if the command line does.
    pub config: Option<PathBuf>,
    /// Interfaces, by name.
    pub interfaces: Vec<String>,
    /// The protected APIs.
    pub apis: Vec<ApiSpec>,
    /// The protected addresses; empty for all.
    pub addresses: Vec<IpAddr>,
    /// Where at the interface.
    pub mode: Mode,
    /// The most answers of `reject` that each CPU sends in a second.
    pub reject_rate: u32,
    /// Which table sources are looked up in.
    pub lookup: Lookup,
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
    /// What they are told, where they are told something.
    pub response: Response,
}

impl Spec {
    /// What the configuration file `path` asks for; the command line says the rest.
    ///
    /// # Errors
    ///
    /// When it can't be read, or makes no sense.
    pub fn from_config(
        path: PathBuf,
        lookup: Lookup,
        options: policy::Options,
        allow_partial: bool,
    ) -> Result<Self, Failure> {
        let read = config::read(&path).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Self {
            config: Some(path),
            interfaces: read.interfaces,
            apis: read.apis.into_iter().map(ApiSpec::from).collect(),
            addresses: read.addresses,
            mode: read.mode,
            reject_rate: read.reject_rate,
            lookup,
            options,
            allow_partial,
        })
    }

    /// The same as it is asked for now: the configuration file may have changed.
    ///
    /// # Errors
    ///
    /// As for [`Self::from_config`].
    pub fn refreshed(&self) -> Result<Self, Failure> {
        let Some(path) = &self.config else {
            return Ok(self.clone());
        };
        Self::from_config(
            path.clone(),
            self.lookup,
            self.options.clone(),
            self.allow_partial,
        )
    }
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

/// The policies that were asked for, read and found enforceable. What they come to depends on the
/// time, but no longer on the files.
#[derive(Debug)]
pub struct Policies {
    spec: Spec,
    /// By API.
    policies: Vec<Policy>,
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

impl Policies {
    /// Reads what `spec` asks for.
    ///
    /// # Errors
    ///
    /// When a policy can't be read, is invalid, or can only partly be enforced and that was not
    /// asked for.
    pub fn read(spec: &Spec) -> Result<Self, Failure> {
        let mut warnings = Vec::new();
        let ports = spec.apis.iter().map(|api| (api.name.as_str(), &api.ports));
        warnings.extend(ephemeral::warnings(ports));
        let policies = spec.apis.iter().map(|api| read(spec, api, &mut warnings));
        Ok(Self {
            policies: policies.collect::<Result<_, _>>()?,
            spec: spec.clone(),
            warnings,
        })
    }

    /// What is to be enforced at `now`.
    ///
    /// # Errors
    ///
    /// When the APIs don't fit together.
    pub fn plan(&self, now: Timestamp) -> Result<Plan, Failure> {
        let apis = self
            .spec
            .apis
            .iter()
            .zip(&self.policies)
            .map(|(api, policy)| Api {
                name: api.name.clone(),
                ports: api.ports.clone(),
                protocols: api.protocols,
                deny: api.deny,
                response: api.response.clone(),
                sources: policy.at(now).may_pass,
            });
        let plan = Plan::new(apis.collect(), self.spec.addresses.clone());
        let mut plan = plan.map_err(|error| Failure::Usage(blame(&self.spec, &error)))?;
        plan.reject_rate = self.spec.reject_rate;
        plan.lookup = self.spec.lookup;
        Ok(plan)
    }

    /// The first time after `now` at which the plan may be another.
    #[must_use]
    pub fn next_boundary(&self, now: Timestamp) -> Option<Timestamp> {
        let boundaries = self.policies.iter().map(|policy| policy.next_boundary(now));
        boundaries.flatten().min()
    }

    /// Whether the plan depends on the time at all.
    #[must_use]
    pub fn depend_on_time(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| !policy.boundaries().is_empty())
    }
}

/// Names the file in which APIs don't fit together.
fn blame(spec: &Spec, error: &PlanError) -> String {
    match &spec.config {
        Some(path) => format!("{}: {error}", path.display()),
        None => error.to_string(),
    }
}

fn read(spec: &Spec, api: &ApiSpec, warnings: &mut Vec<String>) -> Result<Policy, Failure> {
    let source = read_policy(&api.policy)
        .with_context(|| format!("can't read the policy `{}`", api.policy.display()))?;
    let Parsed {
        policy, problems, ..
    } = policy::parse(&source, &spec.options);
    let told = |severities: &[Severity]| render(&source, &problems, severities);
    let Some(policy) = policy else {
        return Err(Failure::Policy(told(&[Severity::Error])));
    };
    if policy.is_partial() && !spec.allow_partial {
        return Err(Failure::Partial(told(&[Severity::Maybe])));
    }
    let told = told(&[Severity::Warning, Severity::Maybe]);
    warnings.extend((!told.is_empty()).then_some(told));
    Ok(policy)
}

fn render(source: &Source, problems: &[policy::Problem], severities: &[Severity]) -> String {
    let rendered: Vec<String> = problems
        .iter()
        .filter(|problem| severities.contains(&problem.severity))
        .map(|problem| diagnostics::render(source, problem))
        .collect();
    rendered.join("\n\n")
}
