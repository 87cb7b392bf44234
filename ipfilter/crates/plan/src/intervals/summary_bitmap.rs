//! The summary bitmap: the parts of the address space in which all addresses have the default answer.

/// It takes at most a word for so many boundaries, and so an eighth of what a large table does.
const BOUNDARIES_PER_WORD: usize = 8;

/// Below this it would be no smaller than what it saves from being read.
const LEAST_WORDS: usize = 1 << 10;

/// Steps of a map, in order: the first and the last position, and the palette index of the answer.
/// What the positions count is up to the family.
pub(super) type Step = (u64, u64, u32);

/// A bit for each part, set if some address in it has another answer than the default one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SummaryBitmap {
    /// The base-2 logarithm of the positions in a part.
    pub(super) part_bits: u8,
    /// The palette index, 0 or 1, of the default answer.
    pub(super) default_answer: u8,
    /// The bits, the lowest part's first; none if there is no bitmap.
    pub(super) words: Vec<u64>,
}

impl SummaryBitmap {
    /// The smallest that says enough of most of 2^`bits` positions. None if the table of `boundaries` is
    /// small, or if boundaries lie in so few parts that roots say as much.
    pub(super) fn of<S: Iterator<Item = Step>>(
        bits: u8,
        boundaries: usize,
        steps: impl Fn() -> S,
    ) -> Self {
        let most = (boundaries / BOUNDARIES_PER_WORD)
            .checked_ilog2()
            .unwrap_or(0);
        let largest = most.min(u32::from(bits).saturating_sub(6));
        if largest < LEAST_WORDS.ilog2() {
            return Self::default();
        }
        let part_bits = bits - u8::try_from(largest + 6).unwrap_or(bits);
        let mut sizes = vec![Self::new(bits, part_bits, steps)];
        while let Some(larger) = sizes.last().filter(|one| one.words.len() > LEAST_WORDS) {
            sizes.push(larger.halved());
        }
        // From the smallest on: the more it says nothing of, the larger it must be.
        for bitmap in sizes.into_iter().rev() {
            match bitmap.set_sixteenths() {
                0 => break,
                1..3 => return bitmap,
                _ => {}
            }
        }
        Self::default()
    }

    /// The one of 2^`bits` positions with parts of 2^`part_bits`.
    pub(super) fn new<S: Iterator<Item = Step>>(
        bits: u8,
        part_bits: u8,
        steps: impl Fn() -> S,
    ) -> Self {
        let default_answer = default_answer(steps());
        let mut words = vec![0; 1 << (bits - part_bits).saturating_sub(6)];
        let other = steps().filter(|step| step.2 != u32::from(default_answer));
        for (first, last, _) in other {
            set(&mut words, first >> part_bits, last >> part_bits);
        }
        Self {
            part_bits,
            default_answer,
            words,
        }
    }

    /// The same with parts twice as large.
    fn halved(&self) -> Self {
        let (pairs, _) = self.words.as_chunks();
        Self {
            part_bits: self.part_bits + 1,
            default_answer: self.default_answer,
            words: pairs
                .iter()
                .map(|[low, high]| pairs_in(*low) | pairs_in(*high) << 32)
                .collect(),
        }
    }

    /// How many of sixteen bits are set, rounded down.
    fn set_sixteenths(&self) -> usize {
        let set = self.words.iter().map(|word| word.count_ones() as usize);
        set.sum::<usize>() * 16 / (self.words.len() * 64)
    }
}

/// Sets the bits from `first` to `last`.
fn set(words: &mut [u64], first: u64, last: u64) {
    let place = |bit: u64| usize::try_from(bit >> 6).unwrap_or(usize::MAX);
    for index in place(first)..=place(last) {
        let from = if index == place(first) { first & 63 } else { 0 };
        let to = if index == place(last) { last & 63 } else { 63 };
        if let Some(word) = words.get_mut(index) {
            *word |= u64::MAX >> (63 - (to - from)) << from;
        }
    }
}

/// A bit for each two of `word`, set if either is.
fn pairs_in(word: u64) -> u64 {
    let mut bits = (word | word >> 1) & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits
}

/// Which of the first two answers more positions have.
fn default_answer(steps: impl Iterator<Item = Step>) -> u8 {
    let mut positions = [0_u128; 2];
    for (first, last, answer) in steps {
        if let Some(positions) = positions.get_mut(answer as usize) {
            *positions += u128::from(last - first) + 1;
        }
    }
    let [zero, one] = positions;
    u8::from(one > zero)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_are_set_and_joined_as_one_by_one(
            ranges in prop::collection::vec((0..4096_u64, 0..200_u64), 0..8),
        ) {
            let ranges: Vec<_> = ranges
                .into_iter()
                .map(|(first, more)| (first, (first + more).min(4095)))
                .collect();
            let bitmap = |part_bits: u8| {
                let mut words = vec![0_u64; 4096 >> part_bits >> 6];
                for part in ranges.iter().flat_map(|(first, last)| first >> part_bits..=last >> part_bits) {
                    words[usize::try_from(part >> 6).unwrap()] |= 1 << (part & 63);
                }
                words
            };
            let mut words = vec![0; 64];
            for (first, last) in &ranges {
                set(&mut words, *first, *last);
            }
            prop_assert_eq!(&words, &bitmap(0));
            let mut found = SummaryBitmap { words, ..SummaryBitmap::default() };
            for part_bits in 1..=6 {
                found = found.halved();
                prop_assert_eq!(&found.words, &bitmap(part_bits));
            }
        }
    }
}
