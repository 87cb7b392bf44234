//! IPv6: a root per /19 of 2000::/3 and two for the rest, boundaries of 64 bits or of 128.

use ipfilter_ebpf::{
    abi::ApiSet,
    interval::{self, Kind, Layout, ROOTS_V6, Root, SLOT_ABOVE, SLOT_BELOW},
};

use super::{Family, Shape, Slot, SourceMap, answer_words, pack_answers, sealed::Build, v4::index};

/// The lowest address of 2000::/3.
const DENSE: u128 = 0x2000 << 112;

/// The addresses of one slot there, a /19.
const SPAN: u128 = 1 << 109;

impl Family for u128 {
    const NAME: &'static str = "IPv6";
}

impl Build for u128 {
    const ROOTS: usize = ROOTS_V6 as usize;

    fn slots(map: &SourceMap<Self>) -> Vec<Slot> {
        let below = (SLOT_BELOW as usize, 0, DENSE - 1);
        let above = (SLOT_ABOVE as usize, DENSE * 2, Self::MAX);
        let dense = (0..SLOT_BELOW).map(|slot| {
            let lowest = DENSE + SPAN * Self::from(slot);
            (slot as usize, lowest, lowest + (SPAN - 1))
        });
        let spans = std::iter::once(below).chain(dense).chain([above]);
        super::slots(map, spans)
    }

    fn shapes(map: &SourceMap<Self>, slots: &[Slot], lanes: u32) -> Vec<Shape> {
        let shape = |slot: &Slot| {
            let answers = answer_words(slot.inner.len() + 1, lanes);
            let starts = map.starts().get(slot.inner.clone()).unwrap_or_default();
            match starts {
                [] => Shape::Uniform,
                _ if starts.iter().all(|start| low(*start) == 0) => {
                    Shape::List(starts.len() + answers)
                }
                _ => Shape::Wide(starts.len() * 2 + answers),
            }
        };
        slots.iter().map(shape).collect()
    }

    fn push(
        map: &SourceMap<Self>,
        slot: &Slot,
        shape: Shape,
        lanes: u32,
        words: &mut Vec<u64>,
    ) -> u64 {
        let starts = map.starts().get(slot.inner.clone()).unwrap_or_default();
        let answers = map.answers().get(slot.first..slot.inner.end);
        let answers = answers.unwrap_or_default();
        let first = answers.first().copied().unwrap_or_default();
        let place = index(words.len());
        let kind = match shape {
            Shape::Uniform => return Root::new(Kind::Uniform, false, 0, first).0,
            Shape::List(_) => {
                words.extend(starts.iter().copied().map(high));
                Kind::List
            }
            Shape::Wide(_) => {
                words.extend(starts.iter().copied().map(high));
                words.extend(starts.iter().copied().map(low));
                Kind::Wide
            }
        };
        pack_answers(words, lanes, 0, answers);
        Root::new(kind, first & 1 == 1, index(starts.len()), place).0
    }

    fn lookup(words: &[u64], layout: &Layout, address: Self) -> Option<ApiSet> {
        interval::lookup_v6(words, layout, high(address), low(address))
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
