use proptest::prelude::*;

use super::*;
use ipfilter_addresses::Intervals;

use crate::{
    cover,
    testing::{NaiveTrie, edges, set},
};

/// Builds the table and compares it with the map and with the trie's entries.
fn check<A: Family>(
    sets: &[Intervals<A>],
    random: impl IntoIterator<Item = A>,
) -> IntervalTable<A> {
    let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
    let table = IntervalTable::new(&map).unwrap();
    let Image { words, roots, near } = table.image();
    let bytes = size_of_val(words) + size_of_val(roots) + size_of_val(near);
    assert_eq!(bytes, table.sizes().total());
    let trie = NaiveTrie::new(&cover(&map));
    // All edges, or an even selection where there are a million.
    let edges = edges(map.starts());
    let step = 1 + edges.len() / 30_011;
    for address in edges.into_iter().step_by(step).chain(random) {
        let got = A::lookup(table.image(), table.layout(), address);
        assert_eq!(got, Some(map.at(address).bits()), "{address:?}");
        assert_eq!(table.at(address), trie.at(address), "{address:?}");
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ipv4_agrees_with_map_and_trie(
        sets in prop::collection::vec(set::<u32>(200), 1..4),
        random in prop::collection::vec(any::<u32>(), 200),
    ) {
        check(&sets, random);
    }

    #[test]
    fn ipv6_agrees_with_map_and_trie(
        sets in prop::collection::vec(set::<u128>(200), 1..4),
        random in prop::collection::vec(any::<u128>(), 200),
    ) {
        check(&sets, random);
    }

    #[test]
    fn one_slash_sixteen_agrees_at_every_density(
        sets in prop::collection::vec(prop::collection::vec((any::<u16>(), 0..40u16), 0..150), 1..9),
    ) {
        let sets: Vec<_> = sets.into_iter().map(|ranges| within_a_slot(&ranges)).collect();
        check(&sets, (0..=u16::MAX).step_by(23).map(|low| 0xcb00_0000 | u32::from(low)));
    }

    #[test]
    fn one_slash_sixty_four_agrees(
        sets in prop::collection::vec(prop::collection::vec((any::<u64>(), 0..9u8), 0..60), 1..9),
        random in prop::collection::vec(any::<u64>(), 100),
    ) {
        const NET: u128 = 0x2001_0db8_0000_0001 << 64;
        let range = |(at, bits): (u64, u8)| {
            let host = (1u64 << (bits * 8).min(63)) - 1;
            (NET | u128::from(at & !host), NET | u128::from(at | host))
        };
        let sets: Vec<_> = sets
            .into_iter()
            .map(|ranges| Intervals::from_ranges(ranges.into_iter().map(range).collect()))
            .collect();
        check(&sets, random.into_iter().map(|low| NET | u128::from(low)));
    }
}

fn within_a_slot(ranges: &[(u16, u16)]) -> Intervals<u32> {
    let range = |(at, length): &(u16, u16)| {
        let first = 0xcb00_0000 | u32::from(*at);
        (first, first + u32::from(*length))
    };
    Intervals::from_ranges(ranges.iter().map(range).collect())
}

/// Every second address of sixteen /16s, 524,288 in all.
fn alternating() -> Intervals<u32> {
    let hosts = (0..16 << 16).step_by(2).map(|host| 0x0a00_0000 + host);
    Intervals::from_ranges(hosts.map(|host| (host, host)).collect())
}

#[test]
fn a_dense_policy_is_a_bitmap_per_slash_sixteen() {
    let table = check(&[alternating()], 0x0a00_0000..0x0a00_1000);
    assert_eq!(table.sizes().wide, 16 * 8192);
    assert_eq!(table.sizes().lists, 0);
}

/// With as many boundaries in an eighth of a /16 as its root can count, one less and one more, behind as
/// many others as are needed to begin anywhere in a word.
#[test]
fn an_eighth_agrees_at_the_most_that_a_root_counts() {
    for inside in 6..=9_u32 {
        for before in 0..6 {
            let hosts = (0..before).chain((0..inside).map(|host| 0x2000 + 3 * host));
            let mut ranges: Vec<_> = hosts
                .map(|host| (0xcb00_0000 + 2 * host, 0xcb00_0000 + 2 * host))
                .collect();
            // One that ends in the next slot: an odd number of boundaries here.
            ranges.push((0xcb00_fffe, 0xcb01_0003));
            let other = Intervals::from_ranges(ranges.iter().copied().step_by(2).collect());
            let set = Intervals::from_ranges(ranges);
            let all = (0xcb00_0000..=0xcb01_0010).step_by(61);
            check(&[set.complement()], all.clone());
            check(&[set.clone(), other], all.clone());
            check(&[set], all);
        }
    }
}

#[test]
fn a_dense_policy_of_two_apis_agrees() {
    let other = Intervals::from_ranges(vec![(0x0a03_0001, 0x0a05_7fff)]);
    let table = check(&[alternating(), other], 0x0a03_0000..0x0a03_1000);
    assert!(table.sizes().wide > 16 * 16384);
}

#[test]
fn sixty_four_apis_agree() {
    let family = |api: u32| {
        let host = |i: u32| (api * 7919 + i * (i + api)).wrapping_mul(2_654_435_761);
        let ranges = (0..300).map(|i| (host(i) & !0xff, host(i) | 0xff));
        Intervals::from_ranges(ranges.collect())
    };
    let table = check(&(0..64).map(family).collect::<Vec<_>>(), []);
    assert_eq!(table.layout().answers.lanes, 2);
}

#[test]
fn more_distinct_answers_than_sixteen_bits_number_agree() {
    // Each /32 of a /15 has an answer of its own: the bits of its number.
    let api = |bit: u32| {
        let hosts = (0..1u32 << 17).filter(|host| host >> bit & 1 == 1);
        Intervals::from_ranges(hosts.map(|h| (0xc612_0000 | h, 0xc612_0000 | h)).collect())
    };
    let sets: Vec<_> = (0..17).map(api).collect();
    let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
    let table = IntervalTable::new(&map).unwrap();
    assert_eq!(table.layout().answers.lanes, 1);
    for address in (0xc611_ff00..=0xc614_00ff).step_by(3) {
        assert_eq!(table.at(address), map.at(address), "{address:x}");
    }
}

#[test]
fn addresses_outside_global_unicast_are_answered() {
    let ranges = vec![
        (0, 1),
        (0xfc00 << 112, (0xfe00 << 112) - 1),
        (0xfe80 << 112, (0xfec0 << 112) - 1),
        (0xff02 << 112 | 5, u128::MAX),
    ];
    let set = Intervals::from_ranges(ranges);
    check(&[set.complement()], []);
    check(&[set], [0x2001 << 112, 0x3fff << 112, 0x4000 << 112]);
}

#[test]
fn one_answer_for_all_is_roots_alone() {
    for set in [Intervals::<u32>::empty(), Intervals::all()] {
        let table = check(&[set], [0, 1, 0x8000_0000]);
        assert_eq!(table.sizes().total(), (16 + 1) * 8);
    }
    let table = check(&[Intervals::<u128>::all(), Intervals::empty()], [0]);
    assert_eq!(table.sizes().total(), (1 + 2 + 1) * 8);
}

#[test]
fn a_table_that_does_not_fit_is_refused_with_the_number_that_does() {
    let map = SourceMap::new(&[&alternating()]).unwrap();
    let error = IntervalTable::within(&map, 70_000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the IPv4 interval table would take 81922 words of 8 bytes, but 70000 fit: \
         use `--lookup trie`, or fewer prefixes"
    );
    assert!(IntervalTable::within(&map, 81_922).is_ok());
}

/// `count` single numbers scattered over the low `bits` bits of `net` at bit `shift`.
fn cluster(net: u128, bits: u32, shift: u32, count: u32) -> Vec<(u128, u128)> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let scattered = (0..count).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963);
        let first = net | u128::from(state >> (64 - bits)) << shift;
        (first, first | ((1 << shift) - 1))
    });
    scattered.collect()
}

#[test]
fn clusters_fan_out_at_every_length() {
    const NET: u128 = 0x2001_0db8 << 96;
    let crowded = |ranges: Vec<(u128, u128)>| {
        let set = Intervals::from_ranges(ranges);
        let shifted: Vec<_> = set.ranges().step_by(3).collect();
        let other = Intervals::from_ranges(shifted);
        let third = Intervals::from_ranges(vec![(NET, NET | 0xffff)]);
        check(&[set.complement()], [0, NET - 1, u128::MAX]);
        check(&[set.clone(), other, third], [0, NET - 1, u128::MAX]);
        check(&[set], [0, NET - 1, u128::MAX]).sizes().total()
    };
    let bytes = crowded(cluster(NET, 32, 64, 3000));
    assert!(bytes < 65_539 * 8 + 3000 * 2 * 8 * 2, "{bytes}");
    crowded(cluster(NET, 64, 0, 3000));
    crowded(cluster(NET | 0xffff_ffff << 64, 16, 0, 3000));
    // A /64 that ends where its neighbour begins, dense to its last address.
    crowded(
        (0..500)
            .map(|i| (NET + (1 << 64) - 1 - 2 * i, NET + (1 << 64) - 1 - 2 * i))
            .collect(),
    );
    // Sixteen /64s far apart with a hundred hosts each, and one far outside.
    let mut far = vec![(0x2001_1fff << 96, 0x2001_1fff << 96 | 1)];
    far.extend((0..16u128).flat_map(|i| cluster(NET | i << 76, 40, 0, 100)));
    crowded(far);
    // Below and above 2000::/3, and at both ends of the family.
    crowded(cluster(0xfc00 << 112, 40, 70, 500));
    let ends = [cluster(0, 64, 0, 300), cluster(0xffff << 112, 64, 48, 300)].concat();
    crowded(ends);
    let halves = [
        cluster(0x4000 << 112, 60, 0, 300),
        cluster(0xf000 << 112, 30, 0, 300),
    ]
    .concat();
    crowded(halves);
}

#[test]
fn more_fans_than_are_followed_end_in_a_list() {
    // Nested pairs of clusters: each level splits off few boundaries from many.
    let mut ranges = Vec::new();
    for level in 0..12 {
        let net = 0x2a00u128 << 112 | 1 << (20 + 8 * level);
        ranges.extend(cluster(net, 7, 8 * level + 4, 70));
    }
    check(
        &[Intervals::from_ranges(ranges)],
        [0x2a00 << 112, 0x2a01 << 112],
    );
}
