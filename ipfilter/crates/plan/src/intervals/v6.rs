//! IPv6: a root per /19 of 2000::/3 and two for the rest, boundaries of 64 bits or of 128, and fans
//! where these are many.

use ipfilter_ebpf::{
    abi::ApiSet,
    interval::{
        self, FAN_DEPTH, FAN_HEADER, Fan, Image, Kind, Layout, ROOTS_V6, Root, SLOT_ABOVE,
        SLOT_BELOW,
    },
};

use super::{
    Family, Shape, Slot, SourceMap, Store, answer_words, pack_answers,
    sealed::{self, Build},
    slots,
    v4::index,
};

/// The lowest address of 2000::/3.
const DENSE: u128 = 0x2000 << 112;

/// The addresses of one slot there, a /19.
const SPAN: u128 = 1 << 109;

/// Up to this many boundaries stay a list where the table is small: its steps are what costs then,
/// and a fan takes as long as ten of them.
const SHORT_LIST: usize = 16;

/// The same where the table is large: the misses cost then, and a fan makes more of them.
const LONG_LIST: usize = 64;

/// The boundaries from which on a table is large: it outgrows a core's own cache.
const LARGE: usize = 1 << 16;

/// The base-2 logarithm of the boundaries that a fan leaves to each of its parts on average. With
/// two each, the parts' roots take half of what the boundaries do; fewer, and the misses in the
/// larger table take back what the shorter search saves.
const PER_PART: u32 = 1;

/// More parts than memory holds boundaries for.
const MAX_FAN_BITS: u32 = 28;

impl Family for u128 {
    const NAME: &'static str = "IPv6";
}

impl Build for u128 {
    type Builder<'a> = Builder<'a>;

    fn lookup(image: Image<'_>, layout: &Layout, address: Self) -> Option<ApiSet> {
        interval::lookup_v6(image.words, layout, high(address), low(address))
    }
}

/// Where in a slot a node is.
#[derive(Clone, Copy)]
struct Depth {
    /// The fans above it.
    fans: u32,
    /// Whether one of these turned to the low half, so that all here is in one /64.
    low: bool,
}

impl Depth {
    const TOP: Self = Self {
        fans: 0,
        low: false,
    };
}

/// How a slot, or a fan's part, is stored.
enum Form {
    Uniform,
    /// One half of each boundary.
    List,
    /// Both halves.
    Wide,
    Fan(Parts),
}

/// The division of the smallest prefix around a slot's boundaries.
struct Parts {
    /// Its lowest address.
    base: u128,
    /// Whether the prefix is longer than a /64 and the first such on the way.
    turns: bool,
    /// The base-2 logarithm of the number of parts.
    bits: u32,
    /// That of the numbers of the half in each part.
    shift: u32,
    /// Whether these are numbers of the low half.
    low: bool,
}

impl Parts {
    /// The parts for boundaries from `first` to `last`, of which there are `count`.
    fn new(first: u128, last: u128, count: usize, depth: Depth) -> Self {
        let low = high(first) == high(last);
        let differing = 128 - (first ^ last).leading_zeros();
        let in_half = differing.saturating_sub(if low { 0 } else { 64 });
        let wanted = count
            .ilog2()
            .saturating_sub(PER_PART)
            .clamp(1, MAX_FAN_BITS);
        let bits = wanted.min(in_half);
        let host = u128::MAX.checked_shr(128 - differing).unwrap_or(0);
        let host = if low {
            host
        } else {
            host | u128::from(u64::MAX)
        };
        Self {
            base: first & !host,
            turns: low && !depth.low,
            bits,
            shift: in_half - bits,
            low,
        }
    }

    fn count(&self) -> usize {
        1 << self.bits
    }

    /// The slots that the parts are, numbered from 0. `step` holds at the lowest address.
    fn slots(&self, map: &SourceMap<u128>, step: usize) -> Vec<Slot> {
        let size = 1u128 << (self.shift + if self.low { 0 } else { 64 });
        let spans = (0..self.count()).map(|part| {
            let lowest = self.base + size * part as u128;
            (part, lowest, lowest + (size - 1))
        });
        slots(map, step, spans)
    }

    fn below(&self, depth: Depth) -> Depth {
        Depth {
            fans: depth.fans + 1,
            low: self.low,
        }
    }
}

/// Builds an IPv6 table.
pub struct Builder<'a> {
    map: &'a SourceMap<u128>,
    lanes: u8,
    /// The most boundaries that stay a list.
    longest: usize,
}

impl<'a> sealed::Builder<'a, u128> for Builder<'a> {
    fn new(map: &'a SourceMap<u128>, lanes: u8) -> Self {
        let large = map.boundaries_len() >= LARGE;
        Self {
            map,
            lanes,
            longest: if large { LONG_LIST } else { SHORT_LIST },
        }
    }

    fn root_words(&self) -> usize {
        ROOTS_V6 as usize
    }

    fn roots(&self) -> Store {
        Store {
            words: vec![0; self.root_words()],
            roots: Vec::new(),
        }
    }

    fn sieve(&self) -> &[u64] {
        &[]
    }

    fn division(&self) -> Layout {
        Layout::default()
    }

    fn slots(&self) -> Vec<Slot> {
        let below = (SLOT_BELOW as usize, 0, DENSE - 1);
        let above = (SLOT_ABOVE as usize, DENSE * 2, u128::MAX);
        let dense = (0..SLOT_BELOW).map(|slot| {
            let lowest = DENSE + SPAN * u128::from(slot);
            (slot as usize, lowest, lowest + (SPAN - 1))
        });
        let spans = std::iter::once(below).chain(dense).chain([above]);
        slots(self.map, 0, spans)
    }

    fn shapes(&self, slots: &[Slot]) -> Vec<Shape> {
        let shape = |slot| {
            let words = self.size(slot, Depth::TOP);
            match self.form(slot, Depth::TOP) {
                Form::Uniform => Shape::Uniform,
                Form::List => Shape::List(words),
                Form::Wide | Form::Fan(_) => Shape::Wide(words),
            }
        };
        slots.iter().map(shape).collect()
    }

    fn push(&self, slot: &Slot, _: Shape, store: &mut Store) {
        let root = self.push_node(slot, Depth::TOP, &mut store.words);
        if let Some(word) = store.root(slot.root).first_mut() {
            *word = root.0;
        }
    }
}

impl Builder<'_> {
    fn starts(&self, slot: &Slot) -> &[u128] {
        self.map
            .starts()
            .get(slot.inner.clone())
            .unwrap_or_default()
    }

    fn form(&self, slot: &Slot, depth: Depth) -> Form {
        match self.starts(slot) {
            [] => Form::Uniform,
            [first, .., last] if slot.inner.len() > self.longest && depth.fans < FAN_DEPTH => {
                Form::Fan(Parts::new(*first, *last, slot.inner.len(), depth))
            }
            starts if depth.low || starts.iter().all(|start| low(*start) == 0) => Form::List,
            _ => Form::Wide,
        }
    }

    /// The words that a slot takes beside its root.
    fn size(&self, slot: &Slot, depth: Depth) -> usize {
        let boundaries = slot.inner.len();
        let answers = answer_words(boundaries + 1, self.lanes);
        match self.form(slot, depth) {
            Form::Uniform => 0,
            Form::List => boundaries + answers,
            Form::Wide => 2 * boundaries + answers,
            Form::Fan(parts) => {
                let slots = parts.slots(self.map, slot.first);
                let sizes = slots.iter().map(|part| self.size(part, parts.below(depth)));
                FAN_HEADER as usize + parts.count() + sizes.sum::<usize>()
            }
        }
    }

    /// Appends a slot's node and those below it; returns its root.
    fn push_node(&self, slot: &Slot, depth: Depth, words: &mut Vec<u64>) -> Root {
        let starts = self.starts(slot);
        let answers = self.map.answers().get(slot.first..slot.inner.end);
        let answers = answers.unwrap_or_default();
        let first = answers.first().copied().unwrap_or_default();
        let place = index(words.len());
        let kind = match self.form(slot, depth) {
            Form::Uniform => return Root::new(Kind::Uniform, false, 0, first),
            Form::Fan(parts) => return self.push_fan(slot, &parts, depth, words),
            Form::List if depth.low => {
                words.extend(starts.iter().copied().map(low));
                Kind::List
            }
            Form::List => {
                words.extend(starts.iter().copied().map(high));
                Kind::List
            }
            Form::Wide => {
                words.extend(starts.iter().copied().map(high));
                words.extend(starts.iter().copied().map(low));
                Kind::Wide
            }
        };
        pack_answers(words, self.lanes, 0, answers);
        Root::new(kind, first & 1 == 1, index(starts.len()), place)
    }

    fn push_fan(&self, slot: &Slot, parts: &Parts, depth: Depth, words: &mut Vec<u64>) -> Root {
        let place = words.len();
        let answer = |step: usize| self.map.answers().get(step).copied().unwrap_or_default();
        let all = |step| Root::new(Kind::Uniform, false, 0, answer(step)).0;
        let base = if parts.low {
            low(parts.base)
        } else {
            high(parts.base)
        };
        words.extend([
            high(parts.base),
            base,
            all(slot.first),
            all(slot.inner.end - 1),
        ]);
        let roots = words.len();
        words.resize(roots + parts.count(), 0);
        for part in parts.slots(self.map, slot.first) {
            let root = self.push_node(&part, parts.below(depth), words);
            if let Some(word) = words.get_mut(roots + part.root) {
                *word = root.0;
            }
        }
        let fan = Fan::new(parts.turns, parts.bits, parts.shift);
        Root::new(Kind::Parts, false, fan.0, index(place))
    }
}

/// The high 64 bits.
fn high(address: u128) -> u64 {
    (address >> 64) as u64
}

/// The low 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is asked for"
)]
fn low(address: u128) -> u64 {
    address as u64
}
