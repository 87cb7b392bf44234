//! IPv4: prefixes in the root, lists, and bitmaps.

use super::{
    Answers, Root, WideRoot, Words, barrier, first_word, high, listed, low, of_pair, uniform,
};

/// Words of any IPv4 list that are looked at, at most: two, and then one for each halving of 2^27.
const STEPS_V4: u32 = 2 + 27;

/// The base-2 logarithm of the addresses in a small slot, at most. Boundaries in it take 16 bits.
pub const SMALL_SLOT_MOST: u8 = 16;

/// The base-2 logarithm of the addresses in any slot, at most. Boundaries in one that is not small take 32
/// bits.
pub const LARGE_SLOT_MOST: u8 = 28;

/// Prefixes in a small slot's root of one word, or in the first word of a wide one: of 20 bits each, from the
/// low bits up. Above them are the bits that any [`Root`] has there.
pub const INLINE_IN_ROOT: u32 = 3;

/// Prefixes in a large slot's root: of 30 bits each.
pub const INLINE_IN_LARGE_SLOT: u32 = 2;

/// Prefixes in each further word of a wide root, of 16 bits each: slots with such roots have 2^15
/// addresses at most.
pub const INLINE_IN_WORD: u32 = 4;

/// A prefix as a root holds it: `first`, its lowest address in the slot, and behind the last bit that
/// its addresses have in common, of which they differ in `host_bits`, a one.
///
/// One number for address and length, of one bit more than the slot's addresses have. What is above the
/// lowest bit that is set is the prefix, so that an address, with a one behind its last bit, is in it
/// if it differs nowhere there. A root that could hold more has some prefix again.
#[must_use]
pub const fn inline_prefix(first: u32, host_bits: u32) -> u32 {
    first << 1 | 1 << host_bits
}

/// How a slot's answer is found. The numbers are those in a [`Root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KindV4 {
    /// One answer.
    Uniform = 0,
    /// A list of boundaries; the length counts words.
    List = 1,
    /// A bitmap; the length counts the words before its answers, if it has any.
    Bitmap = 2,
    /// Prefixes that the root [holds](inline_prefix).
    Inline = 3,
}

/// What a lookup must know of an IPv4 table beyond its words; constant for a deployment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutV4 {
    /// How answers are found.
    pub answers: Answers,
    /// How roots hold prefixes: a one in the lowest bit of each.
    pub lowest: u64,
    /// A one in a bit of each above those in which prefixes differ, once these are moved down by one.
    pub above: u64,
    /// The index of the summary bitmap's first word, unless it is near.
    pub summary: u32,
    /// Which bits of an address that is moved up by one bit are its place in the slot.
    pub mask: u32,
    /// By how many bits 64 are more than those of a slot's number.
    pub slot_shift: u8,
    /// By how many bits 64 are more than those of the number of a part that the summary bitmap has a bit for.
    pub part_shift: u8,
    /// 1 if roots are [`WideRoot`]s, 0 if they are words.
    pub wide: u8,
    /// 1 if what is read first, the summary bitmap or else the roots, is [near](Words::near), 0 if it is
    /// among the words.
    pub near: u8,
    /// 1 if there is a summary bitmap.
    pub summarized: u8,
    /// The number, 0 or 1, of the answer for which the summary bitmap has no bit.
    pub default_answer: u8,
    /// Words of a list that are looked at, at most.
    pub steps: u8,
    /// The base-2 logarithm of the addresses in a slot, at most [`LARGE_SLOT_MOST`].
    pub slot_bits: u8,
}

impl LayoutV4 {
    /// How slots of 2^`slot_bits` addresses are found, and how their roots hold prefixes.
    #[must_use]
    pub const fn of_slots(slot_bits: u8, wide: bool) -> Self {
        let Lanes { lowest, above } = if slot_bits > SMALL_SLOT_MOST {
            Lanes::TWO
        } else {
            Lanes::THREE
        };
        Self {
            answers: Answers {
                pair: [0; 2],
                palette: 0,
                lanes: 0,
                direct: 0,
                reserved: [0; 2],
            },
            lowest,
            above,
            summary: 0,
            mask: ((1 << slot_bits) - 1) << 1,
            slot_shift: 32 + slot_bits,
            part_shift: 0,
            wide: wide as u8,
            near: 0,
            summarized: 0,
            default_answer: 0,
            steps: 0,
            slot_bits,
        }
    }
}

const _: () = assert!(size_of::<LayoutV4>() == 56 && align_of::<LayoutV4>() == 8);

/// An IPv4 table.
pub trait TableV4: Words {
    /// The wide root of a slot, or nothing past the end.
    fn root(&self, slot: u32) -> Option<&WideRoot>;

    /// A node's answer. Implementations may keep it out of line, apart from the per-packet path.
    #[inline(always)]
    fn search(&self, layout: &LayoutV4, root: Root, at: u32) -> Option<u64> {
        search_v4(self, layout, root, at)
    }
}

/// Which APIs the IPv4 source in the high half of `address` (host byte order) may call; nothing if the
/// table is not well formed.
///
/// The low half is zeros: what is moved down from the high half has no more bits than the kernel's verifier
/// takes it to have.
#[inline(always)]
pub fn lookup_v4<T: TableV4 + ?Sized>(table: &T, layout: &LayoutV4, address: u64) -> Option<u64> {
    let summarized = layout.summarized == 1;
    if summarized {
        let part = address >> (layout.part_shift & 63);
        let word = first_word(table, layout.near, layout.summary, part >> 6)?;
        if word >> (part & 63) & 1 == 0 {
            return Some(of_pair(
                table,
                &layout.answers,
                layout.default_answer.into(),
            ));
        }
    }
    let slot = address >> (layout.slot_shift & 63);
    if layout.wide == 1 {
        return in_wide_root(table, layout, table.root(low(slot))?, address);
    }
    let root = Root(match layout.near {
        1 if !summarized => table.near(slot)?,
        _ => table.word(low(slot))?,
    });
    if root.kind() == KindV4::Uniform as u64 {
        return uniform(table, &layout.answers, root);
    }
    let place = address >> 31 & u64::from(layout.mask);
    if root.kind() != KindV4::Inline as u64 {
        return table.search(layout, root, low(place >> 1));
    }
    let lanes = Lanes {
        lowest: layout.lowest,
        above: layout.above,
    };
    inline(table, layout, root, lanes.with(root.0, place | 1))
}

/// The same where the root is wide.
#[inline(always)]
fn in_wide_root<T: TableV4 + ?Sized>(
    table: &T,
    layout: &LayoutV4,
    root: &WideRoot,
    address: u64,
) -> Option<u64> {
    let [first, second, third, fourth] = root;
    let root = Root(*first);
    if root.kind() == KindV4::Uniform as u64 {
        return uniform(table, &layout.answers, root);
    }
    let place = address >> 31 & u64::from(layout.mask);
    if root.kind() != KindV4::Inline as u64 {
        return table.search(layout, root, low(place >> 1));
    }
    let asked = place | 1;
    let inside = Lanes::THREE.with(root.0, asked)
        | Lanes::FOUR.with(*second, asked)
        | Lanes::FOUR.with(*third, asked)
        | Lanes::FOUR.with(*fourth, asked);
    inline(table, layout, root, inside)
}

/// The answer of a root that holds prefixes; `inside` is not zero if the address is in one of these.
#[inline(always)]
fn inline<W: Words + ?Sized>(words: &W, layout: &LayoutV4, root: Root, inside: u64) -> Option<u64> {
    Some(of_pair(
        words,
        &layout.answers,
        root.first() ^ is_some(words, inside),
    ))
}

/// What a node answers of the address at the place `at` in its slot.
#[inline(always)]
pub fn search_v4<W: Words + ?Sized>(
    words: &W,
    layout: &LayoutV4,
    root: Root,
    at: u32,
) -> Option<u64> {
    let answers = &layout.answers;
    if root.kind() == KindV4::List as u64 {
        let rank = rank_v4(words, layout, root, at)?;
        return listed(words, answers, root, root.length(), rank);
    }
    if answers.lanes == 0 {
        let bits = root.read(words, at >> 6)?;
        return Some(of_pair(words, answers, low(bits >> (at & 63))));
    }
    let group = root.read(words, at >> 5)?;
    let up_to = low(group) & (u32::MAX >> (31 - (at & 31)));
    let rank = high(group).wrapping_add(up_to.count_ones());
    listed(words, answers, root, root.length(), rank)
}

/// 1 if any bit is set, else 0, without a branch.
#[inline(always)]
fn is_some<W: Words + ?Sized>(words: &W, bits: u64) -> u32 {
    high(bits | words.barrier(bits.wrapping_neg())) >> 31
}

/// Several [inline prefixes](inline_prefix) in a word.
struct Lanes {
    /// A one in the lowest bit of each.
    lowest: u64,
    /// A one in a bit of each above those in which prefixes differ, once these are moved down by one.
    above: u64,
}

impl Lanes {
    const TWO: Self = Self {
        lowest: 1 | 1 << 30,
        above: 1 << 28 | 1 << 58,
    };
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
    const fn with(&self, word: u64, asked: u64) -> u64 {
        // In each, the bits above the lowest that is set: no borrow goes from one to the next, as none is 0.
        let common = word ^ (self.lowest - 1).wrapping_sub(word);
        let differing = (word ^ asked.wrapping_mul(self.lowest)) & common;
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
fn rank_v4<W: Words + ?Sized>(words: &W, layout: &LayoutV4, root: Root, at: u32) -> Option<u32> {
    let is_large = layout.slot_bits > SMALL_SLOT_MOST;
    let lowest = if is_large {
        u64::MAX >> 32
    } else {
        u64::MAX >> 48
    };
    let (mut from, mut to) = (0, root.length());
    let guess = u64::from(at).wrapping_mul(u64::from(to)) >> (layout.slot_bits & 31);
    let mut middle = low(guess);
    for step in 0..STEPS_V4 {
        if step >= u32::from(layout.steps) {
            break;
        }
        let is_left = root.read(words, middle)? & lowest <= u64::from(at);
        if is_left {
            from = middle;
        } else {
            to = middle;
        }
        (from, to) = (barrier(words, from), barrier(words, to));
        if to.wrapping_sub(from) <= 1 {
            break;
        }
        middle = if step > 0 {
            from.wrapping_add(to) >> 1
        } else if is_left {
            from.wrapping_add(1)
        } else {
            to.wrapping_sub(1)
        };
    }
    let word = root.read(words, from)?;
    Some(if is_large {
        let second = u32::from(high(word) <= at);
        (from << 1).wrapping_add(u32::from(low(word) <= at) + second)
    } else {
        (from << 2).wrapping_add(sum_lanes(at_most(word, at)))
    })
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
            prefixes in any::<[(u32, u8); INLINE_IN_WORD as usize]>(),
            kind in 0..3,
            top in 0..16u64,
            at in any::<u32>(),
        ) {
            let (lanes, count, bits, lane, top) = match kind {
                0 => (Lanes::TWO, INLINE_IN_LARGE_SLOT as usize, u32::from(LARGE_SLOT_MOST), 30, top << 60),
                1 => (Lanes::THREE, INLINE_IN_ROOT as usize, 16, 20, top << 60),
                _ => (Lanes::FOUR, INLINE_IN_WORD as usize, 15, 16, 0),
            };
            let prefixes = prefixes.map(|(first, host_bits)| {
                let host_bits = u32::from(host_bits) % (bits + 1);
                let first = first & ((1 << bits) - 1);
                (first >> host_bits << host_bits, host_bits)
            });
            let there = &prefixes[..count];
            let numbers = (0..).zip(there).map(|(place, (first, bits))| u64::from(inline_prefix(*first, *bits)) << (place * lane));
            let word = numbers.fold(top, |word, number| word | number);
            let edges = there.iter().flat_map(|(first, bits)| {
                let last = first + (1 << bits) - 1;
                [first.wrapping_sub(1), *first, last, last + 1]
            });
            for at in edges.chain([at & ((1 << bits) - 1)]).filter(|at| *at < 1 << bits) {
                let want = there.iter().any(|(first, bits)| first >> bits == at >> bits);
                prop_assert_eq!(lanes.with(word, u64::from(at) << 1 | 1) != 0, want, "{:x} {:?}", at, there);
            }
        }
    }
}
