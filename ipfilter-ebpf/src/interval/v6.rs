//! IPv6: lists of one half of the boundaries or of both, and fans.

use super::{Answers, Root, Words, barrier, first_word, listed, low, of_pair, uniform};

/// Halvings that any IPv6 list needs at most: its length is below 2^29.
const STEPS_V6: u32 = 29;

/// The most fans from a root to a list.
pub const FAN_DEPTH: u32 = 3;

/// Words of a fan before those of its parts: the high 64 bits that it is for if it divides low ones,
/// the lowest address of the divided prefix (the half that matters), the root of what lies below the
/// prefix and of what lies above.
pub const FAN_HEADER: u32 = 4;

/// How a slot's answer is found. The numbers are those in a [`Root`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KindV6 {
    /// One answer.
    Uniform = 0,
    /// A list of one half of the boundaries; the length counts words.
    List = 1,
    /// A list of whole boundaries; the length counts these.
    Wide = 2,
    /// Further roots, whose length is a [`Fan`].
    Fan = 3,
}

/// What a lookup must know of an IPv6 table beyond its words; constant for a deployment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayoutV6 {
    /// How answers are found.
    pub answers: Answers,
    /// The high half of the lowest address of the prefix that slots divide.
    pub base: u64,
    /// How many slots divide it. The roots of what lies below it and above follow theirs.
    pub slots: u32,
    /// The index of the summary bitmap's first word, unless it is near.
    pub summary: u32,
    /// How many words the summary bitmap has.
    pub summary_words: u32,
    /// Not used; zero.
    pub reserved: u32,
    /// The base-2 logarithm of the /64s in a slot.
    pub slot_shift: u8,
    /// The base-2 logarithm of the /64s for which the summary bitmap has a bit.
    pub part_shift: u8,
    /// 1 if what is read first, the summary bitmap or else the roots, is [near](Words::near), 0 if it is
    /// among the words.
    pub near: u8,
    /// 1 if there is a summary bitmap, of what slots divide.
    pub summarized: u8,
    /// The number, 0 or 1, of the answer for which the summary bitmap has no bit.
    pub default_answer: u8,
    /// Halvings that a list needs at most.
    pub steps: u8,
    /// Not used; zero.
    pub unused: [u8; 2],
}

const _: () = assert!(size_of::<LayoutV6>() == 56 && align_of::<LayoutV6>() == 8);

/// An IPv6 table.
pub trait TableV6: Words {
    /// A node's answer. Implementations may keep it out of line, apart from the per-packet path.
    #[inline(always)]
    fn search(&self, layout: &LayoutV6, root: Root, high: u64, low: u64) -> Option<u64> {
        search_v6(self, layout, root, high, low)
    }
}

/// How a fan divides its prefix, as a [`Root`]'s length: from the high bits, whether it turns to the
/// low half of the address (1), the base-2 logarithm of the number of parts (5), and that of a
/// part's size (6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fan(pub u32);

impl Fan {
    /// A fan of 2^`bits` parts of 2^`shift` numbers each; `bits` is below 32, `shift` below 64.
    #[must_use]
    pub const fn new(turns: bool, bits: u32, shift: u32) -> Self {
        Self((turns as u32) << 11 | bits << 6 | shift)
    }

    /// Whether it divides by the low half of the address.
    #[must_use]
    #[inline(always)]
    pub const fn turns(self) -> bool {
        self.0 >> 11 & 1 == 1
    }

    /// The base-2 logarithm of the number of parts.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0 >> 6 & 31
    }

    /// The base-2 logarithm of a part's size.
    #[must_use]
    pub const fn shift(self) -> u32 {
        self.0 & 63
    }

    /// The offset of the root for what is `distance` past the prefix's lowest number.
    #[inline(always)]
    const fn offset(self, distance: u64) -> u32 {
        let part = distance >> (self.0 & 63);
        if part >> (self.0 >> 6 & 31) == 0 {
            FAN_HEADER + low(part)
        } else {
            3
        }
    }
}

/// Which APIs the IPv6 source with these halves (host byte order) may call; nothing if the table
/// is not well formed.
#[inline(always)]
pub fn lookup_v6<T: TableV6 + ?Sized>(
    table: &T,
    layout: &LayoutV6,
    high: u64,
    low: u64,
) -> Option<u64> {
    let distance = high.wrapping_sub(layout.base);
    let summarized = layout.summarized == 1;
    if summarized {
        let part = distance >> (layout.part_shift & 63);
        let word = part >> 6;
        if word < u64::from(layout.summary_words) {
            let word = first_word(table, layout.near, layout.summary, word)?;
            if word >> (part & 63) & 1 == 0 {
                return Some(of_pair(
                    table,
                    &layout.answers,
                    layout.default_answer.into(),
                ));
            }
        }
    }
    let slot = distance >> (layout.slot_shift & 63);
    let slots = u64::from(layout.slots);
    let index = if slot < slots {
        slot
    } else {
        // Below or above all of them.
        slots + u64::from(high >= layout.base)
    };
    let root = Root(match layout.near {
        1 if !summarized => table.near(index)?,
        _ => table.word(super::low(index))?,
    });
    if root.kind() == KindV6::Uniform as u64 {
        return uniform(table, &layout.answers, root);
    }
    table.search(layout, root, high, low)
}

/// What a node answers of the address with these halves.
#[inline(always)]
pub fn search_v6<W: Words + ?Sized>(
    words: &W,
    layout: &LayoutV6,
    root: Root,
    high: u64,
    low: u64,
) -> Option<u64> {
    let answers = &layout.answers;
    let (root, half) = descend(words, root, high, low)?;
    if root.kind() == KindV6::Uniform as u64 {
        return uniform(words, answers, root);
    }
    if root.kind() == KindV6::List as u64 {
        let rank = rank_v6(words, layout, root, half)?;
        return listed(words, answers, root, root.length(), rank);
    }
    let rank = rank_wide(words, layout, root, high, low)?;
    listed(words, answers, root, root.length() << 1, rank)
}

/// Follows fans; the half of the address that a list holds comes with the root.
#[inline(always)]
fn descend<W: Words + ?Sized>(
    words: &W,
    mut root: Root,
    high: u64,
    low: u64,
) -> Option<(Root, u64)> {
    let mut half = high;
    for _ in 0..FAN_DEPTH {
        if root.kind() != KindV6::Fan as u64 {
            break;
        }
        let fan = Fan(root.length());
        let mut below = false;
        let mut above = false;
        if fan.turns() {
            let own = root.read(words, 0)?;
            below = high < own;
            above = high > own;
            half = low;
        }
        let base = root.read(words, 1)?;
        let offset = if below || (half < base && !above) {
            2
        } else if above {
            3
        } else {
            fan.offset(half - base)
        };
        root = Root(root.read(words, offset)?);
    }
    Some((root, half))
}

/// How many of an IPv6 list's boundaries are at or below `half`, which is of the half they are of.
#[inline(always)]
fn rank_v6<W: Words + ?Sized>(words: &W, layout: &LayoutV6, root: Root, half: u64) -> Option<u32> {
    let (mut rank, mut length) = (0, root.length());
    for step in 0..STEPS_V6 {
        if length == 0 || step >= u32::from(layout.steps) {
            break;
        }
        let step = length >> 1;
        if root.read(words, rank + step)? <= half {
            rank += step + 1;
            length -= step + 1;
        } else {
            length = step;
        }
        (rank, length) = (barrier(words, rank), barrier(words, length));
    }
    Some(rank)
}

/// How many of a list's 128-bit boundaries are at or below the address. The low halves are read
/// only where the high ones are the address's own.
#[inline(always)]
fn rank_wide<W: Words + ?Sized>(
    words: &W,
    layout: &LayoutV6,
    root: Root,
    high: u64,
    low: u64,
) -> Option<u32> {
    let (mut rank, mut length) = (0, root.length());
    for step in 0..STEPS_V6 {
        if length == 0 || step >= u32::from(layout.steps) {
            break;
        }
        let half = length >> 1;
        let middle = rank + half;
        let bound = root.read(words, middle)?;
        if bound < high || (bound == high && root.read(words, root.length() + middle)? <= low) {
            rank = middle + 1;
            length -= half + 1;
        } else {
            length = half;
        }
        (rank, length) = (barrier(words, rank), barrier(words, length));
    }
    Some(rank)
}
