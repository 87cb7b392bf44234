//! The verdict on a packet: a pure function of what the parser found and what the tables say.

use crate::{
    abi::{ApiSet, NO_API, Reason},
    wire::{Address, Content, Datagram, Family, Judge, Packet, Protocol, Segment},
};

/// What a deployment says about ports, addresses and sources.
pub trait Tables {
    /// The index of the API that `port` belongs to.
    fn api(&self, protocol: Protocol, port: u16) -> Option<u32>;
    /// Whether the deployment filters what goes to `destination`.
    fn protects(&self, destination: &Address) -> bool;
    /// The APIs that `source` may call.
    fn callable(&self, source: &Address) -> ApiSet;
    /// All APIs of the deployment.
    fn apis(&self) -> ApiSet;

    /// `value`, hidden from the kernel's verifier: it would verify what follows again for each path through
    /// the headers.
    #[inline(always)]
    fn verifier_barrier(&self, value: u32) -> u32 {
        value
    }

    /// The same for a place in the packet, where it suffices that the verifier does not know its range.
    #[inline(always)]
    fn range_barrier(&self, place: usize) -> usize {
        place
    }
}

/// The verdict on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the host.
    Pass(Reason),
    /// It is dropped, from any source.
    Drop(Reason, Origin),
    /// It goes on to an API.
    Allow(Call),
    /// Its source may not call an API: the API's deny action follows.
    Deny(Call),
}

/// A packet's source. Every field is always initialized: the compiler may read a field before it checks
/// whether it is set, and Linux 6.1 refuses to read uninitialized stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The packet's family, if an IP header was found.
    pub family: Option<Family>,
    /// Where that begins, in bytes from the start of the frame, else 0.
    pub network: usize,
}

impl Origin {
    /// That of a packet in which no IP header was found.
    const UNKNOWN: Self = Self {
        family: None,
        network: 0,
    };
}

/// A packet to an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The API's index.
    pub api: u32,
    /// The packet's family.
    pub family: Family,
    /// Where its IP header begins, in bytes from the start of the frame.
    pub network: usize,
    /// Where its TCP or UDP header begins, likewise.
    pub transport: usize,
    /// Which of them it is.
    pub protocol: Protocol,
    /// Whether it is the first fragment of a datagram.
    pub fragment: bool,
}

/// Judges packets by a deployment's tables.
#[derive(Clone, Copy, Debug)]
pub struct By<'a, T>(pub &'a T);

impl<T: Tables> Judge for By<'_, T> {
    type Verdict = Verdict;

    #[inline(always)]
    fn judge(self, packet: Packet) -> Verdict {
        judge(&packet, self.0)
    }
}

#[inline(always)]
fn judge<T: Tables>(packet: &Packet, tables: &T) -> Verdict {
    match packet {
        Packet::NotIp => Verdict::Pass(Reason::NotIp),
        Packet::TooManyTags => Verdict::Drop(Reason::Unresolved, Origin::UNKNOWN),
        Packet::Malformed => Verdict::Drop(Reason::Malformed, Origin::UNKNOWN),
        Packet::Ip(datagram) => judge_datagram(datagram, tables),
    }
}

/// Port first: traffic to other services never pays for a source lookup.
#[inline(always)]
fn judge_datagram<T: Tables>(datagram: &Datagram, tables: &T) -> Verdict {
    let family = datagram.source.family();
    let network = tables.range_barrier(datagram.network);
    let origin = Origin {
        family: Some(family),
        network,
    };
    let (asked, transport) = match &datagram.content {
        Content::LaterFragment => return Verdict::Pass(Reason::LaterFragment),
        Content::Other => return Verdict::Pass(Reason::OtherProtocol),
        Content::Malformed => return Verdict::Drop(Reason::Malformed, origin),
        Content::Unresolved => (Asked::NOTHING, 0),
        Content::Segment(segment) => {
            let Some(api) = tables.api(segment.protocol, segment.port) else {
                return Verdict::Pass(Reason::OtherPort);
            };
            if !tables.protects(&datagram.destination) {
                return Verdict::Pass(Reason::OtherAddress);
            }
            (Asked::of(api, segment), segment.transport)
        }
    };
    let asked = Asked(tables.verifier_barrier(asked.0));
    let transport = tables.range_barrier(transport);
    let callable = tables.callable(&datagram.source);
    let api = asked.api();
    if api == NO_API {
        // Without a visible port, only a source that may call every API passes.
        return if callable.bits() & tables.apis().bits() == tables.apis().bits() {
            Verdict::Pass(Reason::UnresolvedAllowed)
        } else {
            Verdict::Drop(Reason::Unresolved, origin)
        };
    }
    let call = Call {
        api,
        family,
        network,
        transport,
        protocol: asked.protocol(),
        fragment: asked.is_fragment(),
    };
    if callable.has(api) {
        return Verdict::Allow(call);
    }
    Verdict::Deny(call)
}

/// What a packet asks for, in one word, so that one [barrier](Tables::verifier_barrier) does for all and the
/// lookup of its source is the same whatever it is. From the low bits: the API's index or [`NO_API`] (7),
/// whether it is UDP (1), whether it is a fragment (1).
#[derive(Clone, Copy)]
struct Asked(u32);

impl Asked {
    const NOTHING: Self = Self(NO_API);
    const UDP: u32 = 1 << 7;
    const FRAGMENT: u32 = 1 << 8;

    #[inline(always)]
    const fn of(api: u32, segment: &Segment) -> Self {
        let protocol = match segment.protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => Self::UDP,
        };
        let fragment = if segment.fragment { Self::FRAGMENT } else { 0 };
        Self(api | protocol | fragment)
    }

    #[inline(always)]
    const fn api(self) -> u32 {
        self.0 & 0x7f
    }

    #[inline(always)]
    const fn protocol(self) -> Protocol {
        if self.0 & Self::UDP == 0 {
            Protocol::Tcp
        } else {
            Protocol::Udp
        }
    }

    #[inline(always)]
    const fn is_fragment(self) -> bool {
        self.0 & Self::FRAGMENT != 0
    }
}
