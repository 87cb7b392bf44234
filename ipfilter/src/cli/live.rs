//! `ipfilter explain --live`: the policy, the table and the kernel, each asked about the same source.

use std::net::IpAddr;

use anyhow::{Context as _, bail};
use ipfilter_ebpf::abi::ApiSet;
use jiff::Timestamp;

use super::{Exit, Stop, explain::Args, format::Format, probe, require_root};
use crate::{
    daemon::InForce,
    instance::Instance,
    kernel::{self, Filter, Found},
    packet::Packet,
    plan::{Api, Plan, Protocol},
    view::{
        explain::View,
        live::{KernelAnswer, PolicyAnswer, Report, TableAnswer},
    },
};

/// Where a request would go.
#[derive(Clone, Copy)]
struct Target {
    /// The API's index.
    api: usize,
    protocol: Protocol,
    port: u16,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    require_root("asking the filter")?;
    let live = Live::of(instance)?;
    let targets = targets(args, &live.plan)?;
    let mut differing = 0_usize;
    args.each(|source, format, out| {
        let callable = kernel::callable(&live.plan, source)?;
        for target in &targets {
            let report = live.ask(*target, source, callable)?;
            differing += usize::from(!report.agrees());
            match format {
                Format::Text => write!(out, "{report}")?,
                Format::Json => {
                    serde_json::to_writer(&mut *out, &report)?;
                    writeln!(out)?;
                }
            }
        }
        Ok(())
    })?;
    match differing {
        0 => Ok(Exit::Fine),
        1 => bail!("the answers differ: `ipfilter reload` deploys anew; please report this"),
        _ => {
            bail!("{differing} answers differ: `ipfilter reload` deploys anew; please report this")
        }
    }
}

/// What each API answers to `source` at its first port, for people.
pub(super) fn tell(instance: &Instance, source: IpAddr) -> anyhow::Result<String> {
    let live = Live::of(instance)?;
    let callable = kernel::callable(&live.plan, source)?;
    let mut told = String::new();
    for target in first_ports(&live.plan, |_| true) {
        told += &live.ask(target, source, callable)?.to_string();
    }
    Ok(told)
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

/// The API and the port that were asked for, or else each API's first port.
fn targets(args: &Args, plan: &Plan) -> Result<Vec<Target>, Stop> {
    let wanted = args.api.as_ref();
    let known = |name: &&String| plan.api(name).is_none();
    if let Some(name) = wanted.filter(known) {
        let names: Vec<_> = plan
            .apis
            .iter()
            .map(|api| format!("`{}`", api.name))
            .collect();
        let names = names.join(", ");
        return Err(Stop::usage(format!("no API `{name}`: there are {names}")));
    }
    let is_wanted = |api: &Api| {
        wanted.is_none_or(|name| api.name == *name)
            && args.port.is_none_or(|port| api.ports.contains(port))
    };
    let targets = first_ports(plan, is_wanted).map(|target| Target {
        port: args.port.unwrap_or(target.port),
        ..target
    });
    let targets: Vec<_> = targets.collect();
    match (targets.is_empty(), args.port) {
        (true, Some(port)) => Err(Stop::usage(format!(
            "port {port} is not the API's: `ipfilter status` shows which are"
        ))),
        _ => Ok(targets),
    }
}

struct Live {
    filter: Filter,
    found: Vec<Found>,
    in_force: InForce,
    plan: Plan,
    now: Timestamp,
}

impl Live {
    /// What `instance` has in force.
    fn of(instance: &Instance) -> anyhow::Result<Self> {
        let filter = Filter::of(instance);
        let found = filter.inspect()?;
        if found.is_empty() {
            bail!("nothing is deployed: every packet passes");
        }
        let in_force = InForce::of(instance).map_err(Stop::from)?;
        let now = Timestamp::now();
        let plan = in_force.plan(now).map_err(Stop::from)?;
        Ok(Self {
            filter,
            found,
            in_force,
            plan,
            now,
        })
    }

    fn ask(&self, target: Target, source: IpAddr, callable: ApiSet) -> anyhow::Result<Report> {
        let explanation = self.in_force.explain(target.api, source, self.now);
        let (file, changed) = self.in_force.file(target.api).context("no such API")?;
        let api = self.plan.apis.get(target.api).context("no such API")?;
        let kernel = self
            .found
            .iter()
            .map(|found| self.kernel(target, source, found));
        Ok(Report::new(
            source,
            &api.name,
            (target.protocol, target.port),
            PolicyAnswer {
                view: View::of_source(source, &explanation.context("no such API")?),
                file: file.display().to_string(),
                since: self.in_force.since,
                changed,
                overruled: self
                    .in_force
                    .overruled(target.api, source, self.now)
                    .cloned(),
            },
            TableAnswer {
                table: self.plan.lookup.choose().to_string(),
                verdict: if callable.has(u32::try_from(target.api)?) {
                    "pass"
                } else {
                    "deny"
                },
                digest: self.plan.digest().to_string(),
            },
            kernel.collect::<anyhow::Result<_>>()?,
        ))
    }

    fn kernel(
        &self,
        target: Target,
        source: IpAddr,
        found: &Found,
    ) -> anyhow::Result<KernelAnswer> {
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
        let (report, digest) = probe::ask(&self.filter, found, &packet, &names)?;
        Ok(KernelAnswer { report, digest })
    }
}
