//! What `diff` and `replay` ask about: a policy, a configuration, or what is deployed.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use serde::{Deserialize, de::IgnoredAny};

use super::Stop;
use crate::{
    config::{ApiConfig, Config, ConfigSource, GivenOptions},
    daemon::InForce,
    failure::Failure,
    files::read_policy,
    instance::Instance,
    plan::{PortError, PortSet, Protocols},
    policy::Source,
    prepare::Policies,
    state::Inputs,
};

/// APIs with their policies.
#[derive(Debug)]
pub(super) struct Subject {
    /// The policies, understood.
    pub(super) policies: Policies,
}

/// A file that was read: a policy or a configuration.
pub(super) enum File {
    /// A policy, of which no file says what it protects.
    Policy(Source),
    /// A configuration that names policies.
    Config(Box<Config>),
}

/// The fields that tell a configuration from a policy.
#[derive(Deserialize)]
struct Fields {
    apis: Option<IgnoredAny>,
    interfaces: Option<IgnoredAny>,
}

fn is_config(text: &str) -> bool {
    match serde_json::from_str::<Fields>(text) {
        Ok(fields) => fields.apis.is_some() || fields.interfaces.is_some(),
        // What is broken is reported as what it was meant to be.
        Err(_) => text.contains("\"apis\""),
    }
}

impl File {
    /// Reads a policy or a configuration, and finds out which it is.
    pub(super) fn read(path: &Path, options: &GivenOptions) -> Result<Self, Failure> {
        let source = read_policy(path)
            .with_context(|| format!("can't read `{}`", path.display()))
            .map_err(Failure::Other)?;
        if path.as_os_str() != "-" && is_config(source.text()) {
            return Self::config(path, options);
        }
        Ok(Self::Policy(source))
    }

    /// Reads a configuration.
    pub(super) fn config(path: &Path, options: &GivenOptions) -> Result<Self, Failure> {
        let source = ConfigSource::file(path).with_options(options);
        Ok(Self::Config(Box::new(source.read_anywhere()?)))
    }

    /// Understands it. What a policy does not say itself, such as the API's name and ports, is as in `like`.
    pub(super) fn subject(self, options: &GivenOptions, like: &Config) -> Result<Subject, Failure> {
        let inputs = match self {
            Self::Config(spec) => Inputs::read(*spec, None)?,
            Self::Policy(source) => {
                let mut spec = like.clone();
                let [api] = spec.apis.as_mut_slice() else {
                    return Err(Failure::Usage(format!(
                        "`{}` is one policy, and it is compared with {} APIs: give a configuration file",
                        source.name(),
                        spec.apis.len()
                    )));
                };
                api.policy = source.name().into();
                options.apply(&mut api.options);
                Inputs {
                    files: Vec::new(),
                    spec,
                    policies: vec![source],
                }
            }
        };
        Ok(Subject {
            policies: Policies::of(&inputs, Arc::default())?,
        })
    }

    /// What a configuration asks for.
    pub(super) fn spec(&self) -> Option<&Config> {
        match self {
            Self::Config(spec) => Some(spec),
            Self::Policy(_) => None,
        }
    }
}

impl Subject {
    /// What `instance` has in force.
    pub(super) fn live(instance: &Instance) -> Result<Self, Stop> {
        let in_force = InForce::of(instance)?;
        Ok(Self {
            policies: in_force.into_policies(),
        })
    }
}

/// An API called `api` at these ports, of which nothing else is known.
pub(super) fn one_api(ports: PortSet, protocols: Protocols) -> Config {
    Config {
        apis: vec![ApiConfig {
            name: "api".to_owned(),
            ports: vec![ports],
            protocols,
            policy: "-".into(),
            ..ApiConfig::default()
        }],
        ..Config::default()
    }
}

/// Every port there is.
pub(super) fn every_port() -> Result<PortSet, PortError> {
    "1-65535".parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_told_from_a_policy() {
        assert!(is_config(r#"{"interfaces": ["eth0"], "apis": []}"#));
        assert!(is_config(r#"{"apis": [,"#));
        assert!(!is_config(r#"{"Version": "2012-10-17", "Statement": []}"#));
        assert!(!is_config("{"));
    }
}
