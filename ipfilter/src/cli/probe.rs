//! `ipfilter probe`: what would the interface do with a packet?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::{Exit, Stop, format::Format, record, require_root};
use crate::{
    config::address,
    daemon::InForce,
    instance::Instance,
    kernel::{Filter, Found, Interface, Verdict},
    packet::{self, Packet},
    plan::{self, Digest},
    state::Record,
    view::probe::Report,
};

/// Show what the deployed filter does with a packet, and why
///
/// Builds the packet and runs the attached program on it; nothing is sent. The packet is counted, which
/// is how the reason is found. Exits with 1 if nothing is deployed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Source address of the packet
    #[arg(long, value_name = "IP", value_parser = address)]
    source: IpAddr,

    /// Destination port
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// Destination address (default: one of the host's, a protected one if there is one)
    #[arg(long, value_name = "IP", value_parser = address)]
    address: Option<IpAddr>,

    /// Interface at which it arrives (default: the first that is filtered)
    #[arg(long, value_name = "IF")]
    interface: Option<String>,

    /// Transport protocol
    #[arg(long, value_enum, default_value_t)]
    protocol: ProtocolArg,

    /// VLAN ids, the outermost first
    #[arg(long, value_name = "ID,...", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(..4095))]
    vlan: Vec<u16>,

    /// Make it a fragment
    #[arg(long, value_enum)]
    fragment: Option<FragmentArg>,

    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ProtocolArg {
    /// A TCP SYN
    #[default]
    Tcp,
    /// A UDP datagram as large as the first one of HTTP/3
    Udp,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FragmentArg {
    /// The first fragment, which has the ports
    First,
    /// A later fragment, which has none
    Later,
}

pub(super) fn run(args: &Args, instance: &Instance) -> anyhow::Result<Exit> {
    let other_family = |address: &IpAddr| address.is_ipv4() != args.source.is_ipv4();
    if args.address.as_ref().is_some_and(other_family) {
        return Err(Stop::usage("`--address` must be of the same family as `--source`").into());
    }
    require_root("asking the filter")?;
    let filter = Filter::of(instance);
    let found = chosen(filter.inspect()?, args.interface.as_deref())?;
    let record = record(instance);
    let protected = InForce::of(instance).map_or(Vec::new(), |now| now.spec().protected());
    let packet = args.packet(&found.interface, &protected)?;
    let asked = ask(&filter, &found, &packet, &names(&record))?;
    let report = asked.report;
    match args.format {
        Format::Text => anstream::print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(Exit::Fine)
}

/// The deployment at the interface that was asked for, or else the first.
fn chosen(found: Vec<Found>, wanted: Option<&str>) -> anyhow::Result<Found> {
    let mut of_it = found
        .into_iter()
        .filter(|found| wanted.is_none_or(|name| found.interface.is_called(name).unwrap_or(false)));
    match (of_it.next(), wanted) {
        (Some(found), _) => Ok(found),
        (None, None) => bail!("nothing is deployed: every packet passes"),
        (None, Some(name)) => {
            bail!("nothing is deployed on `{name}`; `ipfilter status` shows where")
        }
    }
}

fn names(record: &Record) -> Vec<String> {
    let apis = record.current().into_iter().flat_map(|now| &now.apis);
    apis.map(|api| api.name.clone()).collect()
}

/// What the program at an interface does with a packet.
pub(super) struct Asked {
    /// For people and machines.
    pub(super) report: Report,
    pub(super) verdict: Verdict,
    /// Of the plan that it has.
    pub(super) digest: Digest,
}

/// Asks the program at an interface what it does with a packet. `names` are the APIs', by index.
pub(super) fn ask(
    filter: &Filter,
    found: &Found,
    packet: &Packet,
    names: &[String],
) -> anyhow::Result<Asked> {
    let config = found.config.context(
        "the filter was deployed by another version of ipfilter: deploy it anew, then ask",
    )?;
    let apis = config.apis.bits().count_ones() as usize;
    let probed = filter.probe(&found.interface, &packet.frame()?, apis)?;
    let name = |index: u32| {
        let name = names.get(index as usize);
        name.map_or_else(|| format!("#{index}"), Clone::clone)
    };
    let verdict = probed.verdict(packet);
    let verdict = verdict.context("the program failed on this packet")?;
    let api = probed.counted.and_then(|(api, _)| api).map(name);
    Ok(Asked {
        report: Report::new(verdict, api, &found.interface.name, found.hook.name()),
        verdict,
        digest: Digest(config.digest),
    })
}

/// Where a packet from `source` goes to: an address that the host has, a protected one if there is
/// one, the interface's own rather than others. Nothing is sent to one that it lacks.
pub(super) fn destination(
    interface: &Interface,
    source: IpAddr,
    protected: &[IpAddr],
) -> anyhow::Result<IpAddr> {
    let mut own = interface.host_addresses()?;
    own.retain(|address| address.is_ipv4() == source.is_ipv4());
    let is_protected = |address: &&IpAddr| protected.contains(address);
    let chosen = own.iter().find(is_protected).or(own.first());
    Ok(chosen.copied().unwrap_or(if source.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }))
}

impl Args {
    fn packet(&self, interface: &Interface, protected: &[IpAddr]) -> anyhow::Result<Packet> {
        let destination = match self.address {
            Some(address) => address,
            None => destination(interface, self.source, protected)?,
        };
        Ok(Packet {
            mac: interface.mac()?.unwrap_or_default(),
            vlans: self.vlan.clone(),
            source: self.source,
            destination,
            protocol: match self.protocol {
                ProtocolArg::Tcp => plan::Protocol::Tcp,
                ProtocolArg::Udp => plan::Protocol::Udp,
            },
            port: self.port,
            fragment: self.fragment.map(|fragment| match fragment {
                FragmentArg::First => packet::Fragment::First,
                FragmentArg::Later => packet::Fragment::Later,
            }),
        })
    }
}
