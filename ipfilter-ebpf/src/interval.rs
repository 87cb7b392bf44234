//! The interval table: which APIs a source may call, by its place among sorted boundaries.
//!
//! One table per family, an array of 64-bit words in host byte order that userspace fills through
//! a memory map. It holds a total function that changes at the *boundaries*; the number of
//! boundaries at or below an address, its *rank*, numbers the answer. Array elements of a BPF map
//! take 8 bytes at least, so words of that size waste none, and one read of a word serves four
//! IPv4 boundaries. Most of a lookup's cost is cache and TLB misses: what is read together lies
//! together, and everything is as small as it can be.
//!
//! - The table begins with its *roots*, one word per slot of the address space: IPv4, one slot per
//!   /16 ([`ROOTS_V4`]); IPv6, one per /19 of 2000::/3 where addresses are dense, and one each for
//!   what lies below and above ([`ROOTS_V6`]). A [`Root`] holds its slot's one answer, or points to
//!   its node.
//! - A *list* node is its boundaries in ascending order. IPv4: the low 16 bits, four a word, lowest
//!   in the low bits, the first word filled up with zeros in front, which are below every address.
//!   IPv6: the high 64 bits; if a boundary is not on a /64, the low 64 bits of all follow after
//!   the high ones, apart from them because they are hardly ever read.
//! - A *split* list is an IPv4 list whose root says how many boundaries lie in each eighth of the slot
//!   ([`Counts`]), zeros in front included, if that is at most 15 in each. Nothing is searched then: an
//!   address's eighth is in three words, rarely five, which are looked at without a branch that depends
//!   on them. A branch that can't be predicted costs as much as a cache miss, and has the processor wait
//!   for the misses instead of going on with the next packet.
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

use crate::abi::ApiSet;

/// Words of roots at the beginning of an IPv4 table.
pub const ROOTS_V4: u32 = 1 << 16;

/// Words of roots at the beginning of an IPv6 table: 2000::/3 by /19, then everything below, then
/// everything above.
pub const ROOTS_V6: u32 = (1 << 16) + 2;

/// The slot of the IPv6 addresses below 2000::/3.
pub const SLOT_BELOW: u32 = 1 << 16;

/// The slot of the IPv6 addresses above 2000::/3.
pub const SLOT_ABOVE: u32 = SLOT_BELOW + 1;

/// IPv4 boundaries in a word.
pub const BOUNDARIES_PER_WORD: u32 = 4;

/// Words of an IPv4 bitmap node whose bits are the answers: 64 addresses each.
pub const BITMAP_WORDS: u32 = 1 << 10;

/// Words of an IPv4 bitmap node with ranks: 32 addresses each.
pub const RANK_WORDS: u32 = 1 << 11;

/// The largest length a [`Root`] can hold.
pub const MAX_LENGTH: u32 = (1 << 29) - 1;

/// Words that an IPv4 table has at its end, as a split list's words are read past the last.
pub const SLACK_V4: u32 = 3;

/// Words of any IPv4 list that are looked at, at most: two, and then one for each halving of 2^14.
const STEPS_V4: u32 = 2 + 14;

/// Halvings that any IPv6 list needs at most: its length is below 2^29.
const STEPS_V6: u32 = 29;

/// What a lookup must know of a table beyond its words; constant for a deployment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The palette's first two answers, for tables with no more than these.
    pub pair: [u64; 2],
    /// The index of the palette's first word.
    pub palette: u32,
    /// 0 if the answers alternate; else the base-2 logarithm of the palette indices in a word:
    /// 3 for 8 bits each, 2 for 16, 1 for 32.
    pub lanes: u32,
}

const _: () = assert!(size_of::<Layout>() == 24 && align_of::<Layout>() == 8);

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
    /// A list whose root has the [`Counts`] as its place, and the place as its length (IPv4), or
    /// further roots, whose length is a [`Fan`] (IPv6).
    Split = 3,
}

/// A slot's root: from the high bits, kind (2), the lowest bit of the answer below the first
/// boundary (1), length (29), place (32).
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

impl Words for [u64] {
    #[inline(always)]
    fn word(&self, index: u32) -> Option<u64> {
        self.get(index as usize).copied()
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
        if root.kind() != Kind::Split as u32 {
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
    let lanes = layout.lanes & 3;
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
        fn lanes_are_counted_as_one_by_one(lanes in any::<[u16; 4]>(), at in any::<u16>()) {
            let word = (0..).zip(lanes).fold(0, |word, (i, lane)| word | u64::from(lane) << (16 * i));
            for at in lanes.into_iter().chain([at, 0, 0x7fff, 0x8000, u16::MAX]) {
                let want = lanes.iter().filter(|lane| **lane <= at).count();
                prop_assert_eq!(sum_lanes(at_most(word, at.into(), LANES)) as usize, want);
            }
        }

        #[test]
        fn no_table_makes_a_lookup_panic(
            root in any::<u64>(),
            small in any::<bool>(),
            rest in prop::collection::vec(any::<u64>(), 0..64),
            lanes in 0..4u32,
            palette in any::<u32>(),
            low in any::<u64>(),
        ) {
            // Roots that stay inside the table reach the code behind them.
            let root = if small { root & (3 << 62 | 1 << 61 | 31 << 32 | 31) } else { root };
            let words: &[u64] = &[&[root], rest.as_slice()].concat();
            let layout = Layout { pair: [0, 1], palette, lanes };
            let _ = lookup_v4(words, &layout, super::low(low) & 0xffff);
            let _ = lookup_v6(words, &layout, 0x2000 << 48, low);
        }
    }

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
