//! The interval table: which APIs a source may call, by its place among sorted boundaries.
//!
//! One table per family, an array of 64-bit words in host byte order that userspace fills through
//! a memory map. It holds a total function that changes at the *boundaries*; the number of
//! boundaries at or below an address, its *rank*, numbers the answer. Array elements of a BPF map
//! take 8 bytes at least, so words of that size waste none, and one read of a word serves four
//! IPv4 boundaries. Most of a lookup's cost is cache and TLB misses: what is read together lies
//! together, and everything is as small as it can be.
//!
//! - A *root* per slot of the address space holds its slot's one answer, or points to its node. Slots are as
//!   large as the plan lets them be: sixteen roots serve ten prefixes, millions a million. The roots of a
//!   small table are *near*: in the program's own data, a word of which is one instruction away, whereas to
//!   look an element of a map up takes a dozen.
//! - IPv4: all slots are of one size. A root takes a word, or four ([`WideRoot`]), and may hold its slot's few
//!   prefixes itself ([`inline_prefix`]), if there are no more than two answers. The lookup then reads no
//!   more than the root: one cache miss, in a table of any size. All are compared at once, and no branch
//!   depends on what was read: one that can't be predicted costs as much as a miss, and has the processor
//!   wait for the misses instead of going on with the next packet.
//! - IPv6: slots divide the smallest prefix around the boundaries in 2000::/3, and two more are all that lies
//!   below it and above.
//! - Large tables begin with a *summary bitmap*: a bit for each small part of a slot, which says whether any
//!   address there has another answer than the default one. It is an eighth as large as the rest or less,
//!   thus more likely in a near cache, and says enough of most addresses that a flood may come from.
//! - A *list* node is its boundaries in ascending order. IPv4: the addresses' places in the slot, four a word
//!   where 16 bits suffice, else two, lowest in the low bits, the first word filled up with zeros in front,
//!   which are below every address. IPv6: the high 64 bits; if a boundary is not on a /64, the low 64 bits of
//!   all follow after the high ones, apart from them because they are hardly ever read.
//! - A *bitmap* node serves an IPv4 slot with too many boundaries for a quick search.
//! - A *fan* node does so in IPv6, where addresses cluster: it has roots of its own for equal parts
//!   of the smallest prefix around its boundaries, and for what lies below and above that. The
//!   prefix is one of the high 64 bits, or of the low ones of a single /64, in which lists then hold
//!   low halves. Up to [`FAN_DEPTH`] fans follow each other.
//! - The *palette* lists the distinct answers, as the bits of an [`ApiSet`](crate::abi::ApiSet).
//!
//! With two answers or fewer ([`Answers::lanes`] 0), as with one API, they alternate along the
//! boundaries, and the rank's lowest bit tells them apart; a bitmap has the answer itself, one bit
//! per address. With more, a node ends in a packed list of palette indices, one per rank; a bitmap
//! then holds, for each 32 addresses, the rank below them and a bit for each boundary.
//!
//! The code runs in the kernel: no loop without a constant bound, no division, no indexing that
//! could panic, and every read may fail, which a well-formed table never makes it do.

mod v4;
mod v6;

pub use v4::{
    INLINE_IN_LARGE_SLOT, INLINE_IN_ROOT, INLINE_IN_WORD, KindV4, LARGE_SLOT_MOST, LayoutV4,
    SMALL_SLOT_MOST, TableV4, inline_prefix, lookup_v4, search_v4,
};
pub use v6::{FAN_DEPTH, FAN_HEADER, Fan, KindV6, LayoutV6, TableV6, lookup_v6, search_v6};

/// A wide root: its first word is a [`Root`]. An element of a map of its own, as looking for an element
/// costs more than reading its words.
pub type WideRoot = [u64; WIDE_ROOT_WORDS as usize];

/// Words of a [`WideRoot`]: half a cache line.
pub const WIDE_ROOT_WORDS: u32 = 4;

/// The largest length a [`Root`] can hold.
pub const MAX_LENGTH: u32 = (1 << 29) - 1;

/// APIs that an answer may have for a [`Root`] to hold it: its two highest bits say what kind it is.
pub const DIRECT_APIS: usize = 62;

/// How a table's answers are found, whichever family's it is. Constant for a deployment.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// The palette's first two answers, for tables with no more than these.
    pub pair: [u64; 2],
    /// The index of the palette's first word.
    pub palette: u32,
    /// 0 if the answers alternate; else the base-2 logarithm of the palette indices in a word:
    /// 3 for 8 bits each, 2 for 16, 1 for 32.
    pub lanes: u8,
    /// 1 if the root of a slot with one answer is this answer, 0 if it holds its palette index.
    pub direct: u8,
    /// Not used; zero.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Answers>() == 24);

/// A slot's root: from the high bits, kind (2), and then the one answer; or the lowest bit of the answer
/// below the first boundary, or outside the prefixes that it holds (1), length (29), place (32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// The root of a slot with one answer, which is below 2^62.
    #[must_use]
    pub const fn uniform(answer: u64) -> Self {
        Self(answer)
    }

    /// A root of these parts; a length above [`MAX_LENGTH`] does not fit.
    #[must_use]
    pub const fn new(kind: u8, first: bool, length: u32, place: u32) -> Self {
        Self((kind as u64) << 62 | (first as u64) << 61 | (length as u64) << 32 | place as u64)
    }

    /// What kind of node it is: a number of [`KindV4`] or [`KindV6`].
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> u64 {
        self.0 >> 62
    }

    #[inline(always)]
    const fn first(self) -> u32 {
        (self.0 >> 61) as u32 & 1
    }

    /// How long its node is, in what its kind counts.
    #[must_use]
    #[inline(always)]
    pub const fn length(self) -> u32 {
        (self.0 >> 32) as u32 & MAX_LENGTH
    }

    /// The index of the node's first word, or of its one answer in the palette.
    #[must_use]
    #[inline(always)]
    pub const fn place(self) -> u32 {
        low(self.0)
    }

    /// The node's word number `offset`.
    #[inline(always)]
    pub fn read<W: Words + ?Sized>(self, words: &W, offset: u32) -> Option<u64> {
        words.word(self.place().wrapping_add(offset))
    }
}

/// A table's words, wherever they are.
pub trait Words {
    /// The word at `index`, or nothing past the end.
    fn word(&self, index: u32) -> Option<u64>;

    /// The word at `index` of those that are near, or nothing past the end.
    fn near(&self, index: u64) -> Option<u64>;

    /// `value`, of which those who take the code apart are to know nothing: the kernel's verifier, which
    /// would go through a loop again for each range that a number may be in, and the compiler, which
    /// would make branches of what is meant to have none.
    #[inline(always)]
    fn barrier(&self, value: u64) -> u64 {
        value
    }
}

/// A table in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Image<'a> {
    /// Its words.
    pub words: &'a [u64],
    /// Its wide roots, if it has any.
    pub roots: &'a [WideRoot],
    /// Its near words, if it has any.
    pub near: &'a [u64],
}

impl Words for Image<'_> {
    fn word(&self, index: u32) -> Option<u64> {
        self.words.get(index as usize).copied()
    }

    fn near(&self, index: u64) -> Option<u64> {
        self.near.get(usize::try_from(index).ok()?).copied()
    }
}

impl TableV4 for Image<'_> {
    fn root(&self, slot: u32) -> Option<&WideRoot> {
        self.roots.get(slot as usize)
    }
}

impl TableV6 for Image<'_> {}

/// A word of the part that is read first.
#[inline(always)]
fn first_word<W: Words + ?Sized>(words: &W, near: u8, start: u32, index: u64) -> Option<u64> {
    match near {
        0 => words.word(start.wrapping_add(low(index))),
        _ => words.near(index),
    }
}

/// The answer of a slot that has but one.
#[inline(always)]
fn uniform<W: Words + ?Sized>(words: &W, answers: &Answers, root: Root) -> Option<u64> {
    if answers.direct == 1 {
        return Some(root.0);
    }
    palette(words, answers, root.place())
}

/// The answer with the number `rank` of a node whose search part takes `length` words.
#[inline(always)]
fn listed<W: Words + ?Sized>(
    words: &W,
    answers: &Answers,
    root: Root,
    length: u32,
    rank: u32,
) -> Option<u64> {
    if answers.lanes == 0 {
        return Some(chosen_of_pair(words, answers, root.first() ^ rank));
    }
    let lanes = u32::from(answers.lanes & 3);
    let word = root.read(words, length.wrapping_add(rank >> lanes))?;
    let lane = rank & ((1 << lanes) - 1);
    let bits = 64 >> lanes;
    let index = word >> (lane * bits) & ((1 << bits) - 1);
    palette(words, answers, low(index))
}

#[inline(always)]
fn palette<W: Words + ?Sized>(words: &W, answers: &Answers, index: u32) -> Option<u64> {
    words.word(answers.palette.wrapping_add(index))
}

/// The answer with the lowest bit of `number`. That it is one bit is made sure of where the verifier must see
/// it: older ones lose the bounds of what was put together from bits.
#[inline(always)]
fn of_pair<W: Words + ?Sized>(words: &W, answers: &Answers, number: u32) -> u64 {
    let place = words.barrier(number.into()) & 1;
    let place = usize::try_from(place).unwrap_or_default();
    answers.pair.get(place).copied().unwrap_or_default()
}

/// The same of a number that was searched for, without a pointer that depends on it: of what one depends on
/// the kernel's verifier keeps exact account, and would go through the search again for each way to find it.
#[inline(always)]
fn chosen_of_pair<W: Words + ?Sized>(words: &W, answers: &Answers, number: u32) -> u64 {
    let [first, second] = answers.pair;
    let mask = words.barrier(u64::from(number & 1).wrapping_neg());
    first ^ (first ^ second) & mask
}

/// As [`Words::barrier`].
#[inline(always)]
fn barrier<W: Words + ?Sized>(words: &W, value: u32) -> u32 {
    low(words.barrier(u64::from(value)))
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
            bits in any::<[u8; 7]>(),
            summary in 0..70u32,
            base in any::<u64>(),
            slots in any::<u32>(),
            palette in any::<u32>(),
            address in any::<[u64; 2]>(),
        ) {
            // Roots that stay inside the table reach the code behind them.
            let root = if small { root & (3 << 62 | 1 << 61 | 31 << 32 | 31) } else { root };
            let words: &[u64] = &[&[root], rest.as_slice()].concat();
            let [slot_bits, part_bits, wide, near, summarized, default_answer, direct] = bits;
            let answers = Answers { pair: [0, 1], palette, lanes, direct: direct & 1, reserved: [0; 2] };
            let layout = LayoutV4 {
                answers,
                summary,
                part_shift: part_bits,
                near: near & 1,
                summarized: summarized & 1,
                default_answer: default_answer & 1,
                steps: 29,
                ..LayoutV4::of_slots(slot_bits % 29, wide & 1 == 1)
            };
            let image = Image { words, roots: words.as_chunks().0, near: words };
            let [high, low] = address;
            let _ = lookup_v4(&image, &layout, high << 32);
            let _ = lookup_v4(&image, &layout, low & 0xffff << 32);
            let layout = LayoutV6 {
                answers,
                base,
                slots,
                summary,
                slot_shift: slot_bits,
                part_shift: part_bits,
                near: near & 1,
                summarized: summarized & 1,
                default_answer: default_answer & 1,
                steps: 29,
                summary_words: slots,
                reserved: 0,
                unused: [0; 2],
            };
            let _ = lookup_v6(&image, &layout, high, low);
            let _ = lookup_v6(&image, &layout, base, low);
        }
    }
}
