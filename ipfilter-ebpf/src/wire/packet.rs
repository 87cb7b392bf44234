//! What the parser finds in a frame.

use super::field::{ipv4, ipv6, protocol};

/// An IP address as in the frame: words in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// IPv4.
    V4([u16; 2]),
    /// IPv6.
    V6([u16; 8]),
}

impl Address {
    /// Its family.
    #[must_use]
    #[inline(always)]
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }
}

/// The family of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Bytes in an IP header as answers have it: without options or extension headers.
    #[must_use]
    #[inline(always)]
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => ipv4::LEN,
            Self::V6 => ipv6::LEN,
        }
    }
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    #[must_use]
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => protocol::TCP,
            Self::Udp => protocol::UDP,
        }
    }

    /// The protocol with this number, if it is one with ports.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            protocol::TCP => Some(Self::Tcp),
            protocol::UDP => Some(Self::Udp),
            _ => None,
        }
    }
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Neither IPv4 nor IPv6, or too short to say.
    NotIp,
    /// More than [`MAX_TAGS`](super::MAX_TAGS) VLAN tags: nobody looked further.
    TooManyTags,
    /// An IP header, or a VLAN tag, that can't be one.
    Malformed,
    /// An IPv4 or IPv6 packet.
    Ip(Datagram),
}

/// An IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its source address.
    pub source: Address,
    /// Where it goes.
    pub destination: Address,
    /// Where the IP header begins, in bytes from the start of the frame.
    pub network: usize,
    /// What it carries.
    pub content: Content,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// TCP or UDP, with its ports in sight.
    Segment(Segment),
    /// A fragment other than the first: it has no ports.
    LaterFragment,
    /// A protocol without ports, or one not looked into.
    Other,
    /// The transport header was not found: too many extension headers, or not in sight.
    Unresolved,
    /// A TCP or UDP header that is cut off or can't be one.
    Malformed,
}

/// A TCP segment or UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// The source port.
    pub source_port: u16,
    /// Where its header begins, in bytes from the start of the frame.
    pub transport: usize,
    /// Whether it is the first fragment of a packet, which may end before its header does.
    pub fragment: bool,
}

/// What is called with the contents of a frame.
///
/// It is called wherever the parse ends, instead of receiving one returned value, so that the compiler
/// keeps IPv4 and IPv6 apart: neither pays for the other's bytes.
pub trait Judge: Sized {
    /// The answer.
    type Verdict;

    /// Judges one packet.
    fn judge(self, packet: Packet) -> Self::Verdict;
}
