//! IPv6: roots for equal parts of the smallest prefix around the boundaries in 2000::/3 and two for the rest,
//! boundaries of 64 bits or of 128, and fans where these are many.

use ipfilter_ebpf::{
    abi::Config,
    interval::{self, Answers, FAN_DEPTH, FAN_HEADER, Fan, Image, KindV6, LayoutV6, Root},
};

use super::{
    Family, Shape, Slot, SourceMap, Store, answer_words, pack_answers,
    read_back::{self, Edges},
    sealed::{self, Build},
    slots,
    summary_bitmap::{Step, SummaryBitmap},
    uniform,
    v4::index,
};
use crate::Malformed;

/// The lowest address of 2000::/3, which has most addresses that are in use.
const GLOBAL: u128 = 0x2000 << 112;

/// The highest one.
const GLOBAL_LAST: u128 = GLOBAL | u128::MAX >> 3;

/// The most slots: 16 MiB of roots.
const MAX_SLOT_BITS: u32 = 21;

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

    fn pick<T>(_: T, v6: T) -> T {
        v6
    }
}

impl Build for u128 {
    type Layout = LayoutV6;
    type Builder<'a> = Builder<'a>;

    fn layout_in(config: &mut Config) -> &mut LayoutV6 {
        &mut config.intervals_v6
    }

    fn lookup(image: Image<'_>, layout: &LayoutV6, address: Self) -> Option<u64> {
        interval::lookup_v6(&image, layout, high(address), low(address))
    }

    fn edges(
        image: Image<'_>,
        layout: &LayoutV6,
        edges: &mut Edges<Self>,
    ) -> Result<(), Malformed> {
        read_back::v6::edges(image, layout, edges)
    }
}

/// The prefix that slots divide, and how.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// The high half of its lowest address.
    base: u64,
    /// The base-2 logarithm of its /64s.
    bits: u32,
    /// That of the slots.
    slot_bits: u32,
}

impl Window {
    /// The smallest prefix around the boundaries in 2000::/3, with about as many slots as there are boundaries,
    /// or half as many where these are so many that roots are not near.
    fn of(map: &SourceMap<u128>) -> Self {
        let starts = map.starts();
        let from = starts.partition_point(|start| *start <= GLOBAL);
        let to = starts.partition_point(|start| *start <= GLOBAL_LAST);
        let inside = starts.get(from..to).unwrap_or_default();
        let (first, last) = match inside {
            [first, .., last] => (high(*first), high(*last)),
            [only] => (high(*only), high(*only)),
            [] => (high(GLOBAL), high(GLOBAL)),
        };
        let bits = 64 - (first ^ last).leading_zeros();
        let base = first & !u64::MAX.checked_shr(64 - bits).unwrap_or(0);
        let wanted = match inside.len().checked_ilog2().unwrap_or(0) {
            many @ 13.. => many - 1,
            few => few + 1,
        };
        Self {
            base,
            bits,
            slot_bits: wanted.min(bits).min(MAX_SLOT_BITS),
        }
    }

    fn slots(self) -> usize {
        1 << self.slot_bits
    }

    /// The base-2 logarithm of the /64s in a slot.
    fn slot_shift(self) -> u32 {
        self.bits - self.slot_bits
    }

    /// The first and the last address of a slot.
    fn span(self, slot: usize) -> (u128, u128) {
        let size = 1_u128 << (64 + self.slot_shift());
        let first = (u128::from(self.base) << 64) + size * slot as u128;
        (first, first + (size - 1))
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
    answers: Answers,
    window: Window,
    summary: SummaryBitmap,
    /// The most boundaries that stay a list.
    longest: usize,
}

impl<'a> sealed::Builder<'a, u128> for Builder<'a> {
    fn new(map: &'a SourceMap<u128>, answers: Answers) -> Self {
        let boundaries = map.boundaries_len();
        let window = Window::of(map);
        let bits = u8::try_from(window.bits).unwrap_or(64);
        Self {
            map,
            answers,
            window,
            summary: SummaryBitmap::of(bits, boundaries, || steps(map, window)),
            longest: if boundaries >= LARGE {
                LONG_LIST
            } else {
                SHORT_LIST
            },
        }
    }

    fn answers(&self) -> Answers {
        self.answers
    }

    /// Those of the slots, and of what lies below and above all of them.
    fn root_words(&self) -> usize {
        self.window.slots() + 2
    }

    fn roots(&self) -> Store {
        Store::of_words(self.root_words(), &self.summary)
    }

    fn summary(&self) -> &[u64] {
        &self.summary.words
    }

    fn layout(&self, answers: Answers, summary: u32, store: &Store) -> LayoutV6 {
        LayoutV6 {
            answers,
            base: self.window.base,
            slots: index(self.window.slots()),
            summary,
            slot_shift: u8::try_from(self.window.slot_shift()).unwrap_or(0),
            part_shift: self.summary.part_bits,
            near: store.is_near(),
            summarized: (!self.summary.words.is_empty()).into(),
            default_answer: self.summary.default_answer,
            steps: store.halvings(),
            summary_words: index(self.summary.words.len()),
            reserved: 0,
            unused: [0; 2],
        }
    }

    fn slots(&self) -> Vec<Slot> {
        let count = self.window.slots();
        let (first, _) = self.window.span(0);
        let (_, last) = self.window.span(count - 1);
        let below = first.checked_sub(1).map(|end| (count, 0, end));
        let above = last
            .checked_add(1)
            .map(|start| (count + 1, start, u128::MAX));
        let inside = (0..count).map(|slot| {
            let (first, last) = self.window.span(slot);
            (slot, first, last)
        });
        slots(self.map, 0, below.into_iter().chain(inside).chain(above))
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
        let root = self.push_node(slot, Depth::TOP, store);
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
        let answers = answer_words(boundaries + 1, self.answers.lanes);
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
    fn push_node(&self, slot: &Slot, depth: Depth, store: &mut Store) -> Root {
        let starts = self.starts(slot);
        let answers = self.map.answers().get(slot.first..slot.inner.end);
        let answers = answers.unwrap_or_default();
        let first = answers.first().copied().unwrap_or_default();
        let words = &mut store.words;
        let place = index(words.len());
        let kind = match self.form(slot, depth) {
            Form::Uniform => return self.all(first),
            Form::Fan(parts) => return self.push_fan(slot, &parts, depth, store),
            Form::List if depth.low => {
                words.extend(starts.iter().copied().map(low));
                KindV6::List
            }
            Form::List => {
                words.extend(starts.iter().copied().map(high));
                KindV6::List
            }
            Form::Wide => {
                words.extend(starts.iter().copied().map(high));
                words.extend(starts.iter().copied().map(low));
                KindV6::Wide
            }
        };
        pack_answers(words, self.answers.lanes, 0, answers);
        store.longest = store.longest.max(starts.len());
        Root::new(kind as u8, first & 1 == 1, index(starts.len()), place)
    }

    fn push_fan(&self, slot: &Slot, parts: &Parts, depth: Depth, store: &mut Store) -> Root {
        let place = store.words.len();
        let answer = |step: usize| self.map.answers().get(step).copied().unwrap_or_default();
        let all = |step| self.all(answer(step)).0;
        let base = if parts.low {
            low(parts.base)
        } else {
            high(parts.base)
        };
        store.words.extend([
            high(parts.base),
            base,
            all(slot.first),
            all(slot.inner.end - 1),
        ]);
        let roots = store.words.len();
        store.words.resize(roots + parts.count(), 0);
        for part in parts.slots(self.map, slot.first) {
            let root = self.push_node(&part, parts.below(depth), store);
            if let Some(word) = store.words.get_mut(roots + part.root) {
                *word = root.0;
            }
        }
        let fan = Fan::new(parts.turns, parts.bits, parts.shift);
        Root::new(KindV6::Fan as u8, false, fan.0, index(place))
    }

    /// The root of what has one answer.
    fn all(&self, answer: u32) -> Root {
        uniform(&self.answers, self.map.palette(), answer)
    }
}

/// Each step of the map that reaches into the window: its first and last /64 there, and the palette index of
/// its answer.
fn steps(map: &SourceMap<u128>, window: Window) -> impl Iterator<Item = Step> {
    let starts = map.starts();
    let lasts = starts
        .iter()
        .skip(1)
        .map(|next| next - 1)
        .chain([u128::MAX]);
    let spans = starts.iter().zip(lasts).zip(map.answers());
    let size = u64::MAX.checked_shr(64 - window.bits).unwrap_or(0);
    let end = window.base | size;
    spans.filter_map(move |((first, last), answer)| {
        let (first, last) = (high(*first).max(window.base), high(last).min(end));
        (first <= last).then(|| (first - window.base, last - window.base, *answer))
    })
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
