//! Reads a frame far enough to say who sends what to which port.
//!
//! The parser sees bytes only through [`Frame`], which the kernel implements over a packet's
//! pointers and the tests over a slice. Every way a frame can be short, strange or unknown is a
//! named outcome. What becomes of a packet is decided in [`crate::verdict`], not here.
//!
//! A packet ends where its IP header says, or where the frame does if that is earlier. What lies
//! behind (padding to Ethernet's minimum, or whatever a sender put there) is not part of it: the host
//! trims it off before it reads on, so reading it would show another packet than the host gets.
//!
//! Sources: IEEE 802.1Q (tags), RFC 791 (IPv4), RFC 8200 (IPv6 and its extension headers),
//! RFC 4302 (authentication header), RFC 9293 (TCP), RFC 768 (UDP).

pub mod field;
pub mod plain;

use field::{ethernet, ethertype, ipv4, ipv6, protocol, tcp};

/// The most VLAN tags looked through.
pub const MAX_TAGS: usize = 4;
/// The most IPv6 extension headers walked.
pub const MAX_EXTENSIONS: usize = 8;
/// A frame's readable bytes: all of them, or those of the first buffer.
///
/// Headers are read in 16-bit words. All that is looked for stands at an even offset, and a kernel
/// puts a frame at an even address, whereas it promises no more than that.
pub trait Frame {
    /// The number of readable bytes.
    fn len(&self) -> usize;

    /// The `N` words that begin `offset` bytes into the frame, in network byte order, if all of
    /// them are readable. `offset` is even.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]>;

    /// The byte that is `offset` bytes into the frame, if it is readable.
    fn read_byte(&self, offset: usize) -> Option<u8>;

    /// Whether no byte is readable.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let (bytes, _) = self.get(offset..)?.as_chunks::<2>();
        Some(bytes.first_chunk::<N>()?.map(u16::from_ne_bytes))
    }

    fn read_byte(&self, offset: usize) -> Option<u8> {
        self.get(offset).copied()
    }
}

/// A frame's readable bytes up to the end of the IP packet in it. Everything behind an IP header is
/// read through this.
struct Bounded<'a, F: ?Sized> {
    frame: &'a F,
    /// Where the packet ends by its IP header, in bytes from the start of the frame.
    end: usize,
}

/// The end of a packet whose IP header has a length of zero.
const FRAME_END: usize = u32::MAX as usize;

impl<'a, F: Frame + ?Sized> Bounded<'a, F> {
    /// Bounds reads to `length` bytes from `start` on.
    ///
    /// A length of zero is what IPv6 jumbograms have (RFC 2675), and what Linux gives to packets of more
    /// than 65,535 bytes that receive offload has put together (BIG TCP). Both end with the frame. Of
    /// any other packet with that length the host delivers nothing, so where it ends does not matter.
    #[inline(always)]
    const fn new(frame: &'a F, start: usize, length: u16) -> Self {
        let end = if length == 0 {
            FRAME_END
        } else {
            start + length as usize
        };
        Self { frame, end }
    }

    /// Whether the IP header has a length.
    #[inline(always)]
    const fn has_length(&self) -> bool {
        self.end != FRAME_END
    }
}

impl<F: Frame + ?Sized> Frame for Bounded<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        let length = self.frame.len();
        if self.end < length { self.end } else { length }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        if offset + 2 * N > self.end {
            return None;
        }
        self.frame.read(offset)
    }

    #[inline(always)]
    fn read_byte(&self, offset: usize) -> Option<u8> {
        if offset >= self.end {
            return None;
        }
        self.frame.read_byte(offset)
    }
}

/// Where the packet whose IP header begins at `network` ends in a frame of `length` bytes, those out of
/// sight included.
#[inline(always)]
pub fn packet_end<F: Frame + ?Sized>(
    frame: &F,
    family: Family,
    network: usize,
    length: usize,
) -> Option<usize> {
    let (start, place) = match family {
        Family::V4 => (network, network + ipv4::TOTAL_LENGTH),
        Family::V6 => (network + ipv6::LEN, network + ipv6::PAYLOAD_LENGTH),
    };
    let [said] = frame.read(place)?;
    let end = Bounded::new(frame, start, u16::from_be(said)).end;
    Some(if end < length { end } else { length })
}

/// An IP address as it stands in the frame: words in network byte order.
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
    /// More than [`MAX_TAGS`] VLAN tags: nobody looked further.
    TooManyTags,
    /// An IP header, or a VLAN tag, that can't be one.
    Malformed,
    /// An IPv4 or IPv6 packet.
    Ip(Datagram),
}

/// An IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it says it comes from.
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

/// Who is told what a frame holds.
///
/// It is told at each end of the parse, rather than handed one value returned from all of them, so
/// that the compiler keeps IPv4 and IPv6 apart: neither pays for the other's bytes.
pub trait Judge: Sized {
    /// The answer.
    type Verdict;

    /// Judges one packet.
    fn judge(self, packet: Packet) -> Self::Verdict;
}

/// Reads an Ethernet frame and has what it holds judged.
#[inline(always)]
pub fn parse<F: Frame + ?Sized, J: Judge>(frame: &F, judge: J) -> J::Verdict {
    let Some([kind]) = frame.read(ethernet::ETHERTYPE) else {
        return judge.judge(Packet::NotIp);
    };
    let mut kind = u16::from_be(kind);
    let mut network = ethernet::LEN;
    for _ in 0..MAX_TAGS {
        if !is_tag(kind) {
            break;
        }
        let Some([next]) = frame.read(network + 2) else {
            return judge.judge(Packet::Malformed);
        };
        kind = u16::from_be(next);
        network += ethernet::TAG_LEN;
    }
    match kind {
        ethertype::IPV4 => parse_ipv4(frame, network, judge),
        ethertype::IPV6 => parse_ipv6(frame, network, judge),
        tag if is_tag(tag) => judge.judge(Packet::TooManyTags),
        _ => judge.judge(Packet::NotIp),
    }
}

#[inline(always)]
fn is_tag(kind: u16) -> bool {
    kind == ethertype::VLAN || kind == ethertype::SERVICE_VLAN
}

/// RFC 791, section 3.1.
#[inline(always)]
fn parse_ipv4<F: Frame + ?Sized, J: Judge>(frame: &F, network: usize, judge: J) -> J::Verdict {
    let Some([first, total, _, fragment, ttl_protocol, _, s0, s1, d0, d1]) = frame.read(network)
    else {
        return judge.judge(Packet::Malformed);
    };
    let [version_ihl, _] = first.to_ne_bytes();
    let header = usize::from(version_ihl & 0x0f) * 4;
    let packet = Bounded::new(frame, network, u16::from_be(total));
    if version_ihl >> 4 != 4 || header < ipv4::LEN || network + header > packet.len() {
        return judge.judge(Packet::Malformed);
    }
    let fragment = u16::from_be(fragment);
    let [_, protocol] = ttl_protocol.to_ne_bytes();
    let content = if fragment & 0x1fff == 0 {
        parse_transport(&packet, protocol, network + header, fragment & 0x2000 != 0)
    } else {
        Content::LaterFragment
    };
    judge.judge(Packet::Ip(Datagram {
        source: Address::V4([s0, s1]),
        destination: Address::V4([d0, d1]),
        network,
        content,
    }))
}

/// RFC 8200, section 3.
#[inline(always)]
fn parse_ipv6<F: Frame + ?Sized, J: Judge>(frame: &F, network: usize, judge: J) -> J::Verdict {
    let Some(
        [
            first,
            _,
            payload,
            next_hops,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            d0,
            d1,
            d2,
            d3,
            d4,
            d5,
            d6,
            d7,
        ],
    ) = frame.read(network)
    else {
        return judge.judge(Packet::Malformed);
    };
    let ([version, _], [next, _]) = (first.to_ne_bytes(), next_hops.to_ne_bytes());
    if version >> 4 != 6 {
        return judge.judge(Packet::Malformed);
    }
    let packet = Bounded::new(frame, network + ipv6::LEN, u16::from_be(payload));
    let content = match next {
        protocol::TCP | protocol::UDP => parse_transport(&packet, next, network + ipv6::LEN, false),
        _ => walk_extensions(&packet, next, network + ipv6::LEN),
    };
    judge.judge(Packet::Ip(Datagram {
        source: Address::V6([s0, s1, s2, s3, s4, s5, s6, s7]),
        destination: Address::V6([d0, d1, d2, d3, d4, d5, d6, d7]),
        network,
        content,
    }))
}

/// RFC 8200, section 4: from one extension header to the next, until something else comes.
#[inline(always)]
fn walk_extensions<F: Frame + ?Sized>(
    packet: &Bounded<'_, F>,
    mut next: u8,
    mut offset: usize,
) -> Content {
    let mut fragment = false;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(next) {
            break;
        }
        let Some([next_length, place]) = packet.read(offset) else {
            return Content::Unresolved;
        };
        let [following, length] = next_length.to_ne_bytes();
        offset += match next {
            protocol::FRAGMENT => {
                if u16::from_be(place) & 0xfff8 != 0 {
                    return Content::LaterFragment;
                }
                // What ends with the frame is no fragment (RFC 2675, section 3).
                if !packet.has_length() {
                    return Content::Unresolved;
                }
                fragment = true;
                8
            }
            protocol::AUTHENTICATION => (usize::from(length) + 2) * 4,
            _ => (usize::from(length) + 1) * 8,
        };
        if offset > packet.len() {
            return Content::Unresolved;
        }
        next = following;
    }
    if is_extension(next) {
        return Content::Unresolved;
    }
    parse_transport(packet, next, offset, fragment)
}

#[inline(always)]
fn is_extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | protocol::MOBILITY
            | protocol::HOST_IDENTITY
            | protocol::SHIM6
    )
}

/// RFC 9293, section 3.1, and RFC 768. Of a first fragment only the ports must be there.
#[inline(always)]
fn parse_transport<F: Frame>(packet: &F, number: u8, transport: usize, fragment: bool) -> Content {
    let protocol = match number {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return Content::Other,
    };
    if !fragment && !has_header(packet, protocol, transport) {
        return Content::Malformed;
    }
    let Some([source_port, port]) = packet.read(transport) else {
        return Content::Unresolved;
    };
    Content::Segment(Segment {
        protocol,
        port: u16::from_be(port),
        source_port: u16::from_be(source_port),
        transport,
        fragment,
    })
}

/// Whether a whole transport header, a TCP header's options included, begins at `transport`.
#[inline(always)]
fn has_header<F: Frame>(packet: &F, protocol: Protocol, transport: usize) -> bool {
    match protocol {
        Protocol::Udp => packet.read::<4>(transport).is_some(),
        Protocol::Tcp => match packet.read(transport) {
            Some([_, _, _, _, _, _, offset, _, _, _]) => {
                let [offset, _] = offset.to_ne_bytes();
                let length = usize::from(offset >> 4) * 4;
                length >= tcp::LEN && transport + length <= packet.len()
            }
            None => false,
        },
    }
}

#[cfg(test)]
mod tests;
