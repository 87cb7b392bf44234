//! From files to the policies in force.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ipfilter_config::{Authorize, Config, PolicyOptions, files};
use ipfilter_diagnostics::render_all;
use ipfilter_document::problem::Findings;
use ipfilter_feed::Policies;
use ipfilter_policy::{Severity, Source, parse};
use sha2::{Digest as _, Sha256};

use crate::{
    failure::Failure,
    service::{Api, Service},
};

/// Where the policies come from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// A configuration file with an `authorize` section.
    Config(PathBuf),
    /// One policy, and what else the command line says.
    Policy {
        file: PathBuf,
        options: Box<PolicyOptions>,
        authorize: Box<Authorize>,
    },
}

/// The policies as they are on disk now, and how the service is to listen.
pub(crate) fn read(origin: &Origin) -> Result<(Service, Authorize), Failure> {
    let (authorize, apis) = match origin {
        Origin::Config(path) => {
            let config = config(path)?;
            let authorize = config.authorize.clone().with_context(|| {
                format!(
                    "`{}` has no `authorize` section: add one",
                    files::shown(path)
                )
            })?;
            let apis = config.apis.into_iter();
            let apis: Vec<_> = apis
                .map(|api| (api.name, api.hosts, api.policy, api.options))
                .collect();
            (authorize, apis)
        }
        Origin::Policy {
            file,
            options,
            authorize,
        } => {
            let api = (
                "api".to_owned(),
                Vec::new(),
                file.clone(),
                (**options).clone(),
            );
            ((**authorize).clone(), vec![api])
        }
    };
    let mut digest = Sha256::new();
    digest.update(format!("{authorize:?}"));
    let apis = apis
        .into_iter()
        .map(|(name, hosts, policy, options)| api(name, hosts, &policy, &options, &mut digest))
        .collect::<Result<Vec<_>, Failure>>()?;
    let digest = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let service = Service::new(apis, &authorize, digest);
    Ok((service, authorize))
}

fn config(path: &Path) -> Result<Config, Failure> {
    let read = ipfilter_config::ConfigSource::file(path).read();
    Ok(read?)
}

fn api(
    name: String,
    hosts: Vec<String>,
    path: &Path,
    options: &PolicyOptions,
    digest: &mut Sha256,
) -> Result<Api, Failure> {
    let source = files::read_policy(path)
        .with_context(|| format!("can't read the policy `{}`", files::shown(path)))?;
    digest.update(format!("{name}\0{hosts:?}\0{options:?}\0"));
    digest.update(source.text());
    understood(name, hosts, source, options)
}

fn understood(
    name: String,
    hosts: Vec<String>,
    source: Source,
    options: &PolicyOptions,
) -> Result<Api, Failure> {
    let parsed = parse(&source, &options.into());
    let Some(policy) = parsed.policy else {
        let problems = parsed.problems;
        return Err(Failure::Policy(Findings { source, problems }));
    };
    // What an interface could not decide is no problem here.
    let warnings = parsed
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Warning);
    let warnings = render_all(&source, warnings);
    if !warnings.is_empty() {
        log::warn!("{warnings}");
    }
    Ok(Api {
        name,
        hosts,
        policy,
        arn: options.api_arn.clone(),
    })
}

/// The policies that the filter's process hands over under this name; none where it has no settings for a
/// service.
pub(crate) fn handed(policies: Policies, digest: String) -> Result<Option<Service>, Failure> {
    let Some(authorize) = policies.authorize else {
        return Ok(None);
    };
    let apis = policies.apis.into_iter().map(|api| {
        let source = Source::new(api.file, api.policy);
        understood(api.name, api.hosts, source, &api.options)
    });
    let apis = apis.collect::<Result<Vec<_>, Failure>>()?;
    Ok(Some(Service::new(apis, &authorize, digest)))
}

/// Refuses a listener that strangers reach and nobody is trusted at.
pub(crate) fn check(authorize: &Authorize) -> anyhow::Result<()> {
    let is_tcp = matches!(authorize.listen, ipfilter_config::Endpoint::Tcp(_));
    if is_tcp && authorize.trusted_proxies.is_empty() {
        bail!(
            "nobody is trusted at `{}`, so every request would be denied: name the proxies in \
             `trusted_proxies` (`--trusted-proxy`), or listen on a Unix socket",
            authorize.listen
        );
    }
    Ok(())
}
