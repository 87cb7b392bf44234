//! From what the operator asked for, and the policy files, to a plan.

use std::{fmt, net::IpAddr, path::PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;

use crate::{
    dataplane::{self, Mode},
    files::read_policy,
    plan::{Api, Deny, Lookup, Plan, PortSet, Protocols, Response},
    policy::{self, Parsed, Policy, Severity, Source},
    report::diagnostics,
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
    /// Anything else.
    Other(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy(text) => f.write_str(text),
            Self::Partial(text) => write!(
                f,
                "the policy can be enforced only in part, which `--allow-partial` permits:\n\n{text}"
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
        let mut plan = plan.map_err(anyhow::Error::from)?;
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
