use proptest::prelude::*;
use testkit::lists::{Family as ListFamily, List, Shape as ListShape};

use super::*;
use ipfilter_addresses::Intervals;

use crate::intervals::{IntervalTable, MAX_WORDS, answers};

/// Ranges in a few /16s, and sometimes everything from one of them to another.
fn crowded() -> impl Strategy<Value = Intervals<u32>> {
    let range = (0..3u32, any::<u16>(), 0..=16u32, 0..40u32);
    prop::collection::vec(range, 0..120).prop_map(|ranges| {
        let ranges = ranges.into_iter().map(|(slot, at, bits, kind)| {
            let first = slot << 16 | u32::from(at) >> bits << bits;
            match kind {
                0 => (first, first + 0x1_0000),
                1 => (first, first + u32::from(at >> 8)),
                _ => (first, first | ((1 << bits) - 1)),
            }
        });
        Intervals::from_ranges(ranges.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_division_agrees(
        sets in prop::collection::vec(crowded(), 1..3),
        doublings in 0..6u8,
        slot_bits in prop::option::of(17..=28u8),
        part_bits in prop::option::of(8..=12u8),
        all_others in any::<bool>(),
    ) {
        let sets: Vec<_> = sets.into_iter().map(|set| if all_others { set.complement() } else { set }).collect();
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        let answers = answers(map.palette());
        let doublings = if answers.lanes == 0 { doublings } else { 0 };
        let division = match slot_bits {
            Some(slot_bits) => Division { slot_bits, wide: false },
            None => Division::small(doublings),
        };
        let mut builder = Builder::divided(&map, answers, division);
        if let Some(part_bits) = part_bits {
            builder.summary = SummaryBitmap::new(32, part_bits, || steps(&map));
        }
        let table = IntervalTable::build(&builder, &map, MAX_WORDS).unwrap();
        let edges = map.starts().iter().flat_map(|start| [start.wrapping_sub(1), *start]);
        for address in edges.chain((0..0x4_0000).step_by(97)) {
            prop_assert_eq!(table.at(address), map.at(address), "{:x}", address);
        }
    }
}

fn sparse(prefixes: usize) -> Intervals<u32> {
    let list = List::new(ListShape::Sparse, ListFamily::V4, prefixes);
    let bits = |bits: u128| u32::try_from(bits).unwrap();
    let ranges = list.prefixes.iter().map(|prefix| {
        let host = u32::MAX.checked_shr(prefix.length.into()).unwrap_or(0);
        (bits(prefix.first), bits(prefix.first) | host)
    });
    Intervals::from_ranges(ranges.collect())
}

#[test]
fn slots_become_smaller_as_prefixes_become_more() {
    let division = |sets: &[&Intervals<u32>]| {
        let map = SourceMap::new(sets).unwrap();
        let division = Builder::new(&map, answers(map.palette())).division;
        (division.slot_bits, division.wide)
    };
    for (prefixes, want) in [
        (10, (28, false)),
        (1000, (22, false)),
        (100_000, (15, false)),
        (300_000, (14, false)),
        (500_000, (15, true)),
    ] {
        let set = sparse(prefixes);
        assert_eq!(division(&[&set]), want, "{prefixes}");
        assert_eq!(division(&[&set.complement()]), want, "all but {prefixes}");
    }
    // Two sets that share addresses have more than two answers.
    let (large, small) = (sparse(300_000), Intervals::from_ranges(vec![(0, 1 << 31)]));
    assert_eq!(division(&[&large, &small]), (16, false));
    // Many, but in few slots.
    let hosts = (0..30_000).map(|host| 0xcb00_0000 + 5 * host);
    let hosts = Intervals::from_ranges(hosts.map(|host| (host, host)).collect());
    assert_eq!(division(&[&hosts]), (16, false));
}

#[test]
fn a_large_table_agrees_whatever_its_default_answer() {
    let first = Intervals::from_ranges(vec![(0, 0x00ff_ffff)]);
    // Of the smaller one's slots many have but one answer.
    let (large, smaller) = (sparse(500_000), sparse(200_000));
    let none = Intervals::empty();
    for (set, other, wide, summarized) in [
        (&large.union(&first), &none, true, true),
        (&large.complement(), &none, true, true),
        (&large, &none, true, true),
        (&smaller.complement(), &none, false, true),
        (&smaller, &none, false, true),
        (&large, &smaller, false, true),
        (&large.complement(), &smaller.complement(), false, true),
        (&large.complement(), &smaller, false, true),
    ] {
        let map = SourceMap::new(&[set, other]).unwrap();
        let table = IntervalTable::new(&map).unwrap();
        let layout = table.layout();
        assert_eq!(
            (layout.wide == 1, layout.summarized == 1),
            (wide, summarized)
        );
        let edges = map.starts().iter().step_by(7);
        for start in edges.flat_map(|start| [start.wrapping_sub(1), *start]) {
            assert_eq!(table.at(start), map.at(start), "{start:x}");
        }
        for address in (0..=u32::MAX).step_by(65_521) {
            assert_eq!(table.at(address), map.at(address), "{address:x}");
        }
    }
}

#[test]
fn bitmaps_go_to_the_densest_slots_within_the_budget() {
    let map = SourceMap::new(&[&Intervals::all()]).unwrap();
    let builder = Builder::divided(&map, answers(map.palette()), Division::small(0));
    let longest = |counts: &[usize], budget| builder.longest_list(counts, budget);
    let words = 1 << 10;
    assert_eq!(longest(&[64, 65, 300], 2 * words), 64);
    assert_eq!(longest(&[64, 65, 300], words), 128);
    assert_eq!(longest(&[65_535; 100], words), 65_536);
    assert_eq!(longest(&[], 0), 64);
}
