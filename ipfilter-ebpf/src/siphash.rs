//! SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), which is made for short inputs
//! under a key.

/// A secret key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Its first 8 bytes, in host byte order.
    pub first: u64,
    /// Its last 8 bytes, in host byte order.
    pub last: u64,
}

/// Four words as one, the first lowest.
#[must_use]
#[inline(always)]
pub const fn pack([a, b, c, d]: [u16; 4]) -> u64 {
    a as u64 | (b as u64) << 16 | (c as u64) << 32 | (d as u64) << 48
}

/// SipHash-2-4 over whole words.
pub struct SipHash {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl SipHash {
    /// Begins under a key.
    #[must_use]
    #[inline(always)]
    pub fn new(key: &Key) -> Self {
        Self {
            v0: key.first ^ 0x736f_6d65_7073_6575,
            v1: key.last ^ 0x646f_7261_6e64_6f6d,
            v2: key.first ^ 0x6c79_6765_6e65_7261,
            v3: key.last ^ 0x7465_6462_7974_6573,
        }
    }

    /// Takes in eight bytes.
    #[inline(always)]
    pub fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    /// The hash of what was put in, which were `length` bytes.
    #[must_use]
    #[inline(always)]
    pub fn finish(mut self, length: u64) -> u64 {
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
