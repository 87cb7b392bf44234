//! Interval tables: a [`SourceMap`] laid out for the kernel's bounded search.
//!
//! The layout and the lookup are [`ipfilter_ebpf::interval`]'s; here are the words made, in one
//! sweep over the map, ready to be copied into a memory-mapped array. Knows no map and no file
//! descriptor.

mod read_back;
mod summary_bitmap;
mod v4;
mod v6;

use std::{marker::PhantomData, ops::Range};

use ipfilter_ebpf::{
    abi::ApiSet,
    interval::{Answers, DIRECT_APIS, Image, Root, WideRoot},
};

pub(crate) use read_back::interval_answers;
use sealed::Builder as _;
use summary_bitmap::SummaryBitmap;

use super::SourceMap;
use ipfilter_addresses::Address;

/// The most words a table can have: kernels before 5.11 refuse arrays of 4 GiB and more, and a
/// root's length has 29 bits.
pub const MAX_WORDS: usize = (1 << 29) - 1024;

/// A map that needs a larger table than the kernel takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the {family} interval table would take {words} words of 8 bytes, but {limit} fit: \
     use `--lookup trie`, or fewer prefixes"
)]
pub struct TableTooLarge {
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// The words it would take.
    pub words: usize,
    /// The words that fit.
    pub limit: usize,
}

/// A family whose addresses an interval table can hold.
pub trait Family: Address + sealed::Build {
    /// The family's name as users write it.
    const NAME: &'static str;

    /// What concerns this family, of what concerns either.
    fn pick<T>(v4: T, v6: T) -> T;
}

/// What is read first is near if it has up to so many words. The kernel copies it in one piece, 128 KiB at
/// most.
const NEAR_WORDS: usize = 1 << 14;

mod sealed {
    use std::fmt::Debug;

    use ipfilter_ebpf::abi::Config;

    use super::{Answers, Image, Shape, Slot, SourceMap, Store, read_back::Edges};
    use crate::Malformed;

    /// A family's tables: how they are built and read.
    pub trait Build: Sized {
        /// What a program must know of a table beside its words.
        type Layout: Copy + Debug + Default + PartialEq + Eq;

        /// What builds them.
        type Builder<'a>: Builder<'a, Self>;

        /// Where a program finds it.
        fn layout_in(config: &mut Config) -> &mut Self::Layout;

        /// Looks `address` up.
        fn lookup(image: Image<'_>, layout: &Self::Layout, address: Self) -> Option<u64>;

        /// Adds the edges of a table to `edges`.
        fn edges(
            image: Image<'_>,
            layout: &Self::Layout,
            edges: &mut Edges<Self>,
        ) -> Result<(), Malformed>;
    }

    /// Builds one table.
    pub trait Builder<'a, A: Build> {
        /// Decides how the address space is divided into slots.
        fn new(map: &'a SourceMap<A>, answers: Answers) -> Self;

        /// How answers are found, except where the palette is.
        fn answers(&self) -> Answers;

        /// Words of roots.
        fn root_words(&self) -> usize;

        /// The roots, without their values.
        fn roots(&self) -> Store;

        /// The words that follow the palette; none if there is no summary bitmap.
        fn summary(&self) -> &[u64];

        /// What a program must know of `store`, whose summary bitmap, if there is one, begins at `summary`.
        fn layout(&self, answers: Answers, summary: u32, store: &Store) -> A::Layout;

        /// Every slot, in the order of its addresses.
        fn slots(&self) -> Vec<Slot>;

        /// What each slot's node will be.
        fn shapes(&self, slots: &[Slot]) -> Vec<Shape>;

        /// Appends the node of a slot, and writes its root.
        fn push(&self, slot: &Slot, shape: Shape, store: &mut Store);
    }
}

/// One slot of the address space that has a root of its own.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The number of its root.
    root: usize,
    /// The step that holds at the slot's lowest address.
    first: usize,
    /// The steps that begin further inside.
    inner: Range<usize>,
}

/// How a slot is stored, and the words of its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In its root alone: one answer.
    Uniform,
    /// In its root alone: prefixes, and the answer outside them (IPv4).
    Inline {
        /// The palette index of that answer.
        outside: u32,
    },
    /// As boundaries.
    List(usize),
    /// As a bitmap (IPv4), or with boundaries of two words or fans (IPv6).
    Wide(usize),
}

/// Where a table's bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of roots and palette, which even an empty table has, and of the summary bitmap.
    pub roots: usize,
    /// Bytes of slots that are a list of boundaries of one kind, with their answers.
    pub lists: usize,
    /// Bytes of slots that have more: bitmaps (IPv4), boundaries past a /64 or fans (IPv6).
    pub wide: usize,
}

impl Sizes {
    /// All of it.
    #[must_use]
    pub fn total(self) -> usize {
        self.roots + self.lists + self.wide
    }
}

/// A table's words and roots, wherever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store {
    words: Vec<u64>,
    roots: Vec<WideRoot>,
    near: Vec<u64>,
    /// Words of the longest list (IPv4), or boundaries of it (IPv6).
    longest: usize,
}

impl Store {
    /// So many roots of one word each, which are read first unless there is a summary bitmap.
    fn of_words(roots: usize, summary: &SummaryBitmap) -> Self {
        if roots <= NEAR_WORDS && summary.words.is_empty() {
            Self {
                near: vec![0; roots],
                ..Self::default()
            }
        } else {
            Self {
                words: vec![0; roots],
                ..Self::default()
            }
        }
    }

    /// The words of the root with this number.
    fn root(&mut self, number: usize) -> &mut [u64] {
        if !self.near.is_empty() {
            self.near.get_mut(number..=number).unwrap_or_default()
        } else if !self.roots.is_empty() {
            self.roots.get_mut(number).map_or(&mut [], |root| root)
        } else {
            self.words.get_mut(number..=number).unwrap_or_default()
        }
    }

    /// 1 if anything is near.
    fn is_near(&self) -> u8 {
        (!self.near.is_empty()).into()
    }

    /// Halvings that the longest list needs at most.
    fn halvings(&self) -> u8 {
        self.longest
            .checked_ilog2()
            .map_or(0, |bits| u8::try_from(bits + 1).unwrap_or(u8::MAX))
    }
}

/// An interval table and what else a lookup must know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntervalTable<A: Family> {
    store: Store,
    layout: A::Layout,
    sizes: Sizes,
    ranges: usize,
    family: PhantomData<A>,
}

impl<A: Family> IntervalTable<A> {
    /// The table that answers as `map` does.
    ///
    /// # Errors
    /// It would be too large. Neither roots nor nodes are allocated then.
    pub fn new(map: &SourceMap<A>) -> Result<Self, TableTooLarge> {
        Self::within(map, MAX_WORDS)
    }

    fn within(map: &SourceMap<A>, limit: usize) -> Result<Self, TableTooLarge> {
        Self::build(&A::Builder::new(map, answers(map.palette())), map, limit)
    }

    fn build(
        builder: &A::Builder<'_>,
        map: &SourceMap<A>,
        limit: usize,
    ) -> Result<Self, TableTooLarge> {
        let slots = builder.slots();
        let shapes = builder.shapes(&slots);
        let fixed = builder.root_words() + map.palette().len() + builder.summary().len();
        let sizes = sizes(fixed, &shapes);
        let total = sizes.total() / size_of::<u64>();
        let too_large = || TableTooLarge {
            family: A::NAME,
            words: total,
            limit,
        };
        if total > limit {
            return Err(too_large());
        }
        let mut store = builder.roots();
        store.words.reserve_exact(total - builder.root_words());
        let palette = u32::try_from(store.words.len()).map_err(|_| too_large())?;
        store
            .words
            .extend(map.palette().iter().map(|apis| apis.bits()));
        let summary = u32::try_from(store.words.len()).map_err(|_| too_large())?;
        let is_near = builder.summary().len() <= NEAR_WORDS;
        if !is_near {
            store.words.extend(builder.summary());
        }
        for (slot, shape) in slots.iter().zip(shapes) {
            builder.push(slot, shape, &mut store);
        }
        // Only now: while roots are written, they are what is near, if anything is.
        if is_near && store.near.is_empty() {
            store.near = builder.summary().to_vec();
        }
        let answers = Answers {
            palette,
            ..builder.answers()
        };
        Ok(Self {
            layout: builder.layout(answers, summary, &store),
            store,
            sizes,
            ranges: map.starts().len(),
            family: PhantomData,
        })
    }

    /// What to copy into the maps, which are as long as its parts.
    #[must_use]
    pub fn image(&self) -> Image<'_> {
        Image {
            words: &self.store.words,
            roots: &self.store.roots,
            near: &self.store.near,
        }
    }

    /// What the program must know beside the words.
    #[must_use]
    pub fn layout(&self) -> &A::Layout {
        &self.layout
    }

    /// Where the bytes go.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// How many ranges of addresses have an answer of their own.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.ranges
    }

    /// Which APIs `address` may call, by the very code that the kernel runs.
    #[must_use]
    pub fn at(&self, address: A) -> ApiSet {
        let bits = A::lookup(self.image(), &self.layout, address);
        bits.map_or(ApiSet::NONE, ApiSet::from_bits)
    }
}

/// How the answers of a palette are found, except where it is.
fn answers(palette: &[ApiSet]) -> Answers {
    let answer = |index: usize| palette.get(index).map_or(0, |apis| apis.bits());
    let fits = |apis: &ApiSet| apis.bits() >> DIRECT_APIS == 0;
    Answers {
        pair: [answer(0), answer(1)],
        palette: 0,
        lanes: lanes(palette.len()),
        direct: palette.iter().all(fits).into(),
        reserved: [0; 2],
    }
}

/// The root of a slot with one answer, which is the palette's with this index.
fn uniform(answers: &Answers, palette: &[ApiSet], index: u32) -> Root {
    let answer = palette.get(index as usize).map_or(0, |apis| apis.bits());
    Root::uniform(if answers.direct == 1 {
        answer
    } else {
        index.into()
    })
}

/// The base-2 logarithm of the palette indices in a word; 0 if none are stored.
fn lanes(palette: usize) -> u8 {
    match palette {
        0..=2 => 0,
        3..=0x100 => 3,
        0x101..=0x1_0000 => 2,
        _ => 1,
    }
}

/// The words that the palette indices of `ranks` ranks take.
fn answer_words(ranks: usize, lanes: u8) -> usize {
    if lanes == 0 {
        0
    } else {
        ranks.div_ceil(1 << lanes)
    }
}

/// Where the bytes of a table go that begins with `fixed` words of roots and palette.
fn sizes(fixed: usize, shapes: &[Shape]) -> Sizes {
    let mut sizes = Sizes::default();
    for shape in shapes {
        match shape {
            Shape::Uniform | Shape::Inline { .. } => {}
            Shape::List(words) => sizes.lists += words,
            Shape::Wide(words) => sizes.wide += words,
        }
    }
    sizes.roots = fixed;
    sizes.roots *= size_of::<u64>();
    sizes.lists *= size_of::<u64>();
    sizes.wide *= size_of::<u64>();
    sizes
}

/// The slots `(root, lowest address, highest address)`, which follow each other without a gap, with
/// the steps of `map` that concern each. `next` is the step that holds where the first begins.
fn slots<A: Address>(
    map: &SourceMap<A>,
    mut next: usize,
    spans: impl Iterator<Item = (usize, A, A)>,
) -> Vec<Slot> {
    let starts = map.starts();
    let begins_by = |step: usize, address: A| starts.get(step).is_some_and(|s| *s <= address);
    spans
        .map(|(root, lowest, highest)| {
            if begins_by(next, lowest) {
                next += 1;
            }
            let inside = next;
            while begins_by(next, highest) {
                next += 1;
            }
            Slot {
                root,
                first: inside.saturating_sub(1),
                inner: inside..next,
            }
        })
        .collect()
}

/// Appends `values`, each below 2^`bits`, packed from the low bits up; `bits` divides 64.
fn pack(words: &mut Vec<u64>, bits: u32, values: impl Iterator<Item = u64>) {
    let (mut word, mut filled) = (0, 0);
    for value in values {
        word |= value << filled;
        filled += bits;
        if filled == 64 {
            words.push(word);
            (word, filled) = (0, 0);
        }
    }
    if filled > 0 {
        words.push(word);
    }
}

/// Appends the palette indices of a node whose rank `padding` is the first of `answers`.
fn pack_answers(words: &mut Vec<u64>, lanes: u8, padding: usize, answers: &[u32]) {
    if lanes > 0 {
        let padding = std::iter::repeat_n(0, padding);
        let values = padding.chain(answers.iter().copied().map(u64::from));
        pack(words, 64 >> lanes, values);
    }
}

#[cfg(test)]
mod tests;
