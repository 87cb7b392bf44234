//! From the policies' texts, and the time, to a plan.

mod ephemeral;

use std::{net::IpAddr, sync::Arc};

use anyhow::Context as _;
use ipfilter_feed::Prepared;
use jiff::Timestamp;

use crate::failure::Failure;
use crate::state::Inputs;
use crate::{
    config::{ApiConfig, Config},
    document::problem::{Findings, Problem},
    overrides::{Override, Overrides},
    plan::{Api, Plan, PlanError},
    policy::{self, Accepted, Explanation, Policy, Refused, Severity, Source},
    progress::Progress,
};

/// Shuts everyone out, whatever authorizes requests beside the policy.
const DENY_ALL: &str = r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny",
    "Principal": "*", "Action": "*", "Resource": "*"}}"#;

/// The policies that were asked for, read and found enforceable. What they come to depends on the
/// time, but no longer on the files.
#[derive(Debug)]
pub(crate) struct Policies {
    spec: Config,
    /// By API.
    policies: Arc<[Policy]>,
    /// What is decided above them.
    overrides: Arc<Overrides>,
    /// The same as authorization services read it, where one is configured.
    handed: Option<Arc<Prepared>>,
    /// Warnings about the configuration.
    pub(crate) warnings: Vec<String>,
    /// Warnings about policies.
    pub(crate) findings: Vec<Findings>,
}

impl Policies {
    /// Understands the policies of `inputs`, which `overrides` overrule.
    ///
    /// # Errors
    ///
    /// When a policy is invalid, or can only partly be enforced and that was not asked for.
    pub(crate) fn of(inputs: &Inputs, overrides: Arc<Overrides>) -> Result<Self, Failure> {
        let _shown = Progress::of("reading policies");
        let spec = &inputs.spec;
        let mut warnings = Vec::new();
        let ports = spec
            .apis
            .iter()
            .filter_map(|api| Some((api.name.as_str(), api.port_set()?)));
        warnings.extend(ephemeral::warnings(ports));
        let policies = spec.apis.iter().zip(&inputs.policies);
        let mut findings = Vec::new();
        let policies = policies.map(|(api, source)| {
            let (policy, found) = read(spec, api, source)?;
            findings.extend(Some(found).filter(|found| !found.problems.is_empty()));
            Ok(policy)
        });
        Ok(Self {
            policies: policies.collect::<Result<_, Failure>>()?,
            spec: spec.clone(),
            overrides,
            handed: handed(inputs).context("the policies can't be handed on")?,
            warnings,
            findings,
        })
    }

    /// The policies as authorization services read them; none where none is configured.
    pub(crate) fn handed(&self) -> Option<&Arc<Prepared>> {
        self.handed.as_ref()
    }

    /// The same policies under other overrides.
    pub(crate) fn with_overrides(&self, overrides: Arc<Overrides>) -> Self {
        Self {
            spec: self.spec.clone(),
            policies: Arc::clone(&self.policies),
            overrides,
            handed: self.handed.clone(),
            warnings: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// What is decided above the policies.
    pub(crate) fn overrides(&self) -> &Arc<Overrides> {
        &self.overrides
    }

    /// The override that decides about a source at the API with this index, if one does.
    pub(crate) fn overruled(
        &self,
        api: usize,
        source: IpAddr,
        now: Timestamp,
    ) -> Option<&Override> {
        let name = &self.spec.apis.get(api)?.name;
        self.overrides.decide(name, source, now)
    }

    /// What was asked for.
    pub(crate) fn spec(&self) -> &Config {
        &self.spec
    }

    /// The policy of the API with this index.
    pub(crate) fn policy(&self, api: usize) -> Option<&Policy> {
        self.policies.get(api)
    }

    /// What is to be enforced at `now`.
    ///
    /// # Errors
    ///
    /// When the APIs don't fit together.
    pub(crate) fn plan(&self, now: Timestamp) -> Result<Plan, Failure> {
        let apis = self
            .spec
            .apis
            .iter()
            .zip(self.policies.iter())
            .filter_map(|(api, policy)| {
                Some(Api {
                    name: api.name.clone(),
                    ports: api.port_set()?,
                    protocols: api.protocols,
                    deny: api.deny,
                    enforce: api.share(),
                    response: api.response.clone(),
                    sources: self
                        .overrides
                        .apply(&api.name, policy.at(now).may_pass, now),
                })
            });
        let plan = match self.spec.awaits_bundle() {
            true => Plan::nothing(),
            false => Plan::new(apis.collect(), self.spec.protected()),
        };
        let mut plan = plan.map_err(|error| Failure::Usage(blame(&self.spec, &error)))?;
        plan.reject_rate = self.spec.reject_rate.per_second();
        plan.respond_rate = self.spec.respond_rate.per_second();
        plan.events = self.spec.events;
        plan.callers = self.spec.allowed_sources;
        // Both read the same ring.
        plan.log_denied = self.spec.log_denied || self.spec.record.is_some();
        plan.lookup = self.spec.lookup;
        Ok(plan)
    }

    /// What the policy of the API with this index says to a source.
    pub(crate) fn explain(
        &self,
        api: usize,
        source: IpAddr,
        now: Timestamp,
    ) -> Option<Explanation<'_>> {
        Some(self.policies.get(api)?.explain(source, now))
    }

    /// The first time after `now` at which the plan may be another.
    pub(crate) fn next_boundary(&self, now: Timestamp) -> Option<Timestamp> {
        let boundaries = self.policies.iter().map(|policy| policy.next_boundary(now));
        let ends = self.overrides.ends().filter(|end| *end > now);
        boundaries.flatten().chain(ends).min()
    }

    /// Whether a policy may say something else from `time` on.
    pub(crate) fn has_boundary_at(&self, time: Timestamp) -> bool {
        let mut boundaries = self.policies.iter().flat_map(Policy::boundaries);
        boundaries.any(|boundary| *boundary == time)
    }

    /// All times at which the plan may become another.
    pub(crate) fn boundaries(&self) -> impl Iterator<Item = Timestamp> + Clone {
        let boundaries = self.policies.iter().map(Policy::boundaries);
        boundaries.flatten().copied().chain(self.overrides.ends())
    }
}

/// What an authorization service reads: what decides requests, and nothing else of the configuration.
fn handed(inputs: &Inputs) -> serde_json::Result<Option<Arc<Prepared>>> {
    let Some(authorize) = &inputs.spec.authorize else {
        return Ok(None);
    };
    let apis = inputs.spec.apis.iter().zip(&inputs.policies);
    let apis = apis.map(|(api, policy)| ipfilter_feed::Api {
        name: api.name.clone(),
        hosts: api.hosts.clone(),
        options: api.options.clone(),
        file: policy.name().to_owned(),
        policy: policy.text().to_owned(),
    });
    let policies = ipfilter_feed::Policies {
        authorize: Some(authorize.clone()),
        apis: apis.collect(),
    };
    Prepared::new(&policies).map(|prepared| Some(Arc::new(prepared)))
}

/// What to enforce where a policy can't be: APIs whose policy is broken shut everyone out.
pub(crate) fn shut_the_broken(spec: &Config) -> Inputs {
    let policies = spec.apis.iter().map(|api| {
        let readable = Inputs::policy(api).and_then(|source| {
            read(spec, api, &source)?;
            Ok(source)
        });
        readable.unwrap_or_else(|_| Source::new("deny-all", DENY_ALL))
    });
    Inputs {
        policies: policies.collect(),
        spec: spec.clone(),
        files: Vec::new(),
    }
}

/// Names the file in which APIs don't fit together.
fn blame(spec: &Config, error: &PlanError) -> String {
    match &spec.file {
        Some(path) => format!("{}: {error}", path.display()),
        None => error.to_string(),
    }
}

/// Understands one policy, and says what there is to warn of.
fn read(spec: &Config, api: &ApiConfig, source: &Source) -> Result<(Policy, Findings), Failure> {
    let findings = |problems: Vec<Problem>, severities: &[Severity]| Findings {
        source: source.clone(),
        problems: problems
            .into_iter()
            .filter(|problem| severities.contains(&problem.severity))
            .collect(),
    };
    let parsed = policy::parse(source, &(&api.options).into());
    match parsed.accept(spec.accepts_partial(api)) {
        Ok(Accepted { policy, problems }) => {
            let found = findings(problems, &[Severity::Warning, Severity::Maybe]);
            Ok((policy, found))
        }
        Err(Refused { policy, problems }) => Err(match policy {
            None => Failure::Policy(findings(problems, &[Severity::Error])),
            Some(_) => Failure::Partial(findings(problems, &[Severity::Maybe])),
        }),
    }
}
