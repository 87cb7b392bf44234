//! IPv4: a root per /16, 16-bit boundaries, bitmaps where those are many.

use ipfilter_ebpf::{
    abi::ApiSet,
    interval::{
        self, BITMAP_WORDS, BOUNDARIES_PER_WORD, Counts, Kind, Layout, RANK_WORDS, ROOTS_V4, Root,
        SLACK_V4,
    },
};

use super::{Family, Shape, Slot, SourceMap, answer_words, pack, pack_answers, sealed::Build};

/// Up to this many boundaries a list is as fast as a bitmap (measured: beyond, the search's misses
/// tell), and far smaller.
const LIST_BOUNDARIES: usize = 64;

/// All bitmaps of a table take at most this many words, 8 MiB. A bitmap takes 8 KiB, 60 times what
/// 65 boundaries do: given to every slot of a large plan they would cost more misses than they
/// save. So the densest slots have them, and the others somewhat longer searches.
const BITMAP_BUDGET: usize = 1 << 20;

/// From this many words on a list is split if it can be: in fewer a search has nothing to guess wrong
/// (measured: it takes 7 ns less for one word).
const SPLIT_WORDS: usize = 3;

/// Boundaries in a list's word.
const LANES: usize = BOUNDARIES_PER_WORD as usize;

impl Family for u32 {
    const NAME: &'static str = "IPv4";
}

impl Build for u32 {
    const ROOTS: usize = ROOTS_V4 as usize;
    const SLACK: usize = SLACK_V4 as usize;

    fn slots(map: &SourceMap<Self>) -> Vec<Slot> {
        let spans = (0..ROOTS_V4).map(|slot| (slot as usize, slot << 16, slot << 16 | 0xffff));
        super::slots(map, 0, spans)
    }

    fn shapes(_: &SourceMap<Self>, slots: &[Slot], lanes: u32) -> Vec<Shape> {
        let counts: Vec<usize> = slots.iter().map(|slot| slot.inner.len()).collect();
        let longest = longest_list(&counts, lanes, BITMAP_BUDGET);
        let shape = |boundaries: usize| match boundaries {
            0 => Shape::Uniform,
            _ if boundaries <= longest => Shape::List(list_words(boundaries, lanes)),
            _ => Shape::Wide(bitmap_words(boundaries, lanes)),
        };
        counts.into_iter().map(shape).collect()
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
        let root = match shape {
            Shape::Uniform => Root::new(Kind::Uniform, false, 0, first),
            Shape::List(_) => {
                let length = starts.len().div_ceil(LANES);
                let padding = length * LANES - starts.len();
                let zeros = std::iter::repeat_n(0, padding);
                pack(
                    words,
                    16,
                    zeros.chain(starts.iter().map(|s| u64::from(s & 0xffff))),
                );
                pack_answers(words, lanes, padding, answers);
                let odd = (first as usize ^ padding) & 1 == 1;
                match counts(starts, padding) {
                    Some(Counts(counts)) if length >= SPLIT_WORDS => {
                        Root::new(Kind::Split, odd, place, counts)
                    }
                    _ => Root::new(Kind::List, odd, index(length), place),
                }
            }
            Shape::Wide(_) if lanes == 0 => {
                push_bitmap(words, starts, first == 1);
                Root::new(Kind::Wide, false, 0, place)
            }
            Shape::Wide(_) => {
                push_ranks(words, starts);
                pack_answers(words, lanes, 0, answers);
                Root::new(Kind::Wide, false, 0, place)
            }
        };
        root.0
    }

    fn lookup(words: &[u64], layout: &Layout, address: Self) -> Option<ApiSet> {
        interval::lookup_v4(words, layout, address)
    }
}

/// A table's index or length, which its size limit keeps below 2^29.
#[expect(clippy::cast_possible_truncation, reason = "as the comment says")]
pub(super) fn index(number: usize) -> u32 {
    number as u32
}

fn list_words(boundaries: usize, lanes: u32) -> usize {
    let words = boundaries.div_ceil(LANES);
    words + answer_words(words * LANES + 1, lanes)
}

fn bitmap_words(boundaries: usize, lanes: u32) -> usize {
    if lanes == 0 {
        BITMAP_WORDS as usize
    } else {
        RANK_WORDS as usize + answer_words(boundaries + 1, lanes)
    }
}

/// The most boundaries that a slot has as a list, so that the bitmaps of the others take no more
/// than `budget` words.
fn longest_list(counts: &[usize], lanes: u32, budget: usize) -> usize {
    let mut longest = LIST_BOUNDARIES;
    loop {
        let dense = counts.iter().filter(|count| **count > longest);
        let words: usize = dense.map(|count| bitmap_words(*count, lanes)).sum();
        if words <= budget {
            return longest;
        }
        longest *= 2;
    }
}

/// How many of a list's `starts` lie in each eighth of their /16, and of its `padding`, which lies in
/// the first; nothing if that is too many.
fn counts(starts: &[u32], padding: usize) -> Option<Counts> {
    let in_eighth = |eighth: u32| {
        starts
            .iter()
            .filter(|start| Counts::eighth(**start) == eighth)
            .count()
    };
    (0..8).rev().try_fold(Counts(0), |Counts(counts), eighth| {
        let count = in_eighth(eighth) + if eighth == 0 { padding } else { 0 };
        (count <= Counts::MOST).then_some(Counts(counts << 4 | index(count)))
    })
}

/// Appends one bit per address of a /16: the answer, which alternates at `starts`.
fn push_bitmap(words: &mut Vec<u64>, starts: &[u32], first: bool) {
    let mut starts = starts.iter().map(|start| start & 0xffff).peekable();
    let mut answer = u64::from(first);
    for word in 0..BITMAP_WORDS {
        let mut bits = answer.wrapping_neg();
        while let Some(start) = starts.next_if(|start| start >> 6 == word) {
            answer ^= 1;
            bits ^= u64::MAX << (start & 63);
        }
        words.push(bits);
    }
}

/// Appends, for each 32 addresses of a /16, the number of `starts` below them and a bit for each
/// that is one.
fn push_ranks(words: &mut Vec<u64>, starts: &[u32]) {
    let mut starts = starts.iter().map(|start| start & 0xffff).peekable();
    let mut rank = 0u64;
    for word in 0..RANK_WORDS {
        let mut bits = rank << 32;
        while let Some(start) = starts.next_if(|start| start >> 5 == word) {
            rank += 1;
            bits |= 1 << (start & 31);
        }
        words.push(bits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_go_to_the_densest_slots_within_the_budget() {
        let words = BITMAP_WORDS as usize;
        assert_eq!(longest_list(&[64, 65, 300], 0, 2 * words), 64);
        assert_eq!(longest_list(&[64, 65, 300], 0, words), 128);
        assert_eq!(longest_list(&[65_535; 100], 0, words), 65_536);
        assert_eq!(longest_list(&[], 0, 0), 64);
    }
}
