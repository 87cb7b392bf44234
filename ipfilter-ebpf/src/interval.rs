//! The interval table: which APIs a source may call, by its place among sorted boundaries.
//!
//! One table per family, an array of 64-bit words in host byte order that userspace fills through
//! a memory map. It holds a total function that changes at the *boundaries*; the number of
//! boundaries at or below an address, its *rank*, numbers the answer. Array elements of a BPF map
//! take 8 bytes at least, so words of that size waste none, and one read of a word serves four
//! IPv4 boundaries. Most of a lookup's cost is cache and TLB misses: what is read together lies
//! together, and everything is as small as it can be.
//!
//! - The table begins with its *roots*, one per slot of the address space. IPv4: one per /16, or per
//!   smaller prefix in a large table ([`Layout::slot_bits`]), of which each is a word or four
//!   ([`Broad`]). IPv6: a word per /19 of 2000::/3 where addresses are dense, and one each for what lies
//!   below and above ([`ROOTS_V6`]). A [`Root`] holds its slot's one answer, or points to its node.
//! - An IPv4 root may *hold* its slot's few prefixes itself ([`held`]), if there are no more than two
//!   answers. The lookup then reads no more than the root: one cache miss, in a table of any size. All are
//!   compared at once, and no branch depends on what was read: one that can't be predicted costs as much
//!   as a miss, and has the processor wait for the misses instead of going on with the next packet.
//! - A *sieve* is in large IPv4 tables: a bit for each small part of a slot, which says whether any address
//!   there has another answer than the usual one. It is an eighth as large as the rest or less, thus more
//!   likely in a near cache, and says enough of most addresses that a flood may come from.
//! - A *list* node is its boundaries in ascending order. IPv4: the low 16 bits, four a word, lowest
//!   in the low bits, the first word filled up with zeros in front, which are below every address.
//!   IPv6: the high 64 bits; if a boundary is not on a /64, the low 64 bits of all follow after
//!   the high ones, apart from them because they are hardly ever read.
//! - A *bitmap* node serves an IPv4 slot with too many boundaries for a quick search.
//! - A *fan* node does so in IPv6, where addresses cluster: it has roots of its own for equal parts
//!   of the smallest prefix around its boundaries, and for what lies below and above that. The
//!   prefix is one of the high 64 bits, or of the low ones of a single /64, in which lists then hold
//!   low halves. Up to [`FAN_DEPTH`] fans follow each other.
//! - The *palette* lists the distinct answers, as the bits of an [`ApiSet`].
//!
//! With two answers or fewer ([`Layout::lanes`] 0), as with one API, they alternate along the
//! boundaries, and the rank's lowest bit tells them apart; a bitmap has the answer itself, one bit
//! per address. With more, a node ends in a packed list of palette indices, one per rank; a bitmap
//! then holds, for each 32 addresses, the rank below them and a bit for each boundary.
//!
//! The code runs in the kernel: no loop without a constant bound, no division, no indexing that
//! could panic, and every read may fail, which a well-formed table never makes it do.

mod v4;
mod v6;

pub use v4::{HELD_IN_ROOT, HELD_IN_WORD, held, lookup_v4};
pub use v6::{FAN_DEPTH, FAN_HEADER, Fan, lookup_v6, slot_v6};

use crate::abi::ApiSet;

/// The base-2 logarithm of the addresses in an IPv4 slot, at most.
pub const SLOT_BITS_V4: u8 = 16;

/// A broad root: its first word is a [`Root`]. An element of a map of its own, as looking for an element
/// costs more than reading its words.
pub type Broad = [u64; BROAD_WORDS as usize];

/// Words of a [`Broad`] root: half a cache line.
pub const BROAD_WORDS: u32 = 4;

/// Words of roots at the beginning of an IPv6 table: 2000::/3 by /19, then everything below, then
/// everything above.
pub const ROOTS_V6: u32 = (1 << 16) + 2;

/// The slot of the IPv6 addresses below 2000::/3.
pub const SLOT_BELOW: u32 = 1 << 16;

/// The slot of the IPv6 addresses above 2000::/3.
pub const SLOT_ABOVE: u32 = SLOT_BELOW + 1;

/// IPv4 boundaries in a word.
pub const BOUNDARIES_PER_WORD: u32 = 4;

/// The largest length a [`Root`] can hold.
pub const MAX_LENGTH: u32 = (1 << 29) - 1;

/// What a lookup must know of a table beyond its words; constant for a deployment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The palette's first two answers, for tables with no more than these.
    pub pair: [u64; 2],
    /// The index of the palette's first word.
    pub palette: u32,
    /// IPv4: the index of the sieve's first word, 0 if there is none.
    pub sieve: u32,
    /// 0 if the answers alternate; else the base-2 logarithm of the palette indices in a word:
    /// 3 for 8 bits each, 2 for 16, 1 for 32.
    pub lanes: u8,
    /// IPv4: the base-2 logarithm of the addresses in a slot, at most [`SLOT_BITS_V4`].
    pub slot_bits: u8,
    /// IPv4: 1 if roots are [`Broad`], 0 if they are the table's first words.
    pub broad: u8,
    /// IPv4: the base-2 logarithm of the addresses for which the sieve has a bit.
    pub part_bits: u8,
    /// IPv4: the palette index, 0 or 1, of the answer for which the sieve has no bit.
    pub usual: u8,
    /// Not used; zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Layout>() == 32 && align_of::<Layout>() == 8);

/// How a slot's answer is found. The numbers are those in a [`Root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// One answer, whose palette index is the root's place.
    Uniform = 0,
    /// A list of 16-bit boundaries (IPv4), or of 64-bit ones (IPv6); the length counts words.
    List = 1,
    /// A bitmap (IPv4), or a list of 128-bit boundaries (IPv6); the length counts these.
    Wide = 2,
    /// Prefixes that the root [holds](held) (IPv4), or further roots, whose length is a [`Fan`] (IPv6).
    Parts = 3,
}

/// A slot's root: from the high bits, kind (2), the lowest bit of the answer below the first
/// boundary, or outside the prefixes that it holds (1), length (29), place (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// A root of these parts; a length above [`MAX_LENGTH`] does not fit.
    #[must_use]
    pub const fn new(kind: Kind, first: bool, length: u32, place: u32) -> Self {
        Self((kind as u64) << 62 | (first as u64) << 61 | (length as u64) << 32 | place as u64)
    }

    #[inline(always)]
    const fn kind(self) -> u32 {
        (self.0 >> 62) as u32
    }

    #[inline(always)]
    const fn first(self) -> u32 {
        (self.0 >> 61) as u32 & 1
    }

    #[inline(always)]
    const fn length(self) -> u32 {
        (self.0 >> 32) as u32 & MAX_LENGTH
    }

    /// The index of the node's first word, or of its one answer in the palette.
    #[inline(always)]
    const fn place(self) -> u32 {
        low(self.0)
    }

    /// The node's word number `offset`.
    #[inline(always)]
    fn read<W: Words + ?Sized>(self, words: &W, offset: u32) -> Option<u64> {
        words.word(self.place().wrapping_add(offset))
    }
}

/// A table's words, wherever they are.
pub trait Words {
    /// The word at `index`, or nothing past the end.
    fn word(&self, index: u32) -> Option<u64>;

    /// `value`, of which those who take the code apart are to know nothing: the kernel's verifier, which
    /// would go through a loop again for each range that a number may be in, and the compiler, which
    /// would make branches of what is meant to have none.
    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        value
    }
}

/// A table that may have broad roots.
pub trait Roots: Words {
    /// The broad root of a slot, or nothing past the end.
    fn root(&self, slot: u32) -> Option<&Broad>;
}

impl Words for [u64] {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        self.get(index as usize).copied()
    }
}

/// A table in memory: its words and its broad roots.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Its words.
    pub words: &'a [u64],
    /// Its broad roots, if it has any.
    pub roots: &'a [Broad],
}

impl Words for Image<'_> {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        self.words.word(index)
    }
}

impl Roots for Image<'_> {
    #[inline(always)]
    fn root(&self, slot: u32) -> Option<&Broad> {
        self.roots.get(slot as usize)
    }
}

/// The answer of a slot that has but one.
#[inline(always)]
fn uniform<W: Words + ?Sized>(words: &W, layout: &Layout, root: Root) -> Option<ApiSet> {
    if layout.lanes == 0 {
        return Some(of_pair(layout, root.place()));
    }
    palette(words, layout, root.place())
}

/// The answer with the number `rank` of a node whose search part takes `length` words.
#[inline(always)]
fn listed<W: Words + ?Sized>(
    words: &W,
    layout: &Layout,
    root: Root,
    length: u32,
    rank: u32,
) -> Option<ApiSet> {
    if layout.lanes == 0 {
        return Some(of_pair(layout, root.first() ^ rank));
    }
    let lanes = u32::from(layout.lanes & 3);
    let word = root.read(words, length.wrapping_add(rank >> lanes))?;
    let lane = rank & ((1 << lanes) - 1);
    let bits = 64 >> lanes;
    let index = word >> (lane * bits) & ((1 << bits) - 1);
    palette(words, layout, low(index))
}

#[inline(always)]
fn palette<W: Words + ?Sized>(words: &W, layout: &Layout, index: u32) -> Option<ApiSet> {
    let bits = words.word(layout.palette.wrapping_add(index))?;
    Some(ApiSet::from_bits(bits))
}

/// The answer with the lowest bit of `number`.
#[inline(always)]
const fn of_pair(layout: &Layout, number: u32) -> ApiSet {
    let [even, odd] = layout.pair;
    let bits = if number & 1 == 0 { even } else { odd };
    ApiSet::from_bits(bits)
}

/// As [`Words::forget`].
#[inline(always)]
fn forget<W: Words + ?Sized>(words: &W, value: u32) -> u32 {
    low(words.forget(u64::from(value)))
}

/// The low half of `word`.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
const fn low(word: u64) -> u32 {
    word as u32
}

/// The high half of `word`.
#[inline(always)]
const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_table_makes_a_lookup_panic(
            root in any::<u64>(),
            small in any::<bool>(),
            rest in prop::collection::vec(any::<u64>(), 0..64),
            lanes in 0..4u8,
            slot_bits in 10..=16u8,
            sieve in 0..70u32,
            broad in 0..2u8,
            part_bits in 5..=16u8,
            usual in 0..2u8,
            palette in any::<u32>(),
            low in any::<u64>(),
        ) {
            // Roots that stay inside the table reach the code behind them.
            let root = if small { root & (3 << 62 | 1 << 61 | 31 << 32 | 31) } else { root };
            let words: &[u64] = &[&[root], rest.as_slice()].concat();
            let layout = Layout {
                pair: [0, 1],
                palette,
                sieve,
                lanes,
                slot_bits,
                broad,
                part_bits,
                usual,
                ..Layout::default()
            };
            let image = Image { words, roots: words.as_chunks().0 };
            let _ = lookup_v4(&image, &layout, super::low(low) & 0xffff);
            let _ = lookup_v6(words, &layout, 0x2000 << 48, low);
        }
    }
}
