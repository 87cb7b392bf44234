//! What an instance has in force: the policy, the table and the kernel, each asked about the same source.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use ipfilter_ebpf::abi::ApiSet;
use jiff::Timestamp;

use super::{Stop, probe};
use crate::{
    agreement::Answers,
    daemon::InForce,
    instance::Instance,
    kernel::{Filter, Found},
    overrides::Effect,
    packet::Packet,
    plan::{Api, Plan, Protocol},
    policy::Decision,
    view::{
        explain::View,
        live::{KernelAnswer, PolicyAnswer, Report, TableAnswer},
    },
};

/// Where a request would go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// The API's index.
    pub(super) api: usize,
    protocol: Protocol,
    port: u16,
}

/// What each API answers to `source` at its first port, for people.
pub(super) fn describe(instance: &Instance, source: IpAddr) -> anyhow::Result<String> {
    let live = Live::of(instance)?;
    let callable = live.plan.tables()?.at(source);
    let mut text = String::new();
    for target in first_ports(&live.plan, |_| true) {
        text += &live.ask(target, source, callable)?.to_string();
    }
    Ok(text)
}

/// The first port of each API that is wanted.
fn first_ports<'p>(
    plan: &'p Plan,
    wanted: impl Fn(&Api) -> bool + 'p,
) -> impl Iterator<Item = Target> + 'p {
    let apis = plan.apis.iter().enumerate();
    let apis = apis.filter(move |(_, api)| wanted(api));
    apis.filter_map(|(index, api)| {
        Some(Target {
            api: index,
            protocol: api.protocols.iter().next()?,
            port: api.ports.iter().next()?,
        })
    })
}

/// Which APIs to ask about.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// Only this API, with `--live` (default: each)
    #[arg(long, value_name = "NAME", requires = "live")]
    api: Option<String>,

    /// This port of the API, with `--live` (default: its first)
    #[arg(long, value_name = "N", requires = "live", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

impl Wanted {
    /// The API and the port that were asked for, or else each API's first port.
    pub(super) fn targets(&self, plan: &Plan) -> Result<Vec<Target>, Stop> {
        let wanted = self.api.as_ref();
        let known = |name: &&String| plan.api(name).is_none();
        if let Some(name) = wanted.filter(known) {
            let names = plan.apis.iter().map(|api| format!("`{}`", api.name));
            let names = names.collect::<Vec<_>>().join(", ");
            return Err(Stop::usage(format!("no API `{name}`: there are {names}")));
        }
        let is_wanted = |api: &Api| {
            wanted.is_none_or(|name| api.name == *name)
                && self.port.is_none_or(|port| api.ports.contains(port))
        };
        let targets = first_ports(plan, is_wanted).map(|target| Target {
            port: self.port.unwrap_or(target.port),
            ..target
        });
        let targets: Vec<_> = targets.collect();
        match (targets.is_empty(), self.port) {
            (true, Some(port)) => Err(Stop::usage(format!(
                "port {port} is not the API's: `ipfilter status` shows which are"
            ))),
            _ => Ok(targets),
        }
    }
}

/// What an instance has in force.
pub(super) struct Live {
    filter: Filter,
    found: Vec<Found>,
    in_force: InForce,
    pub(super) plan: Plan,
    now: Timestamp,
}

impl Live {
    /// What `instance` has in force.
    ///
    /// # Errors
    ///
    /// When nothing is deployed, or the kernel does not say.
    pub(super) fn of(instance: &Instance) -> anyhow::Result<Self> {
        let filter = Filter::of(instance);
        let found = filter.inspect()?;
        if found.is_empty() {
            bail!("nothing is deployed: every packet passes");
        }
        let in_force = InForce::of(instance)?;
        let now = Timestamp::now();
        let plan = in_force.plan(now)?;
        Ok(Self {
            filter,
            found,
            in_force,
            plan,
            now,
        })
    }

    /// Asks each of them whether `source` may call `target`; `callable` is what the table holds for it.
    pub(super) fn ask(
        &self,
        target: Target,
        source: IpAddr,
        callable: ApiSet,
    ) -> anyhow::Result<Report> {
        let explanation = self.in_force.explain(target.api, source, self.now);
        let explanation = explanation.context("no such API")?;
        let (file, changed) = self.in_force.file(target.api).context("no such API")?;
        let api = self.plan.apis.get(target.api).context("no such API")?;
        let overruled = self.in_force.overruled(target.api, source, self.now);
        let kernel = self.found.iter();
        let kernel = kernel.map(|found| self.kernel(target, source, found));
        let kernel = kernel.collect::<anyhow::Result<Vec<_>>>()?;
        let answers = Answers {
            policy: overruled.map_or(explanation.decision != Decision::Deny, |one| {
                one.rule.effect == Effect::Allow
            }),
            enforced: api.enforces(source),
            table: callable.has(u32::try_from(target.api)?),
            plan: self.plan.digest(),
            kernel: kernel.iter().map(|it| (it.digest, it.verdict)).collect(),
        };
        let kernel = kernel.into_iter().map(|asked| KernelAnswer {
            report: asked.report,
            digest: asked.digest.to_string(),
        });
        Ok(Report::new(
            source,
            &api.name,
            (target.protocol, target.port),
            PolicyAnswer {
                view: View::of_source(source, &explanation),
                file: file.display().to_string(),
                since: self.in_force.since,
                changed,
                overruled: overruled.cloned(),
                enforced: answers.enforced,
            },
            TableAnswer {
                table: self.plan.lookup.choose().to_string(),
                passes: answers.table,
                digest: answers.plan.to_string(),
            },
            kernel.collect(),
            &answers.disagreements(),
        ))
    }

    fn kernel(
        &self,
        target: Target,
        source: IpAddr,
        found: &Found,
    ) -> anyhow::Result<probe::Asked> {
        let packet = Packet {
            mac: found.interface.mac()?.unwrap_or_default(),
            vlans: Vec::new(),
            source,
            destination: probe::destination(&found.interface, source, &self.plan.addresses)?,
            protocol: target.protocol,
            port: target.port,
            fragment: None,
        };
        let names: Vec<_> = self.plan.apis.iter().map(|api| api.name.clone()).collect();
        probe::ask(&self.filter, found, &packet, &names)
    }
}
