//! Tables read back: whole ones are what they were made from, damaged ones what a lookup finds in them.

use ipfilter_addresses::Intervals;
use ipfilter_ebpf::interval::WideRoot;
use proptest::prelude::*;

use super::*;
use crate::{
    IntervalTable, SourceMap, mismatches,
    testing::{answer_at as at, edges as around, set},
};

/// A table's parts, to be damaged.
#[derive(Clone)]
struct Parts {
    words: Vec<u64>,
    roots: Vec<WideRoot>,
    near: Vec<u64>,
}

impl Parts {
    fn of(image: Image<'_>) -> Self {
        Self {
            words: image.words.to_vec(),
            roots: image.roots.to_vec(),
            near: image.near.to_vec(),
        }
    }

    fn image(&self) -> Image<'_> {
        Image {
            words: &self.words,
            roots: &self.roots,
            near: &self.near,
        }
    }

    /// The word with this number, of all of them.
    fn word(&mut self, number: usize) -> &mut u64 {
        let roots = self.roots.as_flattened_mut().iter_mut();
        let mut words: Vec<_> = self
            .near
            .iter_mut()
            .chain(roots)
            .chain(&mut self.words)
            .collect();
        let length = words.len();
        words.swap_remove(number % length)
    }
}

fn map_of<A: Address>(sets: &[Intervals<A>]) -> SourceMap<A> {
    SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap()
}

fn whole_tables_equal_their_map<A: Family>(sets: &[Intervals<A>]) {
    let map = map_of(sets);
    let steps: Vec<_> = map.steps().collect();
    let table = IntervalTable::new(&map).unwrap();
    let answers = interval_answers::<A>(table.image(), table.layout()).unwrap();
    assert_eq!(answers, steps);
    assert_eq!(mismatches(&map, &answers), []);
}

/// Flips bits, and asks the damaged table itself at random addresses and around all edges.
fn damaged_tables_are_what_they_answer<A: Family>(
    sets: &[Intervals<A>],
    flips: &[(usize, u32)],
    random: &[A],
) {
    let map = map_of(sets);
    let table = IntervalTable::new(&map).unwrap();
    let whole = Parts::of(table.image());
    for (number, bit) in flips {
        let mut parts = whole.clone();
        *parts.word(*number) ^= 1 << (bit % 64);
        let Ok(answers) = interval_answers::<A>(parts.image(), table.layout()) else {
            continue;
        };
        let starts: Vec<_> = answers.iter().map(|(start, _)| *start).collect();
        let asked = around(map.starts()).into_iter().chain(around(&starts));
        let asked: Vec<_> = asked.chain(random.iter().copied()).collect();
        let found = mismatches(&map, &answers);
        for address in asked {
            let bits = A::lookup(parts.image(), table.layout(), address).unwrap_or_default();
            let answer = ApiSet::from_bits(bits);
            assert_eq!(at(&answers, address), answer, "{address:?}");
            let named = found
                .iter()
                .find(|it| it.first <= address && address <= it.last);
            match named {
                None => assert_eq!(map.at(address), answer),
                Some(it) => assert_eq!((it.wanted, it.found), (map.at(address), answer)),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ipv4_tables_are_read_back(
        sets in prop::collection::vec(set::<u32>(200), 1..4),
    ) {
        whole_tables_equal_their_map(&sets);
    }

    #[test]
    fn ipv6_tables_are_read_back(
        sets in prop::collection::vec(set::<u128>(200), 1..4),
    ) {
        whole_tables_equal_their_map(&sets);
    }

    #[test]
    fn dense_ipv4_tables_are_read_back(
        sets in prop::collection::vec(prop::collection::vec((any::<u16>(), 0..40u16), 0..400), 1..5),
    ) {
        let range = |(at, length): &(u16, u16)| {
            let first = 0xcb00_0000 | u32::from(*at);
            (first, first | u32::from(at.saturating_add(*length)))
        };
        let sets: Vec<_> = sets
            .iter()
            .map(|ranges| Intervals::from_ranges(ranges.iter().map(range).collect()))
            .collect();
        whole_tables_equal_their_map(&sets);
    }

    #[test]
    fn tables_inside_a_slash_64_are_read_back(
        sets in prop::collection::vec(prop::collection::vec((any::<u64>(), 0..9u8), 0..60), 1..4),
    ) {
        const NET: u128 = 0x2001_0db8_0000_0001 << 64;
        let range = |(at, bits): &(u64, u8)| {
            let host = (1u64 << (bits * 8).min(63)) - 1;
            (NET | u128::from(at & !host), NET | u128::from(at | host))
        };
        let sets: Vec<_> = sets
            .iter()
            .map(|ranges| Intervals::from_ranges(ranges.iter().map(range).collect()))
            .collect();
        whole_tables_equal_their_map(&sets);
    }

    #[test]
    fn damaged_ipv4_tables_are_what_they_answer(
        sets in prop::collection::vec(set::<u32>(60), 1..4),
        flips in prop::collection::vec(any::<(usize, u32)>(), 12),
        random in prop::collection::vec(any::<u32>(), 100),
    ) {
        damaged_tables_are_what_they_answer(&sets, &flips, &random);
    }

    #[test]
    fn damaged_ipv6_tables_are_what_they_answer(
        sets in prop::collection::vec(set::<u128>(60), 1..4),
        flips in prop::collection::vec(any::<(usize, u32)>(), 12),
        random in prop::collection::vec(any::<u128>(), 100),
    ) {
        damaged_tables_are_what_they_answer(&sets, &flips, &random);
    }
}

/// Each bit of a small table: those that change an answer are found, and the answers around them named.
#[test]
fn every_flipped_bit_that_matters_is_named() {
    let sets = [Intervals::from_ranges(vec![
        (0xc000_0200_u32, 0xc000_02ff),
        (0xc633_6400, 0xc633_6407),
    ])];
    let map = map_of(&sets);
    let table = IntervalTable::new(&map).unwrap();
    let whole = Parts::of(table.image());
    let count = whole.words.len() + whole.near.len() + 4 * whole.roots.len();
    let mut named = 0;
    for number in 0..count {
        for bit in 0..64 {
            let mut parts = whole.clone();
            *parts.word(number) ^= 1 << bit;
            let answers = interval_answers::<u32>(parts.image(), table.layout());
            let found = answers.map(|answers| mismatches(&map, &answers));
            named += usize::from(found.map_or(true, |found| !found.is_empty()));
        }
    }
    assert!(named > count, "{named} of {}", 64 * count);
}

#[test]
fn a_layout_that_is_none_is_refused() {
    let map = map_of(&[Intervals::from_ranges(vec![(1_u32, 9)])]);
    let table = IntervalTable::new(&map).unwrap();
    let mut layout = *table.layout();
    layout.slot_bits = 40;
    assert!(interval_answers::<u32>(table.image(), &layout).is_err());
    layout = *table.layout();
    layout.mask ^= 4;
    assert!(interval_answers::<u32>(table.image(), &layout).is_err());
}

/// What `verify` needs for a million prefixes.
#[test]
#[ignore = "a measurement: run it with --release"]
fn a_million_prefixes() {
    let ranges = (0..1_000_000_u32).map(|number| {
        let first = number.wrapping_mul(0x9e37_79b1) & !0xff;
        (first, first | 0x7f)
    });
    let sets = [Intervals::from_ranges(ranges.collect())];
    let map = map_of(&sets);
    let table = IntervalTable::new(&map).unwrap();
    let start = std::time::Instant::now();
    let answers = interval_answers::<u32>(table.image(), table.layout()).unwrap();
    let read = start.elapsed();
    assert_eq!(mismatches(&map, &answers), []);
    println!(
        "{} pieces: {read:?}, compared {:?}",
        answers.len(),
        start.elapsed()
    );
}
