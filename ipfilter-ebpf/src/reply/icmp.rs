//! "Administratively prohibited": RFC 1812, section 5.2.7.1 (ICMP type 3, code 13), and RFC 4443,
//! section 3.1 (ICMPv6 type 1, code 1).

use super::{FrameMut, fold, sum, write_ethernet, write_ip};
use crate::wire::{Family, field::protocol};

const ICMP_LEN: usize = 8;

/// The length of the frame that says it, for a packet whose IP header begins at `network`: it
/// quotes the IP header and the eight bytes behind it.
#[inline(always)]
#[must_use]
pub const fn prohibited_len(family: Family, network: usize) -> usize {
    network + 2 * family.header_len() + 2 * ICMP_LEN
}

/// Makes the answer of a frame with a UDP datagram whose IP header has neither options nor
/// extension headers. The frame must have [`prohibited_len`] bytes at least.
#[inline(always)]
pub fn write_prohibited<F: FrameMut + ?Sized>(
    frame: &mut F,
    network: usize,
    family: Family,
) -> Option<()> {
    let (number, kind) = match family {
        Family::V4 => (protocol::ICMP, u16::from_ne_bytes([3, 13])),
        Family::V6 => (protocol::ICMPV6, u16::from_ne_bytes([1, 1])),
    };
    let quoted = family.header_len() + ICMP_LEN;
    let message = network + family.header_len();
    let quote = copy(frame, network, message + ICMP_LEN, quoted)?;
    write_ethernet(frame, 0)?;
    let length = u16::try_from(ICMP_LEN + quoted).ok()?;
    let pseudo = write_ip(frame, 0, network, family, number, length)?;
    let covered = match family {
        Family::V4 => 0,
        Family::V6 => pseudo,
    };
    let checksum = !fold(covered + u32::from(kind) + quote);
    frame.write(message, [kind, checksum, 0, 0])
}

/// Copies `length` bytes, whole pairs of words and few enough not to overlap, and returns their sum.
#[inline(always)]
fn copy<F: FrameMut + ?Sized>(frame: &mut F, from: usize, to: usize, length: usize) -> Option<u32> {
    const PAIR: usize = 4;
    let mut total = 0;
    for index in 0..length / PAIR {
        let pair: [u16; 2] = frame.read(from + index * PAIR)?;
        frame.write(to + index * PAIR, pair)?;
        total += sum(&pair);
    }
    Some(total)
}
