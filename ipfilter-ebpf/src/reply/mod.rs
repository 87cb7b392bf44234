//! Answers to denied packets: what to answer, and the frame that says it.
//!
//! An answer goes back the way its cause came, is never longer than its cause unless the sender has
//! proved that it receives what is sent to it, and answers no answer: [`Parties::read`] finds nobody
//! to answer in a packet that went to, or claims to come from, more than one host.

mod cookie;
mod icmp;
mod tcp;

pub use crate::siphash::Key;
pub use cookie::cookie;
pub use icmp::{prohibited_len, write_prohibited};
pub use tcp::{
    Answer, Data, Header, Responses, Tcp, WINDOW_V4, WINDOW_V6, flags, reset, respond, write_tcp,
};

use crate::wire::{
    Address, Family, Frame, MAX_TAGS,
    field::{ethernet, ipv4, ipv6},
};

/// A frame that can be written to.
pub trait FrameMut: Frame {
    /// Writes `words`, in network byte order, `offset` bytes into the frame; `offset` is even.
    /// Nothing if they don't fit.
    fn write<const N: usize>(&mut self, offset: usize, words: [u16; N]) -> Option<()>;

    /// Writes one byte, `offset` bytes into the frame. Nothing if it does not fit.
    fn write_byte(&mut self, offset: usize, byte: u8) -> Option<()>;
}

impl FrameMut for [u8] {
    fn write<const N: usize>(&mut self, offset: usize, words: [u16; N]) -> Option<()> {
        let (bytes, _) = self.get_mut(offset..)?.as_chunks_mut::<2>();
        for (place, word) in bytes.get_mut(..N)?.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
        Some(())
    }

    fn write_byte(&mut self, offset: usize, byte: u8) -> Option<()> {
        *self.get_mut(offset)? = byte;
        Some(())
    }
}

/// Who is answered: the sender of a packet, from its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The packet's source address.
    pub source: Address,
    /// The packet's destination address.
    pub destination: Address,
    /// Ports in network byte order: the packet's source, then its destination.
    pub ports: [u16; 2],
}

impl Parties {
    /// The parties of the packet whose IP header begins at `network` and whose transport header
    /// begins at `transport`; nothing if it is not from one host to one host.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(
        frame: &F,
        family: Family,
        network: usize,
        transport: usize,
    ) -> Option<Self> {
        let [to, _, _, from, _, _] = frame.read(0)?;
        let [to, _] = to.to_ne_bytes();
        let [from, _] = from.to_ne_bytes();
        if (to | from) & 1 == 1 {
            return None;
        }
        let ports = frame.read(transport)?;
        let (source, destination) = match family {
            Family::V4 => {
                let [s0, s1, d0, d1] = frame.read(network + ipv4::SOURCE)?;
                (Address::V4([s0, s1]), Address::V4([d0, d1]))
            }
            Family::V6 => (
                Address::V6(frame.read(network + ipv6::SOURCE)?),
                Address::V6(frame.read(network + ipv6::DESTINATION)?),
            ),
        };
        (is_host(&source) && is_host(&destination)).then_some(Self {
            source,
            destination,
            ports,
        })
    }
}

/// Whether an address can be one host's, as seen from another. RFC 1122, section 3.2.1.3, and
/// RFC 4291, section 2.4.
#[inline(always)]
fn is_host(address: &Address) -> bool {
    match address {
        Address::V4([first, _]) => !matches!(first.to_ne_bytes(), [0 | 127 | 224..=255, _]),
        Address::V6([first, middle @ .., last]) => {
            let [top, _] = first.to_ne_bytes();
            let upper = middle.iter().fold(*first, |bits, word| bits | word);
            top != 0xff && (upper != 0 || u16::from_be(*last) > 1)
        }
    }
}

/// By how many bytes, at least, the old frame lies behind the new one if it does at all. Then what is
/// written for tags that are not there does not reach the addresses that are read next.
pub const SHIFT_UNIT: usize = 8;

/// Writes an Ethernet header that turns the one at `shift` round; as many bytes as the most tags take
/// are kept behind the addresses.
#[inline(always)]
fn write_ethernet<F: FrameMut + ?Sized>(frame: &mut F, shift: usize) -> Option<()> {
    let [d0, d1, d2, s0, s1, s2] = frame.read(shift)?;
    let rest: [u16; 1 + 2 * MAX_TAGS] = frame.read(shift + ethernet::ETHERTYPE)?;
    frame.write(0, [s0, s1, s2, d0, d1, d2])?;
    frame.write(ethernet::ETHERTYPE, rest)
}

const _: () = {
    let written = ethernet::LEN + ethernet::TAG_LEN * MAX_TAGS;
    let source_v4 = ethernet::LEN + ipv4::SOURCE;
    let source_v6 = ethernet::LEN + ipv6::SOURCE;
    assert!(written <= SHIFT_UNIT + source_v4 && written <= SHIFT_UNIT + source_v6);
};

/// Writes an IP header without options at `network`, over `length` bytes of `protocol`, that turns the
/// one that is `shift` bytes further on round. Returns the sum of its pseudo-header (RFC 9293,
/// section 3.1; RFC 8200, section 8.1).
#[inline(always)]
fn write_ip<F: FrameMut + ?Sized>(
    frame: &mut F,
    shift: usize,
    network: usize,
    family: Family,
    protocol: u8,
    length: u16,
) -> Option<u32> {
    let old = shift + network;
    let pseudo = u32::from(length.to_be()) + u32::from(u16::from(protocol).to_be());
    match family {
        Family::V4 => {
            let [s0, s1, d0, d1] = frame.read(old + ipv4::SOURCE)?;
            #[expect(clippy::cast_possible_truncation, reason = "it is 20")]
            let total = (length + ipv4::LEN as u16).to_be();
            let life = u16::from_ne_bytes([64, protocol]);
            let version = u16::from_ne_bytes([0x45, 0]);
            let dont_fragment = u16::from_ne_bytes([0x40, 0]);
            let addresses = sum(&[s0, s1, d0, d1]);
            let checksum = !fold(addresses + sum(&[version, total, dont_fragment, life]));
            let header = [
                version,
                total,
                0,
                dont_fragment,
                life,
                checksum,
                d0,
                d1,
                s0,
                s1,
            ];
            frame.write(network, header)?;
            Some(pseudo + addresses)
        }
        Family::V6 => {
            let source: [u16; 8] = frame.read(old + ipv6::SOURCE)?;
            let destination: [u16; 8] = frame.read(old + ipv6::DESTINATION)?;
            let version = u16::from_ne_bytes([0x60, 0]);
            let next = u16::from_ne_bytes([protocol, 64]);
            frame.write(network, [version, 0, length.to_be(), next])?;
            frame.write(network + ipv6::SOURCE, destination)?;
            frame.write(network + ipv6::DESTINATION, source)?;
            Some(pseudo + sum(&source) + sum(&destination))
        }
    }
}

/// The sum of words, carries not yet folded in. Byte order does not matter to it (RFC 1071, section
/// 2), as long as it is always the same.
#[inline(always)]
fn sum<const N: usize>(words: &[u16; N]) -> u32 {
    let mut sum = 0;
    for word in words {
        sum += u32::from(*word);
    }
    sum
}

/// Folds the carries of up to 65,536 words into one word.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the carries were folded in"
)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    (sum + (sum >> 16)) as u16
}

/// The folded sum of words in network byte order.
#[must_use]
pub const fn sum_words(words: &[u16]) -> u16 {
    let mut sum = 0;
    let mut rest = words;
    while let [first, others @ ..] = rest {
        sum = fold(sum as u32 + *first as u32);
        rest = others;
    }
    sum
}

/// The folded sum of `bytes`, the last word filled up with a zero, in network byte order.
#[must_use]
pub fn sum_bytes(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map(|byte| u16::from_ne_bytes([*byte, 0]));
    words
        .iter()
        .map(|word| u16::from_ne_bytes(*word))
        .chain(last)
        .fold(0, |sum, word| sum_words(&[sum, word]))
}

#[cfg(test)]
mod tests;
