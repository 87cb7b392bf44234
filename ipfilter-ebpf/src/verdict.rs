//! What becomes of a packet: a pure decision over what the parser saw and what the tables say.

use crate::{
    abi::{ApiSet, Reason},
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

    /// `value`, of which the kernel's verifier is to know nothing: it would go through what follows
    /// again for each way through the headers.
    #[inline(always)]
    fn forget(&self, value: usize) -> usize {
        value
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the host.
    Pass(Reason),
    /// It is discarded, whoever sent it: from there, where that was found.
    Drop(Reason, Option<Origin>),
    /// It goes on to the API with this index.
    Allow(u32),
    /// Its source may not call an API: the API's deny action follows.
    Deny(Denied),
}

/// Where a packet says that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The packet's family.
    pub family: Family,
    /// Where its IP header begins, in bytes from the start of the frame.
    pub network: usize,
}

impl Origin {
    #[inline(always)]
    fn of<T: Tables>(datagram: &Datagram, tables: &T) -> Self {
        Self {
            family: match datagram.source {
                Address::V4(_) => Family::V4,
                Address::V6(_) => Family::V6,
            },
            network: tables.forget(datagram.network),
        }
    }
}

/// A denied packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The API's index.
    pub api: u32,
    /// The packet's family.
    pub family: Family,
    /// Where its IP header begins, in bytes from the start of the frame.
    pub network: usize,
    /// The segment or datagram.
    pub segment: Segment,
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
        Packet::TooManyTags => Verdict::Drop(Reason::Unresolved, None),
        Packet::Malformed => Verdict::Drop(Reason::Malformed, None),
        Packet::Ip(datagram) => match &datagram.content {
            Content::LaterFragment => Verdict::Pass(Reason::LaterFragment),
            Content::Other => Verdict::Pass(Reason::OtherProtocol),
            Content::Malformed => {
                Verdict::Drop(Reason::Malformed, Some(Origin::of(datagram, tables)))
            }
            Content::Unresolved => judge_unresolved(datagram, tables),
            Content::Segment(segment) => judge_segment(datagram, segment, tables),
        },
    }
}

/// Without a port in sight only a source that may call every API is let through.
#[inline(always)]
fn judge_unresolved<T: Tables>(datagram: &Datagram, tables: &T) -> Verdict {
    let origin = Origin::of(datagram, tables);
    if tables.callable(&datagram.source).bits() & tables.apis().bits() == tables.apis().bits() {
        Verdict::Pass(Reason::UnresolvedAllowed)
    } else {
        Verdict::Drop(Reason::Unresolved, Some(origin))
    }
}

/// Port first: traffic to other services never pays for a source lookup.
#[inline(always)]
fn judge_segment<T: Tables>(datagram: &Datagram, segment: &Segment, tables: &T) -> Verdict {
    let Some(api) = tables.api(segment.protocol, segment.port) else {
        return Verdict::Pass(Reason::OtherPort);
    };
    if !tables.protects(&datagram.destination) {
        return Verdict::Pass(Reason::OtherAddress);
    }
    let Origin { family, network } = Origin::of(datagram, tables);
    let segment = Segment {
        transport: tables.forget(segment.transport),
        fragment: tables.forget(usize::from(segment.fragment)) != 0,
        ..*segment
    };
    if tables.callable(&datagram.source).has(api) {
        Verdict::Allow(api)
    } else {
        Verdict::Deny(Denied {
            api,
            family,
            network,
            segment,
        })
    }
}
