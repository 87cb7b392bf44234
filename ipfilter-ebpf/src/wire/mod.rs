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
mod frame;
mod packet;
pub mod plain;

pub use frame::Frame;
pub use packet::{Address, Content, Datagram, Family, Judge, Packet, Protocol, Segment};

use field::{ethernet, ethertype, ipv4, ipv6, protocol, tcp};
use frame::Bounded;

/// The most VLAN tags looked through.
pub const MAX_TAGS: usize = 4;
/// The most IPv6 extension headers walked.
pub const MAX_EXTENSIONS: usize = 8;

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
    let network = frame.barrier(network);
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
        offset = packet.barrier(offset);
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
