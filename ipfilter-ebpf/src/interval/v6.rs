//! IPv6: lists of one half of the boundaries or of both, and fans.

use super::{Kind, Layout, Root, SLOT_ABOVE, SLOT_BELOW, Words, forget, listed, low, uniform};
use crate::abi::ApiSet;

/// Halvings that any IPv6 list needs at most: its length is below 2^29.
const STEPS_V6: u32 = 29;

/// The most fans from a root to a list.
pub const FAN_DEPTH: u32 = 3;

/// Words of a fan before those of its parts: the high 64 bits that it is for if it divides low ones,
/// the lowest address of the divided prefix (the half that matters), the root of what lies below the
/// prefix and of what lies above.
pub const FAN_HEADER: u32 = 4;

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

    #[inline(always)]
    const fn turns(self) -> bool {
        self.0 >> 11 & 1 == 1
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
pub fn lookup_v6<W: Words + ?Sized>(
    words: &W,
    layout: &Layout,
    high: u64,
    low: u64,
) -> Option<ApiSet> {
    let root = Root(words.word(slot_v6(high))?);
    let (root, half) = descend(words, root, high, low)?;
    if root.kind() == Kind::Uniform as u32 {
        return uniform(words, layout, root);
    }
    if root.kind() == Kind::List as u32 {
        let rank = rank_v6(words, root, half)?;
        return listed(words, layout, root, root.length(), rank);
    }
    let rank = rank_wide(words, root, high, low)?;
    listed(words, layout, root, root.length() << 1, rank)
}

/// The slot of the IPv6 addresses whose high 64 bits are `high`.
#[inline(always)]
#[must_use]
pub const fn slot_v6(high: u64) -> u32 {
    let slot = (high >> 45) as u32;
    match slot >> 16 {
        1 => slot & 0xffff,
        0 => SLOT_BELOW,
        _ => SLOT_ABOVE,
    }
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
        if root.kind() != Kind::Parts as u32 {
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
fn rank_v6<W: Words + ?Sized>(words: &W, root: Root, half: u64) -> Option<u32> {
    let (mut rank, mut length) = (0, root.length());
    for _ in 0..STEPS_V6 {
        if length == 0 {
            break;
        }
        let step = length >> 1;
        if root.read(words, rank + step)? <= half {
            rank += step + 1;
            length -= step + 1;
        } else {
            length = step;
        }
        (rank, length) = (forget(words, rank), forget(words, length));
    }
    Some(rank)
}

/// How many of a list's 128-bit boundaries are at or below the address. The low halves are read
/// only where the high ones are the address's own.
#[inline(always)]
fn rank_wide<W: Words + ?Sized>(words: &W, root: Root, high: u64, low: u64) -> Option<u32> {
    let (mut rank, mut length) = (0, root.length());
    for _ in 0..STEPS_V6 {
        if length == 0 {
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
        (rank, length) = (forget(words, rank), forget(words, length));
    }
    Some(rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_the_addresses() {
        assert_eq!(slot_v6(0), SLOT_BELOW);
        assert_eq!(slot_v6((0x2000 << 48) - 1), SLOT_BELOW);
        assert_eq!(slot_v6(0x2000 << 48), 0);
        assert_eq!(slot_v6((0x2000 << 48) + (1 << 45)), 1);
        assert_eq!(slot_v6((0x4000 << 48) - 1), 0xffff);
        assert_eq!(slot_v6(0x4000 << 48), SLOT_ABOVE);
        assert_eq!(slot_v6(u64::MAX), SLOT_ABOVE);
    }
}
