//! The cookie that a SYN-ACK carries as its sequence number, so that nothing need be remembered.
//!
//! It is what RFC 4987, section 3.6, calls a SYN cookie, without the options: a keyed hash of the
//! connection and the time slot. Whoever sends it back has received our SYN-ACK, and so did not lie
//! about its address. The hash is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input
//! PRF", 2012), which is made for short inputs under a secret key.

use super::Parties;
use crate::wire::Address;

/// A secret key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Its first 8 bytes, in host byte order.
    pub first: u64,
    /// Its last 8 bytes, in host byte order.
    pub last: u64,
}

/// The cookie of a connection in a time slot.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a sequence number is half the hash"
)]
pub fn cookie(key: &Key, parties: &Parties, slot: u32) -> u32 {
    let [from, to] = parties.ports;
    let ends = u64::from(from) << 48 | u64::from(to) << 32 | u64::from(slot);
    let mut state = SipHash::new(key);
    match (parties.source, parties.destination) {
        (Address::V4([s0, s1]), Address::V4([d0, d1])) => {
            state.word(pack([s0, s1, d0, d1]));
            state.word(ends);
            state.finish(16) as u32
        }
        (Address::V6(source), Address::V6(destination)) => {
            let [[a, b], [c, d]] = [halves(source), halves(destination)];
            state.word(a);
            state.word(b);
            state.word(c);
            state.word(d);
            state.word(ends);
            state.finish(40) as u32
        }
        _ => 0,
    }
}

#[inline(always)]
fn halves([a, b, c, d, e, f, g, h]: [u16; 8]) -> [u64; 2] {
    [pack([a, b, c, d]), pack([e, f, g, h])]
}

#[inline(always)]
fn pack([a, b, c, d]: [u16; 4]) -> u64 {
    u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48
}

/// SipHash-2-4 over whole words.
struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash {
    #[inline(always)]
    fn new(key: &Key) -> Self {
        Self {
            v0: key.first ^ 0x736f_6d65_7073_6575,
            v1: key.last ^ 0x646f_7261_6e64_6f6d,
            v2: key.first ^ 0x6c79_6765_6e65_7261,
            v3: key.last ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    /// The hash of what was put in, which were `length` bytes.
    #[inline(always)]
    fn finish(mut self, length: u64) -> u64 {
        self.word(length << 56);
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::*;

    proptest! {
        #[test]
        fn the_hash_is_siphash(first: u64, last: u64, words in prop::collection::vec(any::<u64>(), 0..6)) {
            let mut ours = SipHash::new(&Key { first, last });
            let mut theirs = SipHasher24::new_with_keys(first, last);
            for word in &words {
                ours.word(*word);
                theirs.write(&word.to_le_bytes());
            }
            prop_assert_eq!(ours.finish(8 * words.len() as u64), theirs.finish());
        }
    }
}
