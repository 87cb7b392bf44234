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
        let most = boundaries / BOUNDARIES_PER_WORD;
        let mut words = LEAST_WORDS;
        while words <= most && words.ilog2() + 6 <= u32::from(bits) {
            let part_bits = bits - u8::try_from(words.ilog2() + 6).unwrap_or(bits);
            let bitmap = Self::new(bits, part_bits, &steps);
            match bitmap.set_sixteenths() {
                0 => break,
                1..3 => return bitmap,
                _ => words *= 2,
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
            for part in first >> part_bits..=last >> part_bits {
                let word = usize::try_from(part >> 6).ok();
                if let Some(word) = word.and_then(|word| words.get_mut(word)) {
                    *word |= 1 << (part & 63);
                }
            }
        }
        Self {
            part_bits,
            default_answer,
            words,
        }
    }

    /// How many of sixteen bits are set, rounded down.
    fn set_sixteenths(&self) -> usize {
        let set = self.words.iter().map(|word| word.count_ones() as usize);
        set.sum::<usize>() * 16 / (self.words.len() * 64)
    }
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
