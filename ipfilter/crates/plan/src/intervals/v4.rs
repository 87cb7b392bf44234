//! IPv4: a root per slot that holds a few prefixes itself, boundaries of 16 bits or 32, bitmaps where those
//! are many.

use ipfilter_addresses::blocks;
use ipfilter_ebpf::{
    abi::Config,
    interval::{
        self, Answers, INLINE_IN_LARGE_SLOT, INLINE_IN_ROOT, INLINE_IN_WORD, Image, KindV4,
        LARGE_SLOT_MOST, LayoutV4, Root, SMALL_SLOT_MOST, WIDE_ROOT_WORDS, WideRoot, inline_prefix,
    },
};

use super::{
    Family, Shape, Slot, SourceMap, Store, answer_words, pack, pack_answers,
    read_back::{self, Edges},
    sealed::{self, Build, Builder as _},
    summary_bitmap::{Step, SummaryBitmap},
    uniform,
};
use crate::Malformed;

/// Up to this many boundaries a list is as fast as a bitmap (measured: beyond, the search's misses
/// tell), and far smaller.
const LIST_BOUNDARIES: usize = 64;

/// All bitmaps of a table take at most this many words, 8 MiB. That of a /16 takes 8 KiB, 60 times what
/// 65 boundaries do: given to every slot of a large plan they would cost more misses than they
/// save. So the densest slots have them, and the others somewhat longer searches.
const BITMAP_BUDGET: usize = 1 << 20;

/// One slot in so many may need more than its root before the slots are made smaller.
const FEW: usize = 10;

/// Roots of small slots take at most this many words per boundary: where boundaries lie in few slots, all the
/// others would be made smaller for nothing. Those of large slots take one at most.
const ROOT_WORDS_PER_BOUNDARY: usize = 2;

/// If more than one slot in so many holds prefixes, one with a single answer holds all of itself as a
/// prefix: to tell these kinds of slots apart takes a branch that is then too often predicted wrong.
const UNIFORM_PER_INLINE: usize = 8;

/// The smallest slots have 2^10 addresses.
const SMALL_DIVISIONS: u8 = 9;

/// From as many boundaries on, slots that suffice nowhere are small all the same: their dense ones have
/// bitmaps then.
const LARGE: usize = 1 << 15;

impl Family for u32 {
    const NAME: &'static str = "IPv4";

    fn pick<T>(v4: T, _: T) -> T {
        v4
    }
}

impl Build for u32 {
    type Layout = LayoutV4;
    type Builder<'a> = Builder<'a>;

    fn layout_in(config: &mut Config) -> &mut LayoutV4 {
        &mut config.intervals_v4
    }

    fn lookup(image: Image<'_>, layout: &LayoutV4, address: Self) -> Option<u64> {
        interval::lookup_v4(&image, layout, u64::from(address) << 32)
    }

    fn edges(
        image: Image<'_>,
        layout: &LayoutV4,
        edges: &mut Edges<Self>,
    ) -> Result<(), Malformed> {
        read_back::v4::edges(image, layout, edges)
    }
}

/// How the address space is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Division {
    /// The base-2 logarithm of the addresses in a slot.
    slot_bits: u8,
    /// Whether roots are wide.
    wide: bool,
}

impl Division {
    /// The division into small slots whose roots take 2^`doublings` times the least.
    fn small(doublings: u8) -> Self {
        // From some size on a root takes four words, which hold more prefixes than those of four slots, as
        // these are seldom full at once.
        let (halvings, wide) = match doublings {
            3.. => (doublings - 2, true),
            _ => (doublings, false),
        };
        Self {
            slot_bits: SMALL_SLOT_MOST - halvings,
            wide,
        }
    }

    /// All divisions that may serve a table of so many boundaries, that with the fewest slots first.
    fn all(boundaries: usize, lanes: u8) -> impl Iterator<Item = Self> {
        let large = (SMALL_SLOT_MOST + 1..=LARGE_SLOT_MOST).rev();
        let large = large.map(|slot_bits| Self {
            slot_bits,
            wide: false,
        });
        let large = large.filter(move |division| {
            division.slot_bits == LARGE_SLOT_MOST || division.root_words() <= boundaries
        });
        let large = large.filter(move |_| boundaries < LARGE);
        // With more than two answers all slots with a boundary need more than their root: then smaller slots
        // make a larger table of shorter lists, which was slower.
        let small = (0..if lanes == 0 { SMALL_DIVISIONS } else { 1 }).map(Self::small);
        let small = small
            .filter(move |division| division.root_words() <= boundaries * ROOT_WORDS_PER_BOUNDARY);
        large.chain(small)
    }

    fn is_large(self) -> bool {
        self.slot_bits > SMALL_SLOT_MOST
    }

    fn slots(self) -> u32 {
        1 << (32 - self.slot_bits)
    }

    /// Words of all roots.
    fn root_words(self) -> usize {
        let words = if self.wide { WIDE_ROOT_WORDS } else { 1 };
        (self.slots() * words) as usize
    }

    /// Prefixes that a root can hold.
    fn holds(self) -> usize {
        let further = if self.wide { WIDE_ROOT_WORDS - 1 } else { 0 };
        let first = if self.is_large() {
            INLINE_IN_LARGE_SLOT
        } else {
            INLINE_IN_ROOT
        };
        (first + further * INLINE_IN_WORD) as usize
    }

    /// Bits of a boundary in a list.
    fn boundary_bits(self) -> u32 {
        if self.is_large() { 32 } else { 16 }
    }

    /// Boundaries in a list's word.
    fn lanes(self) -> usize {
        (64 / self.boundary_bits()) as usize
    }

    /// The addresses of a slot, less one.
    fn mask(self) -> u32 {
        (1 << self.slot_bits) - 1
    }
}

/// Builds an IPv4 table.
pub struct Builder<'a> {
    map: &'a SourceMap<u32>,
    answers: Answers,
    division: Division,
    summary: SummaryBitmap,
}

impl<'a> sealed::Builder<'a, u32> for Builder<'a> {
    /// Takes the largest slots of which but few need more than their root. If there are none such, a large
    /// table gets slots of 2^16 addresses, a small one the smallest that its size allows.
    fn new(map: &'a SourceMap<u32>, answers: Answers) -> Self {
        let boundaries = map.boundaries_len();
        let mut last = Division::small(0);
        for division in Division::all(boundaries, answers.lanes) {
            let builder = Self::divided(map, answers, division);
            if answers.lanes == 0 && builder.suffices() {
                return builder.summarized();
            }
            if division.is_large() {
                last = division;
            }
        }
        Self::divided(map, answers, last).summarized()
    }

    fn answers(&self) -> Answers {
        self.answers
    }

    fn root_words(&self) -> usize {
        self.division.root_words()
    }

    fn roots(&self) -> Store {
        let slots = self.division.slots() as usize;
        if self.division.wide {
            Store {
                roots: vec![WideRoot::default(); slots],
                ..Store::default()
            }
        } else {
            Store::of_words(slots, &self.summary)
        }
    }

    fn summary(&self) -> &[u64] {
        &self.summary.words
    }

    fn layout(&self, answers: Answers, summary: u32, store: &Store) -> LayoutV4 {
        LayoutV4 {
            answers,
            summary,
            part_shift: 32 + self.summary.part_bits,
            near: store.is_near(),
            summarized: (!self.summary.words.is_empty()).into(),
            default_answer: self.summary.default_answer,
            // The guess, its neighbour, and a halving for each bit.
            steps: store.halvings() + 2,
            ..LayoutV4::of_slots(self.division.slot_bits, self.division.wide)
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
            (Some(outside), _) => Shape::Inline { outside },
            (None, boundaries) if boundaries <= longest => Shape::List(self.list_words(boundaries)),
            (None, boundaries) => Shape::Wide(self.bitmap_words(boundaries)),
        };
        let mut shapes: Vec<Shape> = slots.iter().map(shape).collect();
        let inline = |shape: &&Shape| matches!(shape, Shape::Inline { .. });
        if shapes.iter().filter(inline).count() * UNIFORM_PER_INLINE > shapes.len() {
            for (shape, slot) in shapes.iter_mut().zip(slots) {
                if let (Shape::Uniform, Some(outside)) = (&shape, self.outside(slot)) {
                    *shape = Shape::Inline { outside };
                }
            }
        }
        shapes
    }

    fn push(&self, slot: &Slot, shape: Shape, store: &mut Store) {
        let starts = self.starts(slot);
        let answers = self.map.answers().get(slot.first..slot.inner.end);
        let answers = answers.unwrap_or_default();
        let first = answers.first().copied().unwrap_or_default();
        let place = index(store.words.len());
        let words = &mut store.words;
        let root = match shape {
            Shape::Inline { outside } => {
                return self.hold(slot, outside, store.root(slot.root));
            }
            Shape::Uniform => uniform(&self.answers, self.map.palette(), first),
            Shape::List(_) => {
                let lanes = self.division.lanes();
                let length = starts.len().div_ceil(lanes);
                let padding = length * lanes - starts.len();
                store.longest = store.longest.max(length);
                let zeros = std::iter::repeat_n(0, padding);
                pack(
                    words,
                    self.division.boundary_bits(),
                    zeros.chain(starts.iter().map(|start| self.low(*start).into())),
                );
                pack_answers(words, self.answers.lanes, padding, answers);
                let odd = (first as usize ^ padding) & 1 == 1;
                Root::new(KindV4::List as u8, odd, index(length), place)
            }
            Shape::Wide(_) if self.answers.lanes == 0 => {
                self.push_bitmap(words, starts, first == 1);
                Root::new(KindV4::Bitmap as u8, false, 0, place)
            }
            Shape::Wide(_) => {
                self.push_ranks(words, starts);
                pack_answers(words, self.answers.lanes, 0, answers);
                Root::new(KindV4::Bitmap as u8, false, index(self.rank_words()), place)
            }
        };
        if let Some(word) = store.root(slot.root).first_mut() {
            *word = root.0;
        }
    }
}

impl<'a> Builder<'a> {
    /// Without a summary bitmap.
    fn divided(map: &'a SourceMap<u32>, answers: Answers, division: Division) -> Self {
        Self {
            map,
            answers,
            division,
            summary: SummaryBitmap::default(),
        }
    }

    /// With a summary bitmap, if the table is large enough.
    fn summarized(self) -> Self {
        let summary = SummaryBitmap::of(32, self.map.boundaries_len(), || steps(self.map));
        Self { summary, ..self }
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
        if self.answers.lanes > 0 || slot.inner.len() > 2 * holds {
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
            blocks(first, last).map(|(first, host_bits)| inline_prefix(self.low(first), host_bits))
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
        let inline = if self.division.is_large() {
            some(INLINE_IN_LARGE_SLOT, 30)
        } else {
            some(INLINE_IN_ROOT, 20)
        };
        *first = Root::new(KindV4::Inline as u8, outside == 1, 0, 0).0 | inline;
        for word in others {
            *word = some(INLINE_IN_WORD, 16);
        }
    }

    fn list_words(&self, boundaries: usize) -> usize {
        let words = boundaries.div_ceil(self.division.lanes());
        words + answer_words(words * self.division.lanes() + 1, self.answers.lanes)
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
        if self.answers.lanes == 0 {
            self.answer_bitmap_words() as usize
        } else {
            self.rank_words() + answer_words(boundaries + 1, self.answers.lanes)
        }
    }

    /// The most boundaries that a slot has as a list, so that the bitmaps of the others take no more
    /// than `budget` words.
    fn longest_list(&self, counts: &[usize], budget: usize) -> usize {
        if self.division.is_large() {
            return usize::MAX;
        }
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

/// Each step of the map: its first and last address, and the palette index of its answer.
fn steps(map: &SourceMap<u32>) -> impl Iterator<Item = Step> {
    let starts = map.starts();
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]);
    let spans = starts.iter().zip(lasts).zip(map.answers());
    spans.map(|((first, last), answer)| (u64::from(*first), u64::from(last), *answer))
}

/// A table's index or length, which its size limit keeps below 2^29.
#[expect(clippy::cast_possible_truncation, reason = "as the comment says")]
pub(super) fn index(number: usize) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests;
