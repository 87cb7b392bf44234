//! The sieve: the parts of the IPv4 address space in which all addresses have the usual answer.

use std::ops::RangeInclusive;

use super::SourceMap;

/// A sieve takes at most a word for so many boundaries, and so an eighth of what a large table does.
const BOUNDARIES_PER_WORD: usize = 8;

/// The base-2 logarithm of the addresses in a part.
const PART_BITS: RangeInclusive<u8> = 6..=10;

/// A bit for each part, set if some address in it has another answer than the usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sieve {
    /// The base-2 logarithm of the addresses in a part.
    pub(super) part_bits: u8,
    /// The palette index, 0 or 1, of the usual answer.
    pub(super) usual: u8,
    /// The bits, the lowest address's first; none if there is no sieve.
    pub(super) words: Vec<u64>,
}

impl Sieve {
    /// The smallest that says enough of most addresses. None if the table is small, or if boundaries lie in
    /// so few parts that roots say as much.
    pub(super) fn of(map: &SourceMap<u32>) -> Self {
        let most = map.boundaries_len() / BOUNDARIES_PER_WORD;
        let fitting = PART_BITS
            .rev()
            .take_while(|part_bits| words(*part_bits) <= most);
        for part_bits in fitting {
            let sieve = Self::new(map, part_bits);
            match sieve.unusual_sixteenths() {
                0 => break,
                1..6 => return sieve,
                _ => {}
            }
        }
        Self::default()
    }

    /// The one with parts of 2^`part_bits` addresses.
    pub(super) fn new(map: &SourceMap<u32>, part_bits: u8) -> Self {
        let usual = usual(map);
        let mut words = vec![0; words(part_bits)];
        for (first, last, _) in steps(map).filter(|(_, _, answer)| *answer != u32::from(usual)) {
            for part in first >> part_bits..=last >> part_bits {
                if let Some(word) = words.get_mut(part as usize >> 6) {
                    *word |= 1 << (part & 63);
                }
            }
        }
        Self {
            part_bits,
            usual,
            words,
        }
    }

    /// How many of sixteen bits are set, rounded down.
    fn unusual_sixteenths(&self) -> usize {
        let unusual = self.words.iter().map(|word| word.count_ones() as usize);
        unusual.sum::<usize>() * 16 / (self.words.len() * 64)
    }
}

/// The words that the parts' bits take.
fn words(part_bits: u8) -> usize {
    1 << (32 - part_bits - 6)
}

/// Each step of the map: its first and last address, and the palette index of its answer.
fn steps(map: &SourceMap<u32>) -> impl Iterator<Item = (u32, u32, u32)> {
    let starts = map.starts();
    let lasts = starts.iter().skip(1).map(|next| next - 1).chain([u32::MAX]);
    let spans = starts.iter().zip(lasts).zip(map.answers());
    spans.map(|((first, last), answer)| (*first, last, *answer))
}

/// Which of the first two answers more addresses have.
fn usual(map: &SourceMap<u32>) -> u8 {
    let addresses = |answer| {
        steps(map)
            .filter(|step| step.2 == answer)
            .map(|(first, last, _)| u64::from(last - first) + 1)
            .sum::<u64>()
    };
    u8::from(addresses(1) > addresses(0))
}
