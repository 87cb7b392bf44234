//! "Administratively prohibited": RFC 1812, section 5.2.7.1 (ICMP type 3, code 13), and RFC 4443,
//! section 3.1 (ICMPv6 type 1, code 1).

use super::{FrameMut, Parties, fold, sum, write_ethernet, write_ip};
use crate::wire::Family;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
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
    parties: &Parties,
    family: Family,
) -> Option<()> {
    match family {
        Family::V4 => write::<14, F>(frame, network, parties, family, ICMP, [3, 13]),
        Family::V6 => write::<24, F>(frame, network, parties, family, ICMPV6, [1, 1]),
    }
}

/// `QUOTED` is the number of words in the IP header and the eight bytes behind it.
#[inline(always)]
fn write<const QUOTED: usize, F: FrameMut + ?Sized>(
    frame: &mut F,
    network: usize,
    parties: &Parties,
    family: Family,
    protocol: u8,
    kind: [u8; 2],
) -> Option<()> {
    let quoted: [u16; QUOTED] = frame.read(network)?;
    let message = network + family.header_len();
    let kind = u16::from_ne_bytes(kind);
    let length = u16::try_from(ICMP_LEN + 2 * QUOTED).ok()?;
    write_ethernet(frame)?;
    let pseudo = write_ip(frame, network, parties, protocol, length)?;
    let covered = match family {
        Family::V4 => 0,
        Family::V6 => pseudo,
    };
    let checksum = fold(covered + u32::from(kind) + sum(&quoted));
    frame.write(message, [kind, !checksum, 0, 0])?;
    frame.write(message + ICMP_LEN, quoted)
}
