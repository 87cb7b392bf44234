//! What a plan would have done, by the tables that the kernel gets and the parser that it runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipfilter_addresses::AddressSet;
use ipfilter_ebpf::{
    abi::{ApiSet, Reason},
    verdict::{By, Tables, Verdict},
    wire::{self, Address, Packet, parse},
};
use ipfilter_plan::{IntervalTable, Plan, PortTable, Protocol, Share, TableTooLarge};

/// The decision about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Every request of the source is denied: it is dropped or answered.
    Deny,
    /// It passes, and some request of the source is left to the API.
    Depends,
    /// It passes, and every request of the source is allowed.
    Allow,
    /// It is not to an API's port.
    Other,
}

impl Decision {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Deny, Self::Depends, Self::Other];

    /// As JSON and text have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Depends => "depends",
            Self::Allow => "allow",
            Self::Other => "other",
        }
    }
}

/// Bytes in an Ethernet header, without which nothing is known of a frame.
const ETHERNET: usize = 14;

/// What was decided about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The decision.
    pub decision: Decision,
    /// The index of the API that it asks for.
    pub api: Option<usize>,
    /// Why, as the counters name it.
    pub reason: &'static str,
    /// Where it comes from, if that is known.
    pub source: Option<IpAddr>,
    /// Whether the packet goes on to the host.
    pub passes: bool,
    /// Whether more of the packet would have been needed to decide.
    pub in_the_dark: bool,
}

/// Decides by a plan.
pub struct Judge {
    tables: Memory,
    /// By API, the sources every request of which is allowed.
    allowed: Vec<AddressSet>,
    /// By API, its identity and the share of sources that it denies.
    shares: Vec<(u32, Share)>,
}

/// A plan's tables, as a program has them.
struct Memory {
    ports: PortTable,
    addresses: Vec<IpAddr>,
    v4: IntervalTable<u32>,
    v6: IntervalTable<u128>,
    apis: ApiSet,
}

impl Judge {
    /// Decides by `plan`; `allowed` are the sources, by API, every request of which is allowed.
    ///
    /// # Errors
    ///
    /// When the tables become too large.
    pub fn new(plan: &Plan, allowed: Vec<AddressSet>) -> Result<Self, TableTooLarge> {
        let apis = (0_u64..).take(plan.apis.len());
        let tables = Memory {
            ports: plan.port_table(),
            addresses: plan.addresses.clone(),
            v4: IntervalTable::new(&plan.v4)?,
            v6: IntervalTable::new(&plan.v6)?,
            apis: ApiSet::from_bits(apis.fold(0, |bits, api| bits | (1 << api))),
        };
        let shares = plan.apis.iter().map(|api| (api.id(), api.enforce));
        Ok(Self {
            tables,
            allowed,
            shares: shares.collect(),
        })
    }

    /// The decision about an Ethernet frame.
    #[must_use]
    pub fn packet(&self, frame: &[u8]) -> Judged {
        let (source, verdict) = parse(frame, Both(&self.tables));
        let judged = |decision, api: Option<u32>, reason: Reason| Judged {
            decision,
            api: api.and_then(|api| usize::try_from(api).ok()),
            reason: reason.name(),
            source,
            passes: decision != Decision::Deny,
            in_the_dark: false,
        };
        match verdict {
            Verdict::Pass(reason) => Judged {
                in_the_dark: frame.len() < ETHERNET,
                ..judged(Decision::Other, None, reason)
            },
            Verdict::Drop(reason, _) => Judged {
                in_the_dark: true,
                ..judged(Decision::Deny, None, reason)
            },
            Verdict::Allow(call) => {
                let decision = self.passing(call.api, source);
                judged(decision, Some(call.api), Reason::Allowed)
            }
            Verdict::Deny(call) => Judged {
                passes: self.spares(call.api, source),
                ..judged(
                    Decision::Deny,
                    Some(call.api),
                    self.denied(call.api, source),
                )
            },
        }
    }

    /// The decision about a request from `source` to the API with this index.
    #[must_use]
    pub fn request(&self, api: usize, source: IpAddr) -> Judged {
        let number = u32::try_from(api).unwrap_or(u32::MAX);
        let callable = self.tables.may_call(source);
        let passes = api < self.allowed.len() && callable.has(number);
        let decision = if passes {
            self.passing(number, Some(source))
        } else {
            Decision::Deny
        };
        let reason = if passes {
            Reason::Allowed
        } else {
            self.denied(number, Some(source))
        };
        Judged {
            decision,
            api: Some(api),
            reason: reason.name(),
            source: Some(source),
            passes: passes || self.spares(number, Some(source)),
            in_the_dark: false,
        }
    }

    /// The index of the API that a port is.
    #[must_use]
    pub fn api(&self, protocol: Protocol, port: u16) -> Option<usize> {
        self.tables.ports.api(protocol, port)
    }

    /// What a source that may not call an API is counted under.
    fn denied(&self, api: u32, source: Option<IpAddr>) -> Reason {
        if self.spares(api, source) {
            Reason::WouldDeny
        } else {
            Reason::Denied
        }
    }

    /// Whether a source passes though it may not call an API.
    fn spares(&self, api: u32, source: Option<IpAddr>) -> bool {
        let share = usize::try_from(api)
            .ok()
            .and_then(|api| self.shares.get(api));
        match (share, source) {
            (Some((id, share)), Some(source)) => !share.has(*id, source),
            _ => false,
        }
    }

    /// Whether all or only some requests of a source that passes are allowed.
    fn passing(&self, api: u32, source: Option<IpAddr>) -> Decision {
        let allowed = usize::try_from(api)
            .ok()
            .and_then(|api| self.allowed.get(api));
        match (allowed, source) {
            (Some(allowed), Some(source)) if allowed.contains(source) => Decision::Allow,
            _ => Decision::Depends,
        }
    }
}

impl Memory {
    fn may_call(&self, source: IpAddr) -> ApiSet {
        match source {
            IpAddr::V4(source) => self.v4.at(source.to_bits()),
            IpAddr::V6(source) => self.v6.at(source.to_bits()),
        }
    }
}

impl Tables for Memory {
    fn api(&self, protocol: wire::Protocol, port: u16) -> Option<u32> {
        let protocol = match protocol {
            wire::Protocol::Tcp => Protocol::Tcp,
            wire::Protocol::Udp => Protocol::Udp,
        };
        self.ports
            .api(protocol, port)
            .and_then(|api| u32::try_from(api).ok())
    }

    fn protects(&self, destination: &Address) -> bool {
        self.addresses.is_empty() || self.addresses.contains(&ip(destination))
    }

    fn callable(&self, source: &Address) -> ApiSet {
        self.may_call(ip(source))
    }

    fn apis(&self) -> ApiSet {
        self.apis
    }
}

/// Judges a packet, and keeps its source.
struct Both<'a>(&'a Memory);

impl wire::Judge for Both<'_> {
    type Verdict = (Option<IpAddr>, Verdict);

    fn judge(self, packet: Packet) -> Self::Verdict {
        let source = match &packet {
            Packet::Ip(datagram) => Some(ip(&datagram.source)),
            _ => None,
        };
        (source, By(self.0).judge(packet))
    }
}

fn ip(address: &Address) -> IpAddr {
    match address {
        Address::V4(words) => {
            let [a, b] = words.map(u16::from_be);
            Ipv4Addr::from_bits((u32::from(a) << 16) | u32::from(b)).into()
        }
        Address::V6(words) => Ipv6Addr::from(words.map(u16::from_be)).into(),
    }
}
