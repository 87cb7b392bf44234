//! Frames by hand, one oddity each; and whole families of frames against another dissector.

extern crate std;

use std::{vec, vec::Vec};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;

/// Hands back what the parser found.
struct Seen;

impl Judge for Seen {
    type Verdict = Packet;

    fn judge(self, packet: Packet) -> Packet {
        packet
    }
}

fn seen(frame: &[u8]) -> Packet {
    parse(frame, Seen)
}

fn content(frame: &[u8]) -> Content {
    match seen(frame) {
        Packet::Ip(datagram) => datagram.content,
        other => panic!("no IP packet: {other:?}"),
    }
}

/// An Ethernet header with tags of these types, then `ethertype`, then `rest`.
fn ethernet(tags: &[u16], ethertype: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(rest);
    frame
}

/// An IPv4 packet with `options` (a multiple of four bytes) and this fragment word.
fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let ihl = 5 + u8::try_from(options.len() / 4).unwrap();
    let total = u16::try_from(usize::from(ihl) * 4 + payload.len()).unwrap();
    let mut packet = vec![0x40 | ihl, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 198, 51, 100, 10, 192, 0, 2, 2]);
    packet.extend(options);
    packet.extend(payload);
    ethernet(&[], ethertype::IPV4, &packet)
}

/// An IPv6 packet.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([0x11; 16]);
    packet.extend([0x22; 16]);
    packet.extend(payload);
    ethernet(&[], ethertype::IPV6, &packet)
}

fn tcp(port: u16) -> Vec<u8> {
    let mut header = vec![0x30, 0x39];
    header.extend(port.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    header
}

fn segment(content: Content) -> Segment {
    match content {
        Content::Segment(segment) => segment,
        other => panic!("no segment: {other:?}"),
    }
}

const EXTENSIONS: [u8; 8] = [
    protocol::HOP_BY_HOP,
    protocol::ROUTING,
    protocol::DESTINATION_OPTIONS,
    protocol::MOBILITY,
    protocol::HOST_IDENTITY,
    protocol::SHIM6,
    protocol::FRAGMENT,
    protocol::AUTHENTICATION,
];

#[test]
fn a_plain_segment_is_read() {
    let frame = ipv4(protocol::TCP, 0x4000, &[], &tcp(443));
    let Packet::Ip(datagram) = seen(&frame) else {
        panic!("no IP packet")
    };
    let word = |a, b| u16::from_ne_bytes([a, b]);
    assert_eq!(datagram.source, Address::V4([word(198, 51), word(100, 10)]));
    assert_eq!(
        datagram.destination,
        Address::V4([word(192, 0), word(2, 2)])
    );
    let segment = segment(datagram.content);
    assert_eq!((segment.port, segment.source_port), (443, 12345));
    assert_eq!((datagram.network, segment.transport), (14, 34));
    assert!(!segment.fragment);
}

#[test]
fn four_tags_are_looked_through_and_no_more() {
    for tags in 0..=4 {
        let tags = vec![ethertype::SERVICE_VLAN; tags];
        let frame = ethernet(&tags, ethertype::IPV6, &ipv6(protocol::TCP, &tcp(80))[14..]);
        assert_eq!(segment(content(&frame)).port, 80, "{tags:?}");
    }
    let frame = ethernet(&[ethertype::VLAN; 5], ethertype::IPV4, &[0; 64]);
    assert_eq!(seen(&frame), Packet::TooManyTags);
    assert_eq!(
        seen(&ethernet(&[], ethertype::VLAN, &[0, 1])),
        Packet::Malformed
    );
}

#[test]
fn what_is_not_ip_is_not_looked_into() {
    assert_eq!(seen(&ethernet(&[], 0x0806, &[0; 46])), Packet::NotIp);
    assert_eq!(
        seen(&ethernet(&[ethertype::VLAN], 0x88cc, &[])),
        Packet::NotIp
    );
    assert_eq!(seen(&ethernet(&[], 0x0026, &[0xaa; 38])), Packet::NotIp);
    assert_eq!(seen(&[0; 13]), Packet::NotIp);
}

#[test]
fn impossible_ip_headers_are_malformed() {
    let good = ipv4(protocol::TCP, 0, &[], &tcp(80));
    for first in [0x65, 0x44, 0x40, 0x05, 0x4f] {
        let mut bad = good.clone();
        bad[14] = first;
        assert_eq!(seen(&bad), Packet::Malformed, "{first:#x}");
    }
    assert_eq!(seen(&good[..33]), Packet::Malformed);
    let mut bad = ipv6(protocol::TCP, &tcp(80));
    assert_eq!(seen(&bad[..53]), Packet::Malformed);
    bad[14] = 0x40;
    assert_eq!(seen(&bad), Packet::Malformed);
}

#[test]
fn options_move_the_ports() {
    let frame = ipv4(protocol::TCP, 0, &[1; 40], &tcp(8080));
    assert_eq!(segment(content(&frame)).port, 8080);
}

#[test]
fn fragments_have_ports_only_at_their_beginning() {
    let first = segment(content(&ipv4(protocol::TCP, 0x2000, &[], &tcp(80)[..8])));
    assert!(first.fragment && first.port == 80);
    let tiny = content(&ipv4(protocol::TCP, 0x2000, &[], &tcp(80)[..3]));
    assert_eq!(tiny, Content::Unresolved);
    let later = content(&ipv4(protocol::TCP, 0x2001, &[], &tcp(80)));
    assert_eq!(later, Content::LaterFragment);
    let later = content(&ipv6(
        protocol::FRAGMENT,
        &[protocol::TCP, 0, 0, 8, 0, 0, 0, 1, 0, 0],
    ));
    assert_eq!(later, Content::LaterFragment);
    let mut first = vec![protocol::TCP, 0, 0, 1, 0, 0, 0, 1];
    first.extend(&tcp(80)[..4]);
    assert!(segment(content(&ipv6(protocol::FRAGMENT, &first))).fragment);
}

/// `count` extension headers of eight bytes each, all of type `kind`, then TCP.
fn chain(kind: u8, count: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    for left in (0..count).rev() {
        payload.extend([
            if left == 0 { protocol::TCP } else { kind },
            0,
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
    }
    payload.extend(tcp(443));
    ipv6(kind, &payload)
}

#[test]
fn extension_headers_are_walked_to_the_bound() {
    for kind in EXTENSIONS {
        assert_eq!(segment(content(&chain(kind, 8))).port, 443, "{kind}");
        assert_eq!(content(&chain(kind, 9)), Content::Unresolved, "{kind}");
    }
}

#[test]
fn an_extension_header_that_goes_past_the_frame_is_unresolved() {
    assert_eq!(
        content(&ipv6(protocol::ROUTING, &[protocol::TCP, 200, 0, 0])),
        Content::Unresolved
    );
    assert_eq!(
        content(&ipv6(protocol::ROUTING, &[protocol::TCP, 0])),
        Content::Unresolved
    );
}

#[test]
fn transport_headers_that_are_cut_off_are_malformed() {
    let mut header = tcp(80);
    assert_eq!(
        content(&ipv4(protocol::TCP, 0, &[], &header[..19])),
        Content::Malformed
    );
    assert_eq!(
        content(&ipv6(protocol::UDP, &header[..7])),
        Content::Malformed
    );
    header[12] = 0x40;
    assert_eq!(
        content(&ipv4(protocol::TCP, 0, &[], &header)),
        Content::Malformed
    );
    header[12] = 0x60;
    assert_eq!(
        content(&ipv4(protocol::TCP, 0, &[], &header)),
        Content::Malformed
    );
}

/// `frame`, which has no tags, once its IP header says that the packet ends `end` bytes into the frame.
fn ending_at(frame: &[u8], end: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (at, length) = if frame[12] == 0x08 {
        (16, end - ethernet::LEN)
    } else {
        (18, end - ethernet::LEN - ipv6::LEN)
    };
    frame[at..at + 2].copy_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    frame
}

/// Each header that a packet may have, with whatever follows it there.
fn every_header() -> Vec<Vec<u8>> {
    let mut long = tcp(80);
    long[12] = 0xf0;
    long.extend([1; 40]);
    let udp = &[0x30, 0x39, 0, 80, 0, 8, 0, 0];
    let mut frames = vec![
        ipv4(protocol::TCP, 0, &[], &long),
        ipv4(protocol::TCP, 0, &[1; 40], &tcp(80)),
        ipv4(protocol::UDP, 0, &[], udp),
        ipv4(protocol::TCP, 0x2000, &[1; 8], &tcp(80)),
        ipv4(protocol::UDP, 0x2001, &[], udp),
        ipv6(protocol::TCP, &long),
        ipv6(protocol::UDP, udp),
    ];
    frames.extend(EXTENSIONS.map(|kind| chain(kind, 3)));
    frames
}

#[test]
fn padding_is_never_read() {
    for frame in every_header() {
        let shortest = if frame[12] == 0x08 { 18 } else { 55 };
        for end in shortest..=frame.len() {
            let padded = ending_at(&frame, end);
            let cut = seen(&frame[..end]);
            assert_eq!(seen(&padded), cut, "{end} of {frame:x?}");
            let more = [&ending_at(&frame[..end], end)[..], &[0x06; 60]].concat();
            assert_eq!(seen(&more), cut, "{end} of {frame:x?}");
        }
    }
}

/// The header that the padding shows is not there; that of the later fragment is.
#[test]
fn a_chain_does_not_go_on_in_the_padding() {
    for kind in EXTENSIONS {
        let first = [kind, 0, 0, 1, 0, 0, 0, 7];
        let option = [kind, 0, 0, 0, 0, 0, 0, 0];
        let packet = ipv6(protocol::FRAGMENT, &[first, option].concat());
        let tcp_there = [protocol::TCP, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        for padding in [[59, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], tcp_there] {
            let frame = [&packet[..], &padding].concat();
            assert_eq!(content(&frame), Content::Unresolved, "{kind}: {padding:?}");
        }
        let last = [protocol::TCP, 0, 0, 0, 0, 0, 0, 0];
        let packet = ipv6(protocol::FRAGMENT, &[first, last].concat());
        let frame = [&packet[..], &tcp(443)].concat();
        assert_eq!(content(&frame), Content::Unresolved, "{kind}");
    }
}

#[test]
fn packets_without_a_length_end_with_the_frame() {
    let without = |mut frame: Vec<u8>| {
        let at = if frame[12] == 0x08 { 16 } else { 18 };
        frame[at..at + 2].fill(0);
        content(&frame)
    };
    let frames = [
        ipv4(protocol::TCP, 0, &[], &tcp(443)),
        ipv6(protocol::TCP, &tcp(443)),
        ipv6(protocol::UDP, &tcp(443)),
    ];
    let chains = EXTENSIONS.map(|kind| chain(kind, 2));
    for frame in frames.into_iter().chain(chains) {
        if frame[12] == 0x86 && frame[20] == protocol::FRAGMENT {
            assert_eq!(without(frame), Content::Unresolved);
        } else {
            assert_eq!(segment(without(frame)).port, 443);
        }
    }
}

#[test]
fn other_protocols_have_no_ports() {
    for protocol in [1, 47, 50, 132, protocol::AUTHENTICATION] {
        assert_eq!(content(&ipv4(protocol, 0, &[], &[0; 8])), Content::Other);
    }
    for next in [58, 59, 50, 4] {
        assert_eq!(content(&ipv6(next, &[])), Content::Other);
    }
}

/// Frames that another library has built: addresses, ports, tags, protocol.
fn built() -> impl Strategy<Value = Vec<u8>> {
    let addresses = (any::<bool>(), any::<[u8; 16]>(), any::<[u8; 16]>());
    let transport = (
        any::<bool>(),
        any::<u16>(),
        any::<u16>(),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    (addresses, transport, 0..3_u16).prop_map(
        |((v4, source, destination), (udp, from, to, payload), tags)| {
            let ethernet = PacketBuilder::ethernet2([1; 6], [2; 6]);
            let four = |a: [u8; 16]| *a.first_chunk::<4>().unwrap();
            let vlan = |id| etherparse::VlanId::try_new(id).unwrap();
            let ip = match (tags, v4) {
                (0, true) => ethernet.ipv4(four(source), four(destination), 64),
                (0, false) => ethernet.ipv6(source, destination, 64),
                (1, true) => {
                    ethernet
                        .single_vlan(vlan(9))
                        .ipv4(four(source), four(destination), 64)
                }
                (1, false) => ethernet.single_vlan(vlan(9)).ipv6(source, destination, 64),
                (_, true) => {
                    ethernet
                        .double_vlan(vlan(1), vlan(2))
                        .ipv4(four(source), four(destination), 64)
                }
                (_, false) => ethernet
                    .double_vlan(vlan(1), vlan(2))
                    .ipv6(source, destination, 64),
            };
            let mut frame = Vec::new();
            if udp {
                ip.udp(from, to).write(&mut frame, &payload).unwrap();
            } else {
                ip.tcp(from, to, 7, 4096)
                    .write(&mut frame, &payload)
                    .unwrap();
            }
            frame
        },
    )
}

/// What the other library reads: source address and ports.
fn dissect(frame: &[u8]) -> Option<(Vec<u8>, u16, u16)> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let source = match sliced.net? {
        NetSlice::Ipv4(ip) => ip.header().source().to_vec(),
        NetSlice::Ipv6(ip) => ip.header().source().to_vec(),
        NetSlice::Arp(_) => return None,
    };
    match sliced.transport? {
        TransportSlice::Tcp(tcp) => Some((source, tcp.source_port(), tcp.destination_port())),
        TransportSlice::Udp(udp) => Some((source, udp.source_port(), udp.destination_port())),
        _ => None,
    }
}

fn bytes(address: Address) -> Vec<u8> {
    match address {
        Address::V4(words) => words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        Address::V6(words) => words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
    }
}

/// What we read of it, in the same shape.
fn read(frame: &[u8]) -> Option<(Vec<u8>, u16, u16)> {
    match seen(frame) {
        Packet::Ip(Datagram {
            source,
            content: Content::Segment(segment),
            ..
        }) => Some((bytes(source), segment.source_port, segment.port)),
        _ => None,
    }
}

proptest! {
    #[test]
    fn both_dissectors_read_the_same(frame in built()) {
        let ours = read(&frame);
        prop_assert!(ours.is_some());
        prop_assert_eq!(ours, dissect(&frame));
    }

    /// A damaged frame may be refused where the other library is content, as it checks more; what
    /// both can read, they must read alike.
    #[test]
    fn damage_never_makes_them_disagree(frame in built(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        let mut frame = frame;
        let place = at.index(frame.len());
        frame[place] = byte;
        frame.truncate(cut.index(frame.len()) + 1);
        if let (Some(ours), Some(theirs)) = (read(&frame), dissect(&frame)) {
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn no_bytes_upset_the_parser(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        seen(&frame);
    }
}
