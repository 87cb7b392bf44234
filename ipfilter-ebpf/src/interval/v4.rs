//! IPv4: bitmaps, lists, and lists that are split.

use super::{
    BOUNDARIES_PER_WORD, Kind, Layout, RANK_WORDS, Root, Words, forget, high, listed, low, of_pair,
    uniform,
};
use crate::abi::ApiSet;

/// Words of any IPv4 list that are looked at, at most: two, and then one for each halving of 2^14.
const STEPS_V4: u32 = 2 + 14;

/// How many of a split list's boundaries lie in each eighth of its slot: four bits each, the lowest
/// eighth's in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts(pub u32);

impl Counts {
    /// The most that an eighth can have.
    pub const MOST: usize = 15;

    /// The eighth of its slot that an address with these low 16 bits is in.
    #[inline(always)]
    #[must_use]
    pub const fn eighth(at: u32) -> u32 {
        (at >> 13) & 7
    }

    /// How many lie in the first `eighths` eighths; `eighths` is below 8.
    #[inline(always)]
    const fn below(self, eighths: u32) -> u32 {
        Self::sum(self.0 & ((1 << (eighths * 4)) - 1))
    }

    /// How many lie in an eighth.
    #[inline(always)]
    const fn of(self, eighth: u32) -> u32 {
        (self.0 >> (eighth * 4)) & 15
    }

    /// How many there are.
    #[inline(always)]
    const fn all(self) -> u32 {
        Self::sum(self.0)
    }

    /// The sum of eight numbers of four bits: pairs are added, and then a multiplication adds these.
    #[inline(always)]
    const fn sum(counts: u32) -> u32 {
        const LOW: u32 = 0x0f0f_0f0f;
        let pairs = (counts & LOW) + (counts >> 4 & LOW);
        pairs.wrapping_mul(0x0101_0101) >> 24
    }
}

/// Which APIs the IPv4 source `address` (host byte order) may call; nothing if the table is not
/// well formed.
#[inline(always)]
pub fn lookup_v4<W: Words + ?Sized>(words: &W, layout: &Layout, address: u32) -> Option<ApiSet> {
    let root = Root(words.word(address >> 16)?);
    let at = address & 0xffff;
    if root.kind() == Kind::Split as u32 {
        return split(words, layout, root, at);
    }
    if root.kind() == Kind::Uniform as u32 {
        return uniform(words, layout, root);
    }
    if root.kind() == Kind::List as u32 {
        let rank = rank_v4(words, root, at)?;
        return listed(words, layout, root, root.length(), rank);
    }
    if layout.lanes == 0 {
        let bits = root.read(words, at >> 6)?;
        return Some(of_pair(layout, low(bits >> (at & 63))));
    }
    let group = root.read(words, at >> 5)?;
    let up_to = low(group) & (u32::MAX >> (31 - (at & 31)));
    let rank = high(group).wrapping_add(up_to.count_ones());
    listed(words, layout, root, RANK_WORDS, rank)
}

/// The answer of a split list.
#[inline(always)]
fn split<W: Words + ?Sized>(words: &W, layout: &Layout, root: Root, at: u32) -> Option<ApiSet> {
    let counts = Counts(root.place());
    let list = Root::new(Kind::List, root.first() == 1, 0, root.length());
    let eighth = Counts::eighth(at);
    let below = counts.below(eighth);
    let from = below >> 2;
    // Those of the first word that are below the eighth, and all of the eighth.
    let wanted = (below & 3) + counts.of(eighth);
    let mut found = at_most(list.read(words, from)?, at, keep(words, wanted, 0))
        + at_most(list.read(words, from + 1)?, at, keep(words, wanted, 1))
        + at_most(list.read(words, from + 2)?, at, keep(words, wanted, 2));
    if wanted > 3 * BOUNDARIES_PER_WORD {
        found += at_most(list.read(words, from + 3)?, at, LANES)
            + at_most(list.read(words, from + 4)?, at, keep(words, wanted, 4));
    }
    let rank = from * BOUNDARIES_PER_WORD + sum_lanes(found);
    listed(words, layout, list, counts.all() >> 2, rank)
}

/// All lanes of word number `word` if any of `wanted` boundaries is in it, else none: what stands there
/// is another node's.
#[inline(always)]
fn keep<W: Words + ?Sized>(words: &W, wanted: u32, word: u32) -> u64 {
    let left = i64::from(wanted) - i64::from(word * BOUNDARIES_PER_WORD + 1);
    // All ones if there is none: the sign.
    let none = words.forget((left >> 63).cast_unsigned());
    LANES & !none
}

/// How many of an IPv4 list's boundaries are at or below `at`, the zeros in front included.
///
/// Looks first where `at` would be if the boundaries lay evenly, then at the neighbour, and only then
/// halves what is left. In a large table a list is two cache lines or more, neither of them in a near
/// cache: of most lists this reads one.
#[inline(always)]
fn rank_v4<W: Words + ?Sized>(words: &W, root: Root, at: u32) -> Option<u32> {
    let (mut from, mut to) = (0, root.length());
    let mut middle = at.wrapping_mul(to) >> 16;
    for step in 0..STEPS_V4 {
        let is_left = low(root.read(words, middle)?) & 0xffff <= at;
        if is_left {
            from = middle;
        } else {
            to = middle;
        }
        (from, to) = (forget(words, from), forget(words, to));
        if to.wrapping_sub(from) <= 1 {
            break;
        }
        middle = if step > 0 {
            (from + to) >> 1
        } else if is_left {
            from + 1
        } else {
            to - 1
        };
    }
    let word = root.read(words, from)?;
    Some(
        from.wrapping_mul(BOUNDARIES_PER_WORD)
            .wrapping_add(sum_lanes(at_most(word, at, LANES))),
    )
}

/// A one in each of a word's four lanes of 16 bits.
const LANES: u64 = 0x0001_0001_0001_0001;

/// A one in each of `lanes` in which `word` is at most `at`: a comparison lane by lane without a branch.
#[inline(always)]
const fn at_most(word: u64, at: u32, lanes: u64) -> u64 {
    const TOPS: u64 = LANES << 15;
    let at = at as u64 * LANES;
    // The top bit of each lane: no borrow out of the low 15 bits.
    let low_bits = (at | TOPS) - (word & !TOPS);
    let at_least = (at & !word) | (!(at ^ word) & low_bits);
    at_least >> 15 & lanes
}

/// The sum of four lanes.
#[inline(always)]
const fn sum_lanes(lanes: u64) -> u32 {
    high(lanes.wrapping_mul(LANES)) >> 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lanes_are_counted_as_one_by_one(lanes in any::<[u16; 4]>(), at in any::<u16>()) {
            let word = (0..).zip(lanes).fold(0, |word, (i, lane)| word | u64::from(lane) << (16 * i));
            for at in lanes.into_iter().chain([at, 0, 0x7fff, 0x8000, u16::MAX]) {
                let want = lanes.iter().filter(|lane| **lane <= at).count();
                prop_assert_eq!(sum_lanes(at_most(word, at.into(), LANES)) as usize, want);
            }
        }
    }
}
