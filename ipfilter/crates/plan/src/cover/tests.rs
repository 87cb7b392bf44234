use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use ipfilter_addresses::Intervals;

use crate::testing::{NaiveTrie, Tiny, edges, set, tiny_set};

/// The size of the smallest table, by trying every answer, or none, at every node.
struct Exhaustive<'a> {
    map: &'a SourceMap<Tiny>,
    answers: Vec<ApiSet>,
    known: HashMap<(u8, u8, ApiSet), usize>,
}

impl Exhaustive<'_> {
    fn smallest(map: &SourceMap<Tiny>) -> usize {
        let mut answers = map.palette().to_vec();
        answers.push(ApiSet::NONE);
        let known = HashMap::new();
        let mut search = Exhaustive {
            map,
            answers,
            known,
        };
        search.cost(0, 0, ApiSet::NONE)
    }

    fn cost(&mut self, prefix: u8, length: u8, inherited: ApiSet) -> usize {
        if let Some(cost) = self.known.get(&(prefix, length, inherited)) {
            return *cost;
        }
        let mut best = self.below(prefix, length, inherited);
        for held in self.answers.clone() {
            best = best.min(self.below(prefix, length, held).saturating_add(1));
        }
        self.known.insert((prefix, length, inherited), best);
        best
    }

    fn below(&mut self, prefix: u8, length: u8, held: ApiSet) -> usize {
        if length == Tiny::BITS {
            let right = self.map.at(Tiny(prefix)) == held;
            return if right { 0 } else { usize::MAX / 64 };
        }
        let half = 1 << (Tiny::BITS - length - 1);
        self.cost(prefix, length + 1, held) + self.cost(prefix | half, length + 1, held)
    }
}

/// The cover answers as the map does, is sorted, and has whole prefixes only.
fn check<A: Address>(map: &SourceMap<A>, addresses: impl IntoIterator<Item = A>) -> Vec<Entry<A>> {
    let entries = cover(map);
    let trie = NaiveTrie::new(&entries);
    for address in addresses {
        assert_eq!(trie.at(address), map.at(address), "{address:?}");
    }
    assert!(entries.is_sorted_by_key(|entry| (entry.prefix, entry.length)));
    for entry in &entries {
        assert_eq!(
            entry.prefix.to_u128() & host_bits::<A>(entry.length),
            0,
            "{entry:?}"
        );
    }
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_smaller_table_exists(sets in prop::collection::vec(tiny_set(), 1..4)) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        let entries = check(&map, Tiny::all());
        prop_assert_eq!(entries.len(), Exhaustive::smallest(&map));
    }

    #[test]
    fn no_smaller_table_exists_for_prefixes(sets in prop::collection::vec(set::<Tiny>(4), 1..4)) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        let entries = check(&map, Tiny::all());
        prop_assert_eq!(entries.len(), Exhaustive::smallest(&map));
    }

    #[test]
    fn ipv4_answers_as_the_map(
        sets in prop::collection::vec(set::<u32>(20), 1..6),
        random in prop::collection::vec(any::<u32>(), 50),
    ) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        check(&map, edges(map.starts()).into_iter().chain(random));
    }

    #[test]
    fn ipv6_answers_as_the_map(
        sets in prop::collection::vec(set::<u128>(20), 1..6),
        random in prop::collection::vec(any::<u128>(), 50),
    ) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        check(&map, edges(map.starts()).into_iter().chain(random));
    }
}

#[test]
fn every_pair_of_edges_of_the_tiny_family_is_minimal() {
    for first in Tiny::all() {
        for last in Tiny::all() {
            let set = Intervals::from_ranges(vec![(first, last)]);
            for set in [set.complement(), set] {
                let map = SourceMap::new(&[&set]).unwrap();
                assert_eq!(check(&map, Tiny::all()).len(), Exhaustive::smallest(&map));
            }
        }
    }
}

fn one<A: Address>(prefix: A, length: u8, bits: u64) -> Entry<A> {
    let apis = ApiSet::from_bits(bits);
    Entry {
        prefix,
        length,
        apis,
    }
}

#[test]
fn everyone_but_one_is_two_entries() {
    let denied = Intervals::from_ranges(vec![(0xcb00_7107u32, 0xcb00_7107)]);
    let map = SourceMap::new(&[&denied.complement()]).unwrap();
    assert_eq!(cover(&map), [one(0, 0, 1), one(0xcb00_7107, 32, 0)]);

    let denied = Intervals::from_ranges(vec![(7u128, 7)]);
    let map = SourceMap::new(&[&denied.complement()]).unwrap();
    assert_eq!(cover(&map), [one(0, 0, 1), one(7, 128, 0)]);
}

#[test]
fn nobody_needs_no_entry_and_everybody_one() {
    let empty = SourceMap::new(&[&Intervals::<u32>::empty()]).unwrap();
    assert_eq!(cover(&empty), []);
    let all = SourceMap::new(&[&Intervals::<u128>::all()]).unwrap();
    assert_eq!(cover(&all), [one(0, 0, 1)]);
}

#[test]
fn a_list_of_separate_prefixes_stays_as_it_is() {
    let list = vec![
        (0x0a00_0000u32, 0x0aff_ffff),
        (0xc000_0200, 0xc000_02ff),
        (0xcb00_7100, 0xcb00_71ff),
    ];
    let map = SourceMap::new(&[&Intervals::from_ranges(list)]).unwrap();
    let want = [
        one(0x0a00_0000, 8, 1),
        one(0xc000_0200, 24, 1),
        one(0xcb00_7100, 24, 1),
    ];
    assert_eq!(cover(&map), want);
}
