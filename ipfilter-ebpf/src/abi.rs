//! The binary interface between the BPF programs and userspace.
//!
//! Every type here is `repr(C)`, without padding bytes and made of integers only, so that any bytes
//! the other side wrote are a valid value. Integers are in host byte order unless a field says
//! otherwise. [`VERSION`] is stored with each deployment and checked before anything pinned is
//! adopted; change it whenever a layout, a map's shape or a counter's index changes.

/// Version of everything in this module.
pub const VERSION: u32 = 1;

/// The most APIs one deployment protects: a source's answer is one bit per API.
pub const MAX_APIS: usize = 64;

/// Which APIs a source may call: bit `i` stands for the API with index `i`.
///
/// Two words, low first, because a trie's value must not need more alignment than its key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiSet {
    /// APIs 0 to 31.
    pub low: u32,
    /// APIs 32 to 63.
    pub high: u32,
}

impl ApiSet {
    /// No API.
    pub const NONE: Self = Self { low: 0, high: 0 };

    /// The set with bit `i` of `bits` for API `i`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            low: bits as u32,
            high: (bits >> 32) as u32,
        }
    }

    /// Bit `i` for API `i`.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.low as u64 | (self.high as u64) << 32
    }

    /// Whether API `index` (below [`MAX_APIS`]) is in the set.
    #[must_use]
    pub const fn has(self, index: u32) -> bool {
        self.bits() >> (index & 63) & 1 == 1
    }
}
