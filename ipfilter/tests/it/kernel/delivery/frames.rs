//! Packets with right checksums, whatever else is wrong with them.

use crate::frames::{IPV4, IPV6, TCP, UDP};

pub(super) const PORT: u16 = 80;
pub(super) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const TUNNEL_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub(super) const TUNNEL_PORT: u16 = 4789;
pub(super) const TUNNEL_ID: u8 = 7;

/// The first byte of a marker's token.
pub(super) const MARKER: u32 = 0xa5;

pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const NOTHING: u8 = 59;
pub(super) const DESTINATION: u8 = 60;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Allowed,
    Denied,
}

/// The ends of a packet, as bytes of its family.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    pub(super) source: Vec<u8>,
    pub(super) host: Vec<u8>,
}

impl Ends {
    /// Different sequences have different sources, so that fragments of none are put together.
    pub(super) fn new(sender: Sender, v4: bool, token: u32) -> Self {
        let [_, high, _, _] = token.to_be_bytes();
        let last = 1 + high % 200;
        if v4 {
            let net = match sender {
                Sender::Allowed => [198, 51, 100],
                Sender::Denied => [203, 0, 113],
            };
            return Self {
                source: [&net[..], &[last]].concat(),
                host: vec![192, 0, 2, 2],
            };
        }
        let mut source = match sender {
            Sender::Allowed => vec![0x20, 1, 0x0d, 0xb8, 1, 0],
            Sender::Denied => vec![0x2a, 0, 0x11, 0x13, 0x0f, 3],
        };
        source.resize(15, 0);
        source.push(last);
        let mut host = vec![0x20, 1, 0x0d, 0xb8, 0, 2];
        host.resize(15, 0);
        host.push(2);
        Self { source, host }
    }

    pub(super) fn v4(&self) -> bool {
        self.source.len() == 4
    }
}

/// RFC 1071.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("the carries are folded in")
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).expect("it fits")
}

/// Puts the transport checksum at `at`.
fn sign(ends: &Ends, protocol: u8, bytes: &mut [u8], at: usize) {
    let length = length(bytes).to_be_bytes();
    let sum = checksum(&[&ends.source, &ends.host, &[0, protocol], &length, bytes]);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// A SYN with these options (a multiple of four bytes) and this data; the token is its sequence number.
pub(super) fn tcp(ends: &Ends, token: u32, options: &[u8], data: &[u8]) -> (u8, Vec<u8>) {
    let words = u8::try_from(5 + options.len() / 4).expect("at most 15");
    let mut bytes = vec![0x9c, 0x40];
    bytes.extend(PORT.to_be_bytes());
    bytes.extend(token.to_be_bytes());
    bytes.extend([0, 0, 0, 0, words << 4, 2, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(data);
    sign(ends, TCP, &mut bytes, 16);
    (TCP, bytes)
}

/// A datagram; its data begins with the token.
pub(super) fn udp(ends: &Ends, port: u16, data: &[u8]) -> (u8, Vec<u8>) {
    let mut bytes = vec![0x9c, 0x40];
    bytes.extend(port.to_be_bytes());
    bytes.extend((8 + length(data)).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(data);
    sign(ends, UDP, &mut bytes, 6);
    (UDP, bytes)
}

/// An IPv4 packet with this fragment word.
pub(super) fn ipv4(
    ends: &Ends,
    (protocol, id, fragment): (u8, u16, u16),
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("at most 15");
    let mut packet = vec![0x40 | words, 0];
    packet.extend((u16::from(words) * 4 + length(payload)).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(&ends.source);
    packet.extend(&ends.host);
    packet.extend(options);
    packet.extend(payload);
    sign_ipv4(&mut packet);
    packet
}

/// Puts an IPv4 header's checksum right, if it is one.
pub(super) fn sign_ipv4(packet: &mut [u8]) {
    let Some(first) = packet.first() else { return };
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 || header > packet.len() {
        return;
    }
    packet[10..12].fill(0);
    let sum = checksum(&[&packet[..header]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

pub(super) fn ipv6(ends: &Ends, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length(payload).to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(&ends.source);
    packet.extend(&ends.host);
    packet.extend(payload);
    packet
}

/// A whole packet of either family.
pub(super) fn packet(ends: &Ends, id: u16, (protocol, payload): &(u8, Vec<u8>)) -> Vec<u8> {
    if ends.v4() {
        ipv4(ends, (*protocol, id, 0), &[], payload)
    } else {
        ipv6(ends, *protocol, payload)
    }
}

/// A fragment header and what follows it.
pub(super) fn fragment(next: u8, place: u16, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend(place.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A frame to `mac`, its tags before its type.
pub(super) fn ethernet(mac: [u8; 6], tags: &[[u8; 4]], packet: &[u8], padding: &[u8]) -> Vec<u8> {
    let kind = if packet.first().is_some_and(|first| first >> 4 == 6) {
        IPV6
    } else {
        IPV4
    };
    let kind = kind.to_be_bytes();
    [
        &mac,
        &SENDER_MAC,
        tags.as_flattened(),
        &kind,
        packet,
        padding,
    ]
    .concat()
}

/// A token's marker: from an allowed source, so that it arrives at both hosts.
pub(super) fn marker(number: u32) -> (u32, Vec<u8>) {
    let token = MARKER << 24 | number & 0x00ff_ffff;
    let ends = Ends::new(Sender::Allowed, true, token);
    let datagram = udp(&ends, PORT, &token.to_be_bytes());
    (
        token,
        ethernet(HOST_MAC, &[], &packet(&ends, 0, &datagram), &[]),
    )
}

/// An extension header of eight bytes, with padding for an option.
pub(super) fn padded_options(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

type Case = (&'static str, Box<dyn Fn(u32) -> Vec<Vec<u8>>>);

/// Sequences that once got through, or nearly.
pub(super) fn named(sender: Sender) -> Vec<Case> {
    let pads = [
        (
            "no next header",
            [padded_options(NOTHING).to_vec(), vec![0; 16]].concat(),
        ),
        (
            "a datagram to another port",
            [
                padded_options(UDP).to_vec(),
                vec![0, 1, 0x27, 0x0e, 0, 8, 0, 0],
            ]
            .concat(),
        ),
        (
            "a segment to another port",
            [
                padded_options(TCP).to_vec(),
                vec![0, 1, 0x27, 0x0e],
                vec![0; 8],
                vec![0x50, 2],
                vec![0; 6],
            ]
            .concat(),
        ),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, pad) in pads {
        for over_tcp in [true, false] {
            let pad = pad.clone();
            cases.push((
                name,
                Box::new(move |token| {
                    let ends = Ends::new(sender, false, token);
                    let (last, payload) = if over_tcp {
                        tcp(&ends, token, &[], &[])
                    } else {
                        udp(&ends, PORT, &token.to_be_bytes())
                    };
                    // The first one ends within the chain; its padding shows another end.
                    let first = fragment(DESTINATION, 1, token, &padded_options(DESTINATION));
                    let rest = [&padded_options(last)[..], &payload].concat();
                    let rest = fragment(DESTINATION, 8, token, &rest);
                    [(first, &pad[..]), (rest, &[])]
                        .map(|(it, pad)| ethernet(HOST_MAC, &[], &ipv6(&ends, FRAGMENT, &it), pad))
                        .to_vec()
                }),
            ));
        }
    }
    cases
}
