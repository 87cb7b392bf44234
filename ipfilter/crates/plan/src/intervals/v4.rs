//! IPv4: a root per /16 or smaller slot that holds a few prefixes itself, 16-bit boundaries, bitmaps
//! where those are many.

mod sieve;

use ipfilter_ebpf::{
    abi::ApiSet,
    interval::{
        self, BOUNDARIES_PER_WORD, BROAD_WORDS, Broad, HELD_IN_ROOT, HELD_IN_WORD, Image, Kind,
        Layout, Root, SLOT_BITS_V4, held,
    },
};

use self::sieve::Sieve;
use super::{
    Family, Shape, Slot, SourceMap, Store, answer_words, pack, pack_answers,
    sealed::{self, Build, Builder as _},
};
use ipfilter_addresses::blocks;

/// Up to this many boundaries a list is as fast as a bitmap (measured: beyond, the search's misses
/// tell), and far smaller.
const LIST_BOUNDARIES: usize = 64;

/// All bitmaps of a table take at most this many words, 8 MiB. That of a /16 takes 8 KiB, 60 times what
/// 65 boundaries do: given to every slot of a large plan they would cost more misses than they
/// save. So the densest slots have them, and the others somewhat longer searches.
const BITMAP_BUDGET: usize = 1 << 20;

/// Boundaries in a list's word.
const LANES: usize = BOUNDARIES_PER_WORD as usize;

/// One slot in so many may need more than its root before the slots are made smaller.
const FEW: usize = 10;

/// Roots take at most this many words per boundary, except in the smallest table: where boundaries lie
/// in few slots, all the others would be made smaller for nothing.
const ROOT_WORDS_PER_BOUNDARY: usize = 2;

/// If more than one slot in so many holds prefixes, one with a single answer holds all of itself as a
/// prefix: to tell these kinds of slots apart takes a branch that is then too often predicted wrong.
const UNIFORM_PER_HELD: usize = 8;

/// The smallest slots have 2^10 addresses.
const DIVISIONS: u8 = 9;

impl Family for u32 {
    const NAME: &'static str = "IPv4";
}

impl Build for u32 {
    type Builder<'a> = Builder<'a>;

    fn lookup(image: Image<'_>, layout: &Layout, address: Self) -> Option<ApiSet> {
        interval::lookup_v4(&image, layout, address)
    }
}

/// How the address space is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Division {
    /// The base-2 logarithm of the addresses in a slot.
    slot_bits: u8,
    /// Whether roots are broad.
    broad: bool,
}

impl Division {
    /// The division whose roots take 2^`doublings` times the least.
    fn new(doublings: u8) -> Self {
        // From some size on a root takes four words, which hold more prefixes than those of four slots, as
        // these are seldom full at once.
        let (halvings, broad) = match doublings {
            3.. => (doublings - 2, true),
            _ => (doublings, false),
        };
        Self {
            slot_bits: SLOT_BITS_V4 - halvings,
            broad,
        }
    }

    fn slots(self) -> u32 {
        1 << (32 - self.slot_bits)
    }

    /// Words of all roots.
    fn root_words(self) -> usize {
        let words = if self.broad { BROAD_WORDS } else { 1 };
        (self.slots() * words) as usize
    }

    /// Prefixes that a root can hold.
    fn holds(self) -> usize {
        let further = if self.broad { BROAD_WORDS - 1 } else { 0 };
        (HELD_IN_ROOT + further * HELD_IN_WORD) as usize
    }

    /// The addresses of a slot, less one.
    fn mask(self) -> u32 {
        (1 << self.slot_bits) - 1
    }
}

/// Builds an IPv4 table.
pub struct Builder<'a> {
    map: &'a SourceMap<u32>,
    lanes: u8,
    division: Division,
    sieve: Sieve,
}

impl<'a> sealed::Builder<'a, u32> for Builder<'a> {
    /// Takes the largest slots of which but few need more than their root. With more than two answers all
    /// with a boundary need it: then smaller slots make a larger table of shorter lists, which was slower.
    fn new(map: &'a SourceMap<u32>, lanes: u8) -> Self {
        let builder = |doublings| Self::divided(map, lanes, Division::new(doublings));
        let divisions = if lanes == 0 { DIVISIONS } else { 1 };
        let most = map.boundaries_len() * ROOT_WORDS_PER_BOUNDARY;
        let builder = (0..divisions)
            .map(builder)
            .take_while(|builder| builder.division.root_words() <= most)
            .find(Self::suffices)
            .unwrap_or_else(|| builder(0));
        Self {
            sieve: Sieve::of(map),
            ..builder
        }
    }

    fn root_words(&self) -> usize {
        self.division.root_words()
    }

    fn roots(&self) -> Store {
        let slots = self.division.slots() as usize;
        if self.division.broad {
            Store {
                words: Vec::new(),
                roots: vec![Broad::default(); slots],
            }
        } else {
            Store {
                words: vec![0; slots],
                roots: Vec::new(),
            }
        }
    }

    fn sieve(&self) -> &[u64] {
        &self.sieve.words
    }

    fn division(&self) -> Layout {
        Layout {
            slot_bits: self.division.slot_bits,
            broad: self.division.broad.into(),
            part_bits: self.sieve.part_bits,
            usual: self.sieve.usual,
            ..Layout::default()
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let spans = (0..self.division.slots()).map(|slot| {
            let lowest = slot << self.division.slot_bits;
            (slot as usize, lowest, lowest | self.division.mask())
        });
        super::slots(self.map, 0, spans)
    }

    fn shapes(&self, slots: &[Slot]) -> Vec<Shape> {
        let counts: Vec<usize> = slots.iter().map(|slot| slot.inner.len()).collect();
        let longest = self.longest_list(&counts, BITMAP_BUDGET);
        let shape = |slot: &Slot| match (self.outside(slot), slot.inner.len()) {
            (_, 0) => Shape::Uniform,
            (Some(outside), _) => Shape::Held { outside },
            (None, boundaries) if boundaries <= longest => Shape::List(self.list_words(boundaries)),
            (None, boundaries) => Shape::Wide(self.bitmap_words(boundaries)),
        };
        let mut shapes: Vec<Shape> = slots.iter().map(shape).collect();
        let held = |shape: &&Shape| matches!(shape, Shape::Held { .. });
        if shapes.iter().filter(held).count() * UNIFORM_PER_HELD > shapes.len() {
            for (shape, slot) in shapes.iter_mut().zip(slots) {
                if let (Shape::Uniform, Some(outside)) = (&shape, self.outside(slot)) {
                    *shape = Shape::Held { outside };
                }
            }
        }
        shapes
    }

    fn push(&self, slot: &Slot, shape: Shape, store: &mut Store) {
        let words = &mut store.words;
        let starts = self.starts(slot);
        let answers = self.map.answers().get(slot.first..slot.inner.end);
        let answers = answers.unwrap_or_default();
        let first = answers.first().copied().unwrap_or_default();
        let place = index(words.len());
        let root = match shape {
            Shape::Held { outside } => return self.hold(slot, outside, store.root(slot.root)),
            Shape::Uniform => Root::new(Kind::Uniform, false, 0, first),
            Shape::List(_) => {
                let length = starts.len().div_ceil(LANES);
                let padding = length * LANES - starts.len();
                let zeros = std::iter::repeat_n(0, padding);
                pack(
                    words,
                    16,
                    zeros.chain(starts.iter().map(|start| self.low(*start).into())),
                );
                pack_answers(words, self.lanes, padding, answers);
                let odd = (first as usize ^ padding) & 1 == 1;
                Root::new(Kind::List, odd, index(length), place)
            }
            Shape::Wide(_) if self.lanes == 0 => {
                self.push_bitmap(words, starts, first == 1);
                Root::new(Kind::Wide, false, 0, place)
            }
            Shape::Wide(_) => {
                self.push_ranks(words, starts);
                pack_answers(words, self.lanes, 0, answers);
                Root::new(Kind::Wide, false, index(self.rank_words()), place)
            }
        };
        if let Some(word) = store.root(slot.root).first_mut() {
            *word = root.0;
        }
    }
}

impl<'a> Builder<'a> {
    /// Without a sieve.
    fn divided(map: &'a SourceMap<u32>, lanes: u8, division: Division) -> Self {
        Self {
            map,
            lanes,
            division,
            sieve: Sieve::default(),
        }
    }

    /// Whether but few slots need more than their root.
    fn suffices(&self) -> bool {
        // A prefix has two boundaries at most.
        let limit = 2 * self.division.holds();
        let starts = self.map.starts();
        let slots = starts.chunk_by(|a, b| (a ^ b) >> self.division.slot_bits == 0);
        let (some, many) = slots.fold((0, 0), |(some, many), slot| {
            (some + 1, many + usize::from(slot.len() > limit))
        });
        if many * FEW > some {
            return false;
        }
        let slots = self.slots();
        let slots = slots.iter().filter(|slot| !slot.inner.is_empty());
        let (some, many) = slots.fold((0, 0), |(some, many), slot| {
            (some + 1, many + usize::from(self.outside(slot).is_none()))
        });
        many * FEW <= some
    }

    fn starts(&self, slot: &Slot) -> &[u32] {
        self.map
            .starts()
            .get(slot.inner.clone())
            .unwrap_or_default()
    }

    /// A slot's place of `address`.
    fn low(&self, address: u32) -> u32 {
        address & self.division.mask()
    }

    /// The answer of a slot's addresses outside the prefixes that its root holds: nothing if these do not
    /// fit, or if there are more than two answers.
    fn outside(&self, slot: &Slot) -> Option<u32> {
        let first = self.map.answers().get(slot.first).copied();
        let first = first.unwrap_or_default();
        if slot.inner.is_empty() {
            return Some(first ^ 1);
        }
        let holds = self.division.holds();
        if self.lanes > 0 || slot.inner.len() > 2 * holds {
            return None;
        }
        let fits = |outside: &u32| self.prefixes(slot, outside ^ 1).nth(holds).is_none();
        [first, first ^ 1].into_iter().find(fits)
    }

    /// The prefixes of a slot that have one of two answers, as a root holds them.
    fn prefixes(&self, slot: &Slot, answer: u32) -> impl Iterator<Item = u32> {
        let starts = self.starts(slot);
        let lowest = index(slot.root) << self.division.slot_bits;
        let first = self.map.answers().get(slot.first).copied();
        let skipped = usize::from(first.unwrap_or_default() != answer);
        (skipped..=starts.len()).step_by(2).flat_map(move |step| {
            let before = step.checked_sub(1).and_then(|before| starts.get(before));
            let first = before.map_or(lowest, |start| *start);
            let last = starts
                .get(step)
                .map_or(lowest | self.division.mask(), |next| next - 1);
            blocks(first, last).map(|(first, host_bits)| held(self.low(first), host_bits))
        })
    }

    /// Writes the root that holds a slot's prefixes.
    fn hold(&self, slot: &Slot, outside: u32, root: &mut [u64]) {
        let mut last = 0;
        let prefixes = self.prefixes(slot, outside ^ 1).map(u64::from);
        // The places that are left hold the last one again.
        let mut prefixes = prefixes
            .map(Some)
            .chain(std::iter::repeat(None))
            .map(|prefix| {
                last = prefix.unwrap_or(last);
                last
            });
        let mut some = |count, bits| {
            (0..count).fold(0, |word, place| {
                word | prefixes.next().unwrap_or_default() << (bits * place)
            })
        };
        let [first, others @ ..] = root else {
            return;
        };
        *first = Root::new(Kind::Parts, outside == 1, 0, 0).0 | some(HELD_IN_ROOT, 20);
        for word in others {
            *word = some(HELD_IN_WORD, 16);
        }
    }

    fn list_words(&self, boundaries: usize) -> usize {
        let words = boundaries.div_ceil(LANES);
        words + answer_words(words * LANES + 1, self.lanes)
    }

    /// Words of a bitmap whose bits are the answers: 64 addresses each.
    fn answer_bitmap_words(&self) -> u32 {
        1 << (self.division.slot_bits - 6)
    }

    /// Words of a bitmap with ranks: 32 addresses each.
    fn rank_words(&self) -> usize {
        1 << (self.division.slot_bits - 5)
    }

    fn bitmap_words(&self, boundaries: usize) -> usize {
        if self.lanes == 0 {
            self.answer_bitmap_words() as usize
        } else {
            self.rank_words() + answer_words(boundaries + 1, self.lanes)
        }
    }

    /// The most boundaries that a slot has as a list, so that the bitmaps of the others take no more
    /// than `budget` words.
    fn longest_list(&self, counts: &[usize], budget: usize) -> usize {
        let mut longest = LIST_BOUNDARIES;
        loop {
            let dense = counts.iter().filter(|count| **count > longest);
            let words: usize = dense.map(|count| self.bitmap_words(*count)).sum();
            if words <= budget {
                return longest;
            }
            longest *= 2;
        }
    }

    /// Appends one bit per address of a slot: the answer, which alternates at `starts`.
    fn push_bitmap(&self, words: &mut Vec<u64>, starts: &[u32], first: bool) {
        let mut starts = starts.iter().map(|start| self.low(*start)).peekable();
        let mut answer = u64::from(first);
        for word in 0..self.answer_bitmap_words() {
            let mut bits = answer.wrapping_neg();
            while let Some(start) = starts.next_if(|start| start >> 6 == word) {
                answer ^= 1;
                bits ^= u64::MAX << (start & 63);
            }
            words.push(bits);
        }
    }

    /// Appends, for each 32 addresses of a slot, the number of `starts` below them and a bit for each
    /// that is one.
    fn push_ranks(&self, words: &mut Vec<u64>, starts: &[u32]) {
        let mut starts = starts.iter().map(|start| self.low(*start)).peekable();
        let mut rank = 0u64;
        for word in 0..index(self.rank_words()) {
            let mut bits = rank << 32;
            while let Some(start) = starts.next_if(|start| start >> 5 == word) {
                rank += 1;
                bits |= 1 << (start & 31);
            }
            words.push(bits);
        }
    }
}

/// A table's index or length, which its size limit keeps below 2^29.
#[expect(clippy::cast_possible_truncation, reason = "as the comment says")]
pub(super) fn index(number: usize) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests;
