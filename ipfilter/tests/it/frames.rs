//! Frames by hand: every field is what a test says it is, lies included.

use std::net::IpAddr;

pub(crate) use ipfilter_ebpf::{
    reply::flags as flag,
    wire::field::{
        ethertype::{IPV4, IPV6, SERVICE_VLAN as AD, VLAN as Q},
        protocol::{TCP, UDP},
    },
};

/// The host's Ethernet address, then the client's.
pub(crate) const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
/// The client's port.
pub(crate) const CLIENT_PORT: u16 = 40000;

/// The host's address of the family of `source`.
pub(crate) fn host(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => IpAddr::from([192, 0, 2, 2]),
        IpAddr::V6(_) => "2001:db8:2::2".parse().expect("an address"),
    }
}

/// An Ethernet frame: tags of these types, then `ethertype`, then `rest`.
pub(crate) fn ethernet(tags: &[u16], ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = MACS.to_vec();
    for (tag, id) in tags.iter().zip(7_u16..) {
        frame.extend(tag.to_be_bytes());
        frame.extend(id.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

/// An IP packet of the family of `source`, to the host.
pub(crate) fn packet(source: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match source {
        IpAddr::V4(_) => ipv4(source, (protocol, 0x4000), &[], payload),
        IpAddr::V6(_) => ipv6(source, protocol, payload),
    }
}

/// An IPv4 packet with `options`, a multiple of four bytes, and this fragment word.
pub(crate) fn ipv4(
    source: IpAddr,
    (protocol, fragment): (u8, u16),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let words = 5 + options.len() / 4;
    let length = words * 4 + payload.len();
    let mut packet = vec![0x40 | u8::try_from(words).expect("at most 15"), 0];
    packet.extend(u16::try_from(length).expect("it fits").to_be_bytes());
    packet.extend([0, 9]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(bytes(source));
    packet.extend(bytes(host(source)));
    packet.extend(options);
    packet.extend(payload);
    packet
}

/// An IPv6 packet.
pub(crate) fn ipv6(source: IpAddr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).expect("it fits").to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(bytes(source));
    packet.extend(bytes(host(source)));
    packet.extend(payload);
    packet
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What counts of a TCP segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment<'a> {
    pub(crate) port: u16,
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) data: &'a [u8],
}

/// A TCP segment from the client.
pub(crate) fn segment(segment: &Segment<'_>) -> Vec<u8> {
    let mut bytes = CLIENT_PORT.to_be_bytes().to_vec();
    bytes.extend(segment.port.to_be_bytes());
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledgement.to_be_bytes());
    bytes.extend([0x50, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(segment.data);
    bytes
}

/// The first segment of a connection.
pub(crate) fn syn(port: u16) -> Vec<u8> {
    segment(&Segment {
        port,
        flags: flag::SYN,
        sequence: 100,
        ..Segment::default()
    })
}

/// A UDP datagram from the client with `length` bytes of data.
pub(crate) fn udp(port: u16, length: u16) -> Vec<u8> {
    let mut bytes = CLIENT_PORT.to_be_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend((8 + length).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.resize(8 + usize::from(length), b'u');
    bytes
}

/// An untagged frame with an IP packet.
pub(crate) fn frame(source: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    tagged(&[], source, protocol, payload)
}

/// A frame with tags of these types and an IP packet.
pub(crate) fn tagged(tags: &[u16], source: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let ethertype = match source {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    ethernet(tags, ethertype, &packet(source, protocol, payload))
}

/// A frame with a SYN.
pub(crate) fn syn_frame(source: IpAddr, port: u16) -> Vec<u8> {
    frame(source, TCP, &syn(port))
}

/// `count` extension headers of eight bytes each, all of type `kind`, then `last`.
pub(crate) fn chain(kind: u8, count: usize, (last, payload): (u8, &[u8])) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for left in (0..count).rev() {
        bytes.extend([if left == 0 { last } else { kind }, 0, 0, 0, 0, 0, 0, 0]);
    }
    bytes.extend(payload);
    (if count == 0 { last } else { kind }, bytes)
}
