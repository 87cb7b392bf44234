//! Proof of a deployment: test runs of the attached programs show whether they do what the plan says.
//!
//! The expected verdicts come from the plan's address sets, not from its tables, so that any fault between
//! plan and interface is found before success is reported.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsFd,
};

use ipfilter_ebpf::abi::SLOTS;

use super::{
    attachment::{Attachment, Place},
    counters::TestRuns,
    error::Error,
    interface::Interface,
    netlink,
    pins::Pins,
    programs::Programs,
    sys,
    test_run::{self, Action, Kind},
};
use crate::{
    addresses::{Address, Intervals},
    packet::Packet,
    plan::{Api, Plan, Protocol},
};

/// How many of the host's addresses are tested per family.
const DESTINATIONS: usize = 4;

/// What a plan says about single packets.
#[derive(Debug)]
pub(super) struct Questions {
    cases: Vec<Case>,
    /// The addresses to protect; none for all.
    addresses: Vec<IpAddr>,
    apis: usize,
}

/// A packet to an API's port, at any address of the host, and whether it must pass.
#[derive(Debug)]
struct Case {
    api: String,
    source: IpAddr,
    protocol: Protocol,
    port: u16,
    passes: bool,
}

impl Questions {
    /// A source of each family that may pass, and one that may not, for each API. One that is not enforced for
    /// the latter lets both pass.
    pub(super) fn of(plan: &Plan) -> Self {
        let cases = plan.apis.iter().flat_map(|api| {
            sources(api).into_iter().flat_map(move |(source, passes)| {
                ports(api).map(move |(protocol, port)| Case {
                    api: api.name.clone(),
                    source,
                    protocol,
                    port,
                    passes: passes || !api.enforces(source),
                })
            })
        });
        Self {
            cases: cases.collect(),
            addresses: plan.addresses.clone(),
            apis: plan.apis.len(),
        }
    }

    /// The addresses that packets are sent to: those to protect, or else the host's, those of the
    /// interfaces first. A family without one may get one later.
    fn destinations(&self, interfaces: &[Interface]) -> Result<Vec<IpAddr>, Error> {
        let mut found = self.addresses.clone();
        if found.is_empty() {
            let mut own = netlink::addresses()?;
            own.sort_by_key(|(index, _)| interfaces.iter().all(|other| other.index != *index));
            found.extend(own.into_iter().map(|(_, address)| address));
            found.push(Ipv4Addr::UNSPECIFIED.into());
            found.push(Ipv6Addr::UNSPECIFIED.into());
        }
        let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv4);
        let some = |family: Vec<IpAddr>| family.into_iter().take(DESTINATIONS);
        Ok(some(v4).chain(some(v6)).collect())
    }
}

/// The packets that each program is tested with.
#[derive(Debug)]
pub(super) struct Proof {
    questions: Vec<Question>,
    apis: usize,
}

/// A packet, and whether it must pass.
#[derive(Debug)]
struct Question {
    frame: Vec<u8>,
    passes: bool,
    /// The packet, for a reader.
    packet: String,
}

impl Proof {
    /// The questions, put to this host's addresses.
    pub(super) fn of(questions: &Questions, interfaces: &[Interface]) -> Result<Self, Error> {
        let destinations = questions.destinations(interfaces)?;
        let mut put = Vec::new();
        for case in &questions.cases {
            let is_alike = |to: &&IpAddr| to.is_ipv4() == case.source.is_ipv4();
            for destination in destinations.iter().filter(is_alike) {
                put.push(case.put_to(*destination)?);
            }
        }
        Ok(Self {
            questions: put,
            apis: questions.apis,
        })
    }

    /// Tests the programs at these attachments, each program once, and that each interface runs this
    /// deployment's program. The counters don't change.
    pub(super) fn ask<'a>(
        &self,
        pins: &Pins,
        programs: &mut Programs,
        attachments: impl IntoIterator<Item = &'a Attachment>,
    ) -> Result<(), Error> {
        let links = netlink::links()?;
        let attachments: Vec<_> = attachments.into_iter().collect();
        let are_shared = attachments.len() >= SLOTS;
        let mut asked = Vec::new();
        for attachment in attachments {
            let name = &attachment.interface.name;
            let is_there = |link: &netlink::Link| link.index == attachment.interface.index;
            if !links.iter().any(is_there) {
                continue;
            }
            let program = match attachment.clone().locate(&links)? {
                Place::Here(_) => attachment.program()?,
                Place::Away | Place::Nowhere => None,
            };
            let hook = attachment.hook;
            if program != Some(programs.id(hook)?) {
                return Err(Error::failed(
                    format!("the filter was attached to `{name}`, and is not what is there"),
                    "something else manages it: end that, then try again",
                ));
            }
            let Some(program) = program.filter(|program| !asked.contains(program)) else {
                continue;
            };
            asked.push(program);
            let program = sys::program_by_id(program)
                .map_err(|error| Error::io("can't open the program in force", error))?;
            let counted = TestRuns::before(pins, self.apis)?;
            let answers = self.put_to(
                &program,
                hook.kind(),
                &format!("`{name}` ({})", hook.name()),
            );
            counted.forget(are_shared)?;
            answers?;
        }
        Ok(())
    }
}

impl Proof {
    /// Tests one program, which is attached at `place`.
    pub(super) fn put_to(&self, program: impl AsFd, kind: Kind, place: &str) -> Result<(), Error> {
        self.questions.iter().try_for_each(|question| {
            let (action, _) = test_run::run(&program, kind, &question.frame)?;
            question.check(action, place)
        })
    }
}

impl Case {
    fn put_to(&self, destination: IpAddr) -> Result<Question, Error> {
        let Self {
            api,
            source,
            protocol,
            port,
            passes,
        } = self;
        let packet = Packet {
            mac: [0; 6],
            vlans: Vec::new(),
            source: *source,
            destination,
            protocol: *protocol,
            port: *port,
            fragment: None,
        };
        let frame = packet.frame();
        Ok(Question {
            frame: frame
                .map_err(|error| Error::failed("can't make a packet", error.to_string()))?,
            passes: *passes,
            packet: format!("{source} to {protocol} port {port} of {destination} (API `{api}`)"),
        })
    }
}

impl Question {
    fn check(&self, action: Action, place: &str) -> Result<(), Error> {
        let is_right = match action {
            Action::Pass => self.passes,
            Action::Drop | Action::Transmit => !self.passes,
            Action::Aborted => false,
        };
        if is_right {
            return Ok(());
        }
        let (does, wanted) = match (action, self.passes) {
            (Action::Aborted, _) => ("fails on", "judges it"),
            (_, true) => ("holds up", "lets it pass"),
            (_, false) => ("lets pass", "denies it"),
        };
        Err(Error::failed(
            format!(
                "the program at {place} {does} a packet from {}, where the plan {wanted}",
                self.packet
            ),
            "the plan is not in force; please report this",
        ))
    }
}

/// The first and the last of its ports, for each of its protocols.
fn ports(api: &Api) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    let ends = [api.ports.iter().next(), api.ports.iter().last()];
    let same = ends[0] == ends[1];
    let ends = ends.into_iter().take(if same { 1 } else { 2 }).flatten();
    let ends: Vec<_> = ends.collect();
    api.protocols.iter().flat_map(move |protocol| {
        let ends = ends.clone().into_iter();
        ends.map(move |port| (protocol, port))
    })
}

/// A source of each family that may pass, and one that may not, as far as there are any.
fn sources(api: &Api) -> Vec<(IpAddr, bool)> {
    let v4 = ends(&api.sources.v4).map(|(bits, passes)| (Ipv4Addr::from_bits(bits).into(), passes));
    let v6 = ends(&api.sources.v6).map(|(bits, passes)| (Ipv6Addr::from_bits(bits).into(), passes));
    v4.chain(v6).collect()
}

/// An address in the set, and one outside.
fn ends<A: Address>(set: &Intervals<A>) -> impl Iterator<Item = (A, bool)> {
    let last = |set: &Intervals<A>| set.ranges().next_back().map(|(_, last)| last);
    let outside = last(&set.complement()).map(|address| (address, false));
    let inside = last(set).map(|address| (address, true));
    inside.into_iter().chain(outside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addresses::AddressSet,
        plan::{Deny, Protocols, Response, Share},
    };

    fn api(networks: &[&str]) -> Api {
        let networks = networks.iter().map(|network| network.parse().unwrap());
        Api {
            enforce: Share::ALL,
            name: "api".into(),
            ports: "80-90".parse().unwrap(),
            protocols: Protocols::BOTH,
            deny: Deny::Drop,
            response: Response::default(),
            sources: AddressSet::from_networks(networks),
        }
    }

    #[test]
    fn each_family_is_asked_with_a_source_that_may_pass_and_one_that_may_not() {
        for (networks, want) in [
            (
                &["192.0.2.0/24"][..],
                "192.0.2.255+ 255.255.255.255- ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-",
            ),
            (
                &["0.0.0.0/0", "::/1"],
                "255.255.255.255+ 7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff+ ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff-",
            ),
        ] {
            let sources = sources(&api(networks)).into_iter();
            let told: Vec<_> = sources
                .map(|(source, passes)| format!("{source}{}", if passes { '+' } else { '-' }))
                .collect();
            assert_eq!(told.join(" "), want);
        }
        let ports: Vec<_> = ports(&api(&[])).collect();
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        assert_eq!(ports, [(tcp, 80), (tcp, 90), (udp, 80), (udp, 90)]);
    }

    #[test]
    fn a_wrong_answer_is_an_error_that_names_the_packet() {
        let source = "203.0.113.10".parse().unwrap();
        let host = "192.0.2.2".parse().unwrap();
        let ask = |passes| {
            let case = Case {
                api: "api".into(),
                source,
                protocol: Protocol::Tcp,
                port: 8080,
                passes,
            };
            case.put_to(host).unwrap()
        };
        for (passes, action, said) in [
            (true, Action::Pass, None),
            (false, Action::Drop, None),
            (false, Action::Transmit, None),
            (false, Action::Pass, Some("lets pass")),
            (true, Action::Drop, Some("holds up")),
            (true, Action::Aborted, Some("fails on")),
            (false, Action::Aborted, Some("fails on")),
        ] {
            let answer = ask(passes).check(action, "`eth0` (native)");
            let Some(said) = said else {
                answer.unwrap();
                continue;
            };
            let error = answer.unwrap_err().to_string();
            let packet = "a packet from 203.0.113.10 to TCP port 8080 of 192.0.2.2 (API `api`)";
            assert!(error.contains(&format!("{said} {packet}")), "{error}");
        }
    }
}
