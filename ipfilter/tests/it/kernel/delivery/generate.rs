//! Sequences of frames that a host may or may not take: valid ones, of every structure that the parser
//! looks into, and then one thing changed in some of them.

use super::frames::{
    DESTINATION, Ends, FRAGMENT, HOP_BY_HOP, HOST_MAC, NOTHING, PORT, ROUTING, Sender, TUNNEL_ID,
    TUNNEL_MAC, TUNNEL_PORT, ethernet, fragment, ipv4, ipv6, packet, padded_options, sign_ipv4,
    tcp, udp,
};
use crate::frames::{AD, Q, TCP, UDP};

/// What a sequence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// IPv4 options.
    Options,
    /// IPv4 fragments, in any order, with overlaps.
    Fragments,
    /// IPv6 extension headers.
    Chain,
    /// Fragments of those.
    ChainFragments,
    /// Length fields that lie.
    Lengths,
    /// VLAN tags in front of the others.
    Tags,
    /// The others in a tunnel.
    Tunnel,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::Options,
        Self::Fragments,
        Self::Chain,
        Self::ChainFragments,
        Self::Lengths,
        Self::Tags,
        Self::Tunnel,
    ];
}

/// Xorshift (Marsaglia, "Xorshift RNGs", 2003): the same sequence for the same seed and token.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, token: u32) -> Self {
        let mut dice =
            Self((seed << 32 | u64::from(token)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        dice.next();
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from((self.next() >> 33) % end as u64).expect("it is smaller")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.below(end + 1));
        }
    }
}

/// The frames of a sequence.
pub(super) fn sequence(seed: u64, kind: Kind, sender: Sender, token: u32) -> Vec<Vec<u8>> {
    let dice = &mut Dice::new(seed, token);
    let inner = match kind {
        Kind::Tags | Kind::Tunnel => dice.pick(&[
            Kind::Options,
            Kind::Fragments,
            Kind::Chain,
            Kind::ChainFragments,
            Kind::Lengths,
        ]),
        kind => kind,
    };
    let v4 = match inner {
        Kind::Options | Kind::Fragments => true,
        Kind::Chain | Kind::ChainFragments => false,
        _ => dice.percent(50),
    };
    let ends = Ends::new(sender, v4, token);
    let packets = match inner {
        Kind::Options => options(dice, &ends, token),
        Kind::Fragments => fragments(dice, &ends, token),
        Kind::Chain => chain_of_one(dice, &ends, token),
        Kind::ChainFragments => chain_fragments(dice, &ends, token),
        _ => lengths(dice, &ends, token),
    };
    let mac = if kind == Kind::Tunnel {
        TUNNEL_MAC
    } else {
        HOST_MAC
    };
    let tags = if kind == Kind::Tags {
        1 + dice.below(4)
    } else {
        0
    };
    // Tags without a VLAN's number: for the host itself.
    let tags = vec![dice.pick(&[[0x81, 0, 0, 0], [0x88, 0xa8, 0, 0]]); tags];
    const { assert!(Q == 0x8100 && AD == 0x88a8) };
    let mut frames: Vec<_> = packets
        .iter()
        .map(|packet| ethernet(mac, &tags, packet, &padding(dice)))
        .collect();
    if dice.percent(25) {
        change(dice, &mut frames, ETHERNET + tags.len() * 4);
    }
    if kind == Kind::Tunnel {
        let outer = Ends::new(sender, true, token);
        frames = frames
            .iter()
            .map(|frame| wrap(&outer, token, frame))
            .collect();
    }
    frames
}

const ETHERNET: usize = 14;

/// RFC 7348, section 5.
fn wrap(ends: &Ends, token: u32, frame: &[u8]) -> Vec<u8> {
    let data = [&[8, 0, 0, 0, 0, 0, TUNNEL_ID, 0], frame].concat();
    let datagram = udp(ends, TUNNEL_PORT, &data);
    ethernet(HOST_MAC, &[], &packet(ends, id(token), &datagram), &[])
}

fn id(token: u32) -> u16 {
    let [_, _, high, low] = token.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// A SYN or a datagram to the protected port.
fn transport(dice: &mut Dice, ends: &Ends, token: u32) -> (u8, Vec<u8>) {
    let data = vec![b'd'; dice.below(60)];
    if dice.percent(50) {
        let options = dice.pick(&[&[][..], &[2, 4, 5, 0xb4], &[1, 1, 1, 1, 2, 4, 5, 0xb4]]);
        tcp(ends, token, options, &data)
    } else {
        udp(ends, PORT, &[&token.to_be_bytes()[..], &data].concat())
    }
}

/// What lies behind a packet: nothing, zeros, or headers that say something else.
fn padding(dice: &mut Dice) -> Vec<u8> {
    let port = [0x9c, 0x40, 0x27, 0x0e];
    match dice.below(8) {
        0 => vec![0; 46],
        1 => [&padded_options(NOTHING)[..], &[0; 16]].concat(),
        2 => [&padded_options(UDP)[..], &port, &[0, 8, 0, 0]].concat(),
        3 => [
            &padded_options(TCP)[..],
            &port,
            &[0; 8],
            &[0x50, 2],
            &[0; 6],
        ]
        .concat(),
        4 => [&port[..], &[0; 8], &[0x50, 2], &[0; 6]].concat(),
        5 => (0..dice.below(40)).map(|_| dice.byte()).collect(),
        _ => Vec::new(),
    }
}

/// Options that a host takes: none, no operation, router alert, a route to be recorded.
fn ipv4_options(dice: &mut Dice) -> Vec<u8> {
    match dice.below(5) {
        0 => vec![1; 4 * (1 + dice.below(10))],
        1 => vec![0x94, 4, 0, 0],
        2 => [&[7, 11, 4][..], &[0; 9]].concat(),
        3 => vec![0; 4],
        _ => Vec::new(),
    }
}

fn options(dice: &mut Dice, ends: &Ends, token: u32) -> Vec<Vec<u8>> {
    let (protocol, payload) = transport(dice, ends, token);
    let fragment = dice.pick(&[0, 0x4000]);
    vec![ipv4(
        ends,
        (protocol, id(token), fragment),
        &ipv4_options(dice),
        &payload,
    )]
}

/// Pieces of `payload`: where each begins, its bytes, and whether more follow. Sometimes they overlap,
/// come twice or in another order.
fn pieces(dice: &mut Dice, payload: &[u8]) -> Vec<(u16, Vec<u8>, bool)> {
    let mut cuts = vec![0];
    while let Some(last) = cuts
        .last()
        .filter(|last| **last + 8 < payload.len())
        .copied()
    {
        let cut = last + 8 * (1 + dice.below(3));
        if cut >= payload.len() || cuts.len() > 5 {
            break;
        }
        cuts.push(cut);
    }
    let mut pieces = Vec::new();
    for (place, start) in cuts.iter().enumerate() {
        let end = cuts.get(place + 1).copied().unwrap_or(payload.len());
        let overlap = dice.percent(6);
        let start = if overlap {
            start.saturating_sub(8)
        } else {
            *start
        };
        let at = u16::try_from(start).expect("a few");
        pieces.push((at, payload[start..end].to_vec(), end < payload.len()));
        if dice.percent(8) {
            pieces.extend(pieces.last().cloned());
        }
    }
    if dice.percent(50) {
        dice.shuffle(&mut pieces);
    }
    pieces
}

fn fragments(dice: &mut Dice, ends: &Ends, token: u32) -> Vec<Vec<u8>> {
    let (protocol, payload) = transport(dice, ends, token);
    let pieces = pieces(dice, &payload);
    let one = |(at, bytes, more): &(u16, Vec<u8>, bool)| {
        let word = (at / 8) | if *more { 0x2000 } else { 0 };
        ipv4(
            ends,
            (protocol, id(token), word),
            &ipv4_options(dice),
            bytes,
        )
    };
    pieces.iter().map(one).collect()
}

/// Up to eight extension headers, then a SYN or a datagram.
fn chain(dice: &mut Dice, ends: &Ends, token: u32, first: bool) -> (u8, Vec<u8>) {
    let (last, payload) = transport(dice, ends, token);
    let count = dice.below(9);
    let mut kinds: Vec<u8> = (0..count)
        .map(|place| match dice.below(6) {
            0 if place == 0 && first => HOP_BY_HOP,
            1 | 2 => ROUTING,
            _ => DESTINATION,
        })
        .collect();
    if first && count > 0 && dice.percent(15) {
        kinds[count - 1] = FRAGMENT;
    }
    kinds.push(last);
    let mut bytes = Vec::new();
    for pair in kinds.windows(2) {
        let [kind, next] = *pair else { continue };
        match kind {
            FRAGMENT => bytes.extend(fragment(next, 0, token, &[])),
            ROUTING => bytes.extend([next, 0, 0, 0, 0, 0, 0, 0]),
            // Options that are to be skipped by who does not know them.
            _ if dice.percent(20) => {
                bytes.extend([next, 1, 0x1e, 4, 0, 0, 0, 0, 0x1e, 4, 0, 0, 0, 0, 1, 0]);
            }
            _ => bytes.extend(padded_options(next)),
        }
    }
    bytes.extend(payload);
    (kinds[0], bytes)
}

fn chain_of_one(dice: &mut Dice, ends: &Ends, token: u32) -> Vec<Vec<u8>> {
    let (next, payload) = chain(dice, ends, token, true);
    vec![ipv6(ends, next, &payload)]
}

fn chain_fragments(dice: &mut Dice, ends: &Ends, token: u32) -> Vec<Vec<u8>> {
    let (next, payload) = chain(dice, ends, token, false);
    let before = dice.pick(&[None, None, Some(HOP_BY_HOP), Some(DESTINATION)]);
    let pieces = pieces(dice, &payload);
    let one = |(at, bytes, more): &(u16, Vec<u8>, bool)| {
        let fragment = fragment(next, at | u16::from(*more), token, bytes);
        match before {
            None => ipv6(ends, FRAGMENT, &fragment),
            Some(kind) => ipv6(
                ends,
                kind,
                &[&padded_options(FRAGMENT)[..], &fragment].concat(),
            ),
        }
    };
    pieces.iter().map(one).collect()
}

/// A packet whose length field is a little or very wrong, or none.
fn lengths(dice: &mut Dice, ends: &Ends, token: u32) -> Vec<Vec<u8>> {
    let mut packet = if ends.v4() {
        let (protocol, payload) = transport(dice, ends, token);
        ipv4(
            ends,
            (protocol, id(token), 0),
            &ipv4_options(dice),
            &payload,
        )
    } else {
        let (next, payload) = chain(dice, ends, token, true);
        ipv6(ends, next, &payload)
    };
    let at = if ends.v4() { 2 } else { 4 };
    let right = u16::from_be_bytes([packet[at], packet[at + 1]]);
    let off = u16::try_from(dice.below(40)).expect("it is less");
    let wrong = match dice.below(6) {
        0 => right.saturating_sub(off),
        1 => right + off,
        2 => 0,
        3 => 0xffff,
        _ => right,
    };
    packet[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
    sign_ipv4(&mut packet);
    vec![packet]
}

/// Changes one thing. The addresses stay, so that a source stays denied.
fn change(dice: &mut Dice, frames: &mut Vec<Vec<u8>>, network: usize) {
    let place = dice.below(frames.len());
    let frame = &mut frames[place];
    match dice.below(6) {
        0 | 1 => {
            let v4 = frame[network] >> 4 == 4;
            let addresses = if v4 { 12..20 } else { 8..40 };
            let at = dice.below((frame.len() - network).min(90));
            if !addresses.contains(&at) {
                frame[network + at] = dice.byte();
                if v4 && frame[network] >> 4 == 4 {
                    sign_ipv4(&mut frame[network..]);
                }
            }
        }
        2 => frame.truncate(frame.len() - dice.below(frame.len() - network)),
        3 => frame.extend(padding(dice)),
        4 => {
            let twice = frame.clone();
            frames.push(twice);
        }
        _ => {
            let (from, to) = (place, dice.below(frames.len()));
            frames.swap(from, to);
        }
    }
}
