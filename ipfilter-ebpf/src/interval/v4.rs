//! IPv4: prefixes in the root, lists, and bitmaps.

use super::{
    BOUNDARIES_PER_WORD, Kind, Layout, Root, Roots, Words, forget, high, listed, low, of_pair,
    uniform,
};
use crate::abi::ApiSet;

/// Words of any IPv4 list that are looked at, at most: two, and then one for each halving of 2^14.
const STEPS_V4: u32 = 2 + 14;

/// Prefixes in a root of one word, or in the first word of a broad one: of 20 bits each, from the low
/// bits up. Above them are the bits that any [`Root`] has there.
pub const HELD_IN_ROOT: u32 = 3;

/// Prefixes in each further word of a broad root, of 16 bits each: slots with such roots have 2^15
/// addresses at most.
pub const HELD_IN_WORD: u32 = 4;

/// A prefix as a root holds it: `first`, its lowest address in the slot, and behind the last bit that
/// its addresses have in common, of which they differ in `host_bits`, a one.
///
/// One number for address and length, of one bit more than the slot's addresses have. What is above the
/// lowest bit that is set is the prefix, so that an address, with a one behind its last bit, is in it
/// if it differs nowhere there. A root that could hold more has some prefix again.
#[must_use]
pub const fn held(first: u32, host_bits: u32) -> u32 {
    first << 1 | 1 << host_bits
}

/// Which APIs the IPv4 source `address` (host byte order) may call; nothing if the table is not
/// well formed.
#[inline(always)]
pub fn lookup_v4<W: Roots + ?Sized>(words: &W, layout: &Layout, address: u32) -> Option<ApiSet> {
    let slot_bits = u32::from(layout.slot_bits);
    let slot = address >> slot_bits;
    let at = address & !(u32::MAX << slot_bits);
    if layout.sieve != 0 {
        let part = address >> u32::from(layout.part_bits);
        if words.word(layout.sieve.wrapping_add(part >> 6))? >> (part & 63) & 1 == 0 {
            return Some(of_pair(layout, layout.usual.into()));
        }
    }
    let broad = match layout.broad {
        0 => None,
        _ => Some(words.root(slot)?),
    };
    let root = Root(match broad {
        Some([first, ..]) => *first,
        None => words.word(slot)?,
    });
    if root.kind() == Kind::Parts as u32 {
        let asked = at << 1 | 1;
        let mut inside = Lanes::THREE.with(root.0, asked);
        if let Some([_, second, third, fourth]) = broad {
            inside |= Lanes::FOUR.with(*second, asked)
                | Lanes::FOUR.with(*third, asked)
                | Lanes::FOUR.with(*fourth, asked);
        }
        return Some(of_pair(layout, root.first() ^ is_some(words, inside)));
    }
    if root.kind() == Kind::Uniform as u32 {
        return uniform(words, layout, root);
    }
    if root.kind() == Kind::List as u32 {
        let rank = rank_v4(words, layout, root, at)?;
        return listed(words, layout, root, root.length(), rank);
    }
    if layout.lanes == 0 {
        let bits = root.read(words, at >> 6)?;
        return Some(of_pair(layout, low(bits >> (at & 63))));
    }
    let group = root.read(words, at >> 5)?;
    let up_to = low(group) & (u32::MAX >> (31 - (at & 31)));
    let rank = high(group).wrapping_add(up_to.count_ones());
    listed(words, layout, root, root.length(), rank)
}

/// 1 if any bit is set, else 0, without a branch.
#[inline(always)]
fn is_some<W: Words + ?Sized>(words: &W, bits: u64) -> u32 {
    high(bits | words.forget(bits.wrapping_neg())) >> 31
}

/// Several [held] prefixes in a word.
struct Lanes {
    /// A one in the lowest bit of each.
    lowest: u64,
    /// A one in a bit of each above those in which prefixes differ, once these are moved down by one.
    above: u64,
}

impl Lanes {
    const THREE: Self = Self {
        lowest: 1 | 1 << 20 | 1 << 40,
        above: 1 << 18 | 1 << 38 | 1 << 58,
    };
    const FOUR: Self = Self {
        lowest: LANES,
        above: LANES << 15,
    };

    /// Not zero if `asked`, an address with a one behind its last bit, is in some prefix of `word`.
    #[inline(always)]
    const fn with(&self, word: u64, asked: u32) -> u64 {
        // In each, the bits above the lowest that is set: no borrow goes from one to the next, as none is 0.
        let common = word ^ (self.lowest - 1).wrapping_sub(word);
        let differing = (word ^ (asked as u64).wrapping_mul(self.lowest)) & common;
        // The lowest bit is never among them: moved down, they leave room for the bit above, which stays as it
        // is only if nothing differs.
        self.above.wrapping_sub(differing >> 1) & self.above
    }
}

/// How many of an IPv4 list's boundaries are at or below `at`, the zeros in front included.
///
/// Looks first where `at` would be if the boundaries lay evenly, then at the neighbour, and only then
/// halves what is left. In a large table a list is two cache lines or more, neither of them in a near
/// cache: of most lists this reads one.
#[inline(always)]
fn rank_v4<W: Words + ?Sized>(words: &W, layout: &Layout, root: Root, at: u32) -> Option<u32> {
    let (mut from, mut to) = (0, root.length());
    let mut middle = at.wrapping_mul(to) >> u32::from(layout.slot_bits);
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
            .wrapping_add(sum_lanes(at_most(word, at))),
    )
}

/// A one in each of a word's four lanes of 16 bits.
const LANES: u64 = 0x0001_0001_0001_0001;

/// A one in each lane in which `word` is at most `at`: a comparison lane by lane without a branch.
#[inline(always)]
const fn at_most(word: u64, at: u32) -> u64 {
    const TOPS: u64 = LANES << 15;
    let at = at as u64 * LANES;
    // The top bit of each lane: no borrow out of the low 15 bits.
    let low_bits = (at | TOPS) - (word & !TOPS);
    let at_least = (at & !word) | (!(at ^ word) & low_bits);
    at_least >> 15 & LANES
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
                prop_assert_eq!(sum_lanes(at_most(word, at.into())) as usize, want);
            }
        }

        #[test]
        fn prefixes_are_compared_as_one_by_one(
            prefixes in any::<[(u16, u8); HELD_IN_WORD as usize]>(),
            three in any::<bool>(),
            top in 0..16u64,
            at in any::<u16>(),
        ) {
            let (lanes, count, bits, top) = if three {
                (Lanes::THREE, HELD_IN_ROOT as usize, 16, top << 60)
            } else {
                (Lanes::FOUR, HELD_IN_WORD as usize, 15, 0)
            };
            let lane = if three { 20 } else { 16 };
            let prefixes = prefixes.map(|(first, host_bits)| {
                let host_bits = u32::from(host_bits) % (bits + 1);
                let first = u32::from(first) & ((1 << bits) - 1);
                (first >> host_bits << host_bits, host_bits)
            });
            let there = &prefixes[..count];
            let numbers = (0..).zip(there).map(|(place, (first, bits))| u64::from(held(*first, *bits)) << (place * lane));
            let word = numbers.fold(top, |word, number| word | number);
            let edges = there.iter().flat_map(|(first, bits)| {
                let last = first + (1 << bits) - 1;
                [first.wrapping_sub(1), *first, last, last + 1]
            });
            for at in edges.chain([at.into()]).filter(|at| *at < 1 << bits) {
                let want = there.iter().any(|(first, bits)| first >> bits == at >> bits);
                prop_assert_eq!(lanes.with(word, at << 1 | 1) != 0, want, "{:x} {:?}", at, there);
            }
        }
    }
}
