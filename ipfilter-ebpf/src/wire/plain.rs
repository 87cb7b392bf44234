//! Plain packets, which almost all traffic is made of, read in as few steps as there can be.
//!
//! A plain packet is TCP or UDP in one piece, over IPv4 without options or IPv6 without extension
//! headers, in a frame without VLAN tags or [behind one](behind_tag), and every length in it is one that can be.
//! Everything else is for [`parse`](super::parse), which says the same of a plain packet.

use super::field::{ethernet, ethertype, ipv4, ipv6, protocol, tcp};

/// Bytes of a TCP header over IPv4 and over IPv6, counted from the beginning of the frame.
const TCP_END_V4: usize = ethernet::LEN + ipv4::LEN + tcp::LEN;
const TCP_END_V6: usize = ethernet::LEN + ipv6::LEN + tcp::LEN;
/// Where a plain packet's transport header begins.
const TRANSPORT_V4: usize = ethernet::LEN + ipv4::LEN;
const TRANSPORT_V6: usize = ethernet::LEN + ipv6::LEN;
/// Bytes in a UDP header.
const UDP_LEN: u64 = 8;

/// The beginning of a frame. What is read must have been found to be [there](Self::has); numbers come in
/// the machine's own order, whatever they mean.
pub trait Head: Copy {
    /// Whether the frame has its first `BYTES` bytes in sight.
    fn has<const BYTES: usize>(self) -> bool;
    /// How many bytes are in sight.
    fn size(self) -> u64;
    /// The byte at `AT`.
    fn byte<const AT: usize>(self) -> u64;
    /// Two bytes at `AT`.
    fn half<const AT: usize>(self) -> u64;
    /// Four bytes at `AT`.
    fn word<const AT: usize>(self) -> u64;
    /// Eight bytes at `AT`.
    fn double<const AT: usize>(self) -> u64;
    /// What is behind its first `BYTES` bytes.
    #[must_use]
    fn behind<const BYTES: usize>(self) -> Self;
}

impl Head for &[u8] {
    fn has<const BYTES: usize>(self) -> bool {
        <[u8]>::len(self) >= BYTES
    }

    fn size(self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn byte<const AT: usize>(self) -> u64 {
        bytes::<1, AT>(self).map_or(0, |[byte]| byte.into())
    }

    fn half<const AT: usize>(self) -> u64 {
        bytes::<2, AT>(self).map_or(0, |bytes| u16::from_ne_bytes(bytes).into())
    }

    fn word<const AT: usize>(self) -> u64 {
        bytes::<4, AT>(self).map_or(0, |bytes| u32::from_ne_bytes(bytes).into())
    }

    fn double<const AT: usize>(self) -> u64 {
        bytes::<8, AT>(self).map_or(0, u64::from_ne_bytes)
    }

    fn behind<const BYTES: usize>(self) -> Self {
        self.get(BYTES..).unwrap_or_default()
    }
}

fn bytes<const N: usize, const AT: usize>(frame: &[u8]) -> Option<[u8; N]> {
    frame.get(AT..)?.first_chunk().copied()
}

/// The family of what is in a frame that may be plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Where a [`PortTable`](crate::abi::PortTable) has the entry of a port, which is in network byte order as the
/// machine reads it: the numbers of TCP and UDP differ in the bit that tells the halves of the table apart.
#[must_use]
#[inline(always)]
pub const fn place_of_port(protocol: u64, port: u64) -> u64 {
    (protocol & UDP_BIT) << (16 - UDP_BIT.ilog2()) | port
}

/// Set in the number of UDP, and not in that of TCP.
const UDP_BIT: u64 = 16;

const _: () = assert!(protocol::UDP & 16 != 0 && protocol::TCP & 16 == 0);

/// A frame with a VLAN tag as if it had none, which is all that is not plain about many: everything behind the tag
/// is where it is without one. The addresses before it are not those of the frame.
#[inline(always)]
pub fn behind_tag<H: Head>(head: H) -> Option<H> {
    if !head.has::<{ ethernet::LEN + ethernet::TAG_LEN }>() {
        return None;
    }
    let kind = head.half::<{ ethernet::ETHERTYPE }>();
    let tagged = kind == u64::from(ethertype::VLAN.to_be())
        || kind == u64::from(ethertype::SERVICE_VLAN.to_be());
    tagged.then(|| head.behind::<{ ethernet::TAG_LEN }>())
}

/// Which family's headers to read, if either's.
#[inline(always)]
pub fn kind<H: Head>(head: H) -> Option<Kind> {
    // What is shorter is not plain in either family.
    if !head.has::<TCP_END_V4>() {
        return None;
    }
    let kind = head.half::<{ ethernet::ETHERTYPE }>();
    if kind == u64::from(ethertype::IPV4.to_be()) {
        return Some(Kind::V4);
    }
    (kind == u64::from(ethertype::IPV6.to_be())).then_some(Kind::V6)
}

/// The [place](place_of_port) of a plain IPv4 packet's destination port. The frame is one of this [kind].
#[inline(always)]
pub fn ipv4<H: Head>(head: H) -> Option<u64> {
    const VERSION_IHL: u64 = 0x45;
    // More fragments, and the fragment's place.
    const FRAGMENT: u64 = 0x3fff_u16.to_be() as u64;
    if head.byte::<{ ethernet::LEN }>() != VERSION_IHL
        || head.half::<{ ethernet::LEN + ipv4::FRAGMENT }>() & FRAGMENT != 0
    {
        return None;
    }
    let length = big_endian(head.half::<{ ethernet::LEN + ipv4::TOTAL_LENGTH }>());
    let end = length + ethernet::LEN as u64;
    let number = head.byte::<{ ethernet::LEN + ipv4::PROTOCOL }>();
    port::<H, TRANSPORT_V4, { TRANSPORT_V4 + tcp::OFFSET }, { TRANSPORT_V4 + 2 }>(head, number, end)
}

/// The IPv4 source, in network byte order as the machine reads it.
#[inline(always)]
pub fn source_v4<H: Head>(head: H) -> u64 {
    head.word::<{ ethernet::LEN + ipv4::SOURCE }>()
}

/// The [place](place_of_port) of a plain IPv6 packet's destination port. The frame is one of this [kind].
#[inline(always)]
pub fn ipv6<H: Head>(head: H) -> Option<u64> {
    if !head.has::<TCP_END_V6>() || head.byte::<{ ethernet::LEN }>() >> 4 != 6 {
        return None;
    }
    let length = big_endian(head.half::<{ ethernet::LEN + ipv6::PAYLOAD_LENGTH }>());
    let end = length + TRANSPORT_V6 as u64;
    let number = head.byte::<{ ethernet::LEN + ipv6::NEXT_HEADER }>();
    port::<H, TRANSPORT_V6, { TRANSPORT_V6 + tcp::OFFSET }, { TRANSPORT_V6 + 2 }>(head, number, end)
}

/// The IPv6 source's halves, in network byte order as the machine reads them.
#[inline(always)]
pub fn source_v6<H: Head>(head: H) -> [u64; 2] {
    [
        head.double::<{ ethernet::LEN + ipv6::SOURCE }>(),
        head.double::<{ ethernet::LEN + ipv6::SOURCE + 8 }>(),
    ]
}

/// The place of the port behind an IP header whose packet ends at `end`, if a whole transport header is there.
#[inline(always)]
fn port<H: Head, const TRANSPORT: usize, const OFFSET: usize, const PORT: usize>(
    head: H,
    number: u64,
    end: u64,
) -> Option<u64> {
    if end > head.size() {
        return None;
    }
    let length = if number == u64::from(protocol::TCP) {
        // The high half of a byte counts words of four bytes.
        let length = head.byte::<OFFSET>() >> 2 & 0x3c;
        if length < tcp::LEN as u64 {
            return None;
        }
        length
    } else if number == u64::from(protocol::UDP) {
        UDP_LEN
    } else {
        return None;
    };
    if TRANSPORT as u64 + length > end {
        return None;
    }
    Some(place_of_port(number, head.half::<PORT>()))
}

/// The number that two bytes in network byte order are.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two bytes were read")]
const fn big_endian(half: u64) -> u64 {
    u16::from_be(half as u16) as u64
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Address, Content, Datagram, Judge, Packet, parse};

    struct Whole;

    impl Judge for Whole {
        type Verdict = Packet;

        fn judge(self, packet: Packet) -> Packet {
            packet
        }
    }

    /// That a frame which reads as plain is read so by the parser too; whether it does.
    fn agree(frame: &[u8]) -> bool {
        let (place, source, transport) = match kind(frame) {
            None => return false,
            Some(Kind::V4) => {
                let words = source_v4(frame).to_ne_bytes();
                let [a, b, c, d, ..] = words;
                let words = [[a, b], [c, d]].map(u16::from_ne_bytes);
                (ipv4(frame), Address::V4(words), TRANSPORT_V4)
            }
            Some(Kind::V6) => {
                let bytes = source_v6(frame).map(u64::to_ne_bytes);
                let mut words = [0; 8];
                for (word, bytes) in words.iter_mut().zip(bytes.as_flattened().as_chunks().0) {
                    *word = u16::from_ne_bytes(*bytes);
                }
                (ipv6(frame), Address::V6(words), TRANSPORT_V6)
            }
        };
        let Some(place) = place else {
            return false;
        };
        let Packet::Ip(Datagram {
            source: theirs,
            network,
            content: Content::Segment(segment),
            ..
        }) = parse(frame, Whole)
        else {
            panic!("plain, but not to the parser: {frame:02x?}");
        };
        assert_eq!((theirs, network), (source, ethernet::LEN));
        assert_eq!(segment.transport, transport);
        let number = segment.protocol.number().into();
        assert_eq!(place_of_port(number, segment.port.to_be().into()), place);
        assert!(!segment.fragment);
        true
    }

    fn frame(v6: bool, number: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap();
        let mut frame = [2; 12].to_vec();
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([number, 64]);
            frame.extend([7; 32]);
        } else {
            frame.extend([0x08, 0, 0x45, 0]);
            frame.extend((length + 20).to_be_bytes());
            frame.extend([0, 0, 0x40, 0, 64, number, 0, 0]);
            frame.extend([7; 8]);
        }
        frame.extend(rest);
        frame
    }

    #[test]
    fn plain_packets_are_plain() {
        let mut tcp = [0; 24];
        tcp[3] = 80;
        tcp[12] = 0x50;
        for v6 in [false, true] {
            assert!(agree(&frame(v6, 6, &tcp)));
            assert!(agree(&frame(v6, 17, &tcp)));
            assert!(!agree(&frame(v6, 1, &tcp)));
            let mut longer = tcp;
            longer[12] = 0x70;
            assert!(!agree(&frame(v6, 6, &longer)));
        }
    }

    proptest! {
        #[test]
        fn what_is_plain_is_so_to_the_parser(
            v6: bool,
            number in prop_oneof![Just(6_u8), Just(17), any::<u8>()],
            rest in prop::collection::vec(any::<u8>(), 0..80),
            damage in prop::collection::vec((0..94_usize, any::<u8>()), 0..3),
            cut in 0..20_usize,
        ) {
            let mut frame = frame(v6, number, &rest);
            for (at, byte) in damage {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(frame.len() - cut.min(frame.len()));
            agree(&frame);
        }
    }
}
