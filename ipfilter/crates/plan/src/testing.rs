//! What the tests of this module share: a family of 32 addresses, and the obvious way to look up a
//! longest match.

use std::collections::{BTreeSet, HashMap};

use ipfilter_ebpf::abi::ApiSet;
use proptest::prelude::*;

use super::Entry;
use ipfilter_addresses::{Address, Intervals};

/// A family whose addresses have five bits, so that everything about it can be tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tiny(pub(super) u8);

impl Tiny {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..=Self::MAX.0).map(Self)
    }
}

impl Address for Tiny {
    const BITS: u8 = 5;
    const MIN: Self = Self(0);
    const MAX: Self = Self(31);

    fn successor(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }

    fn predecessor(self) -> Option<Self> {
        self.0.checked_sub(1).map(Self)
    }

    fn to_u128(self) -> u128 {
        self.0.into()
    }

    fn from_u128(bits: u128) -> Self {
        Self(u8::try_from(bits & 31).unwrap())
    }
}

/// Any set of the tiny family.
pub(super) fn tiny_set() -> impl Strategy<Value = Intervals<Tiny>> {
    any::<u32>().prop_map(|members| {
        let ranges = Tiny::all().filter(|address| members >> address.0 & 1 == 1);
        Intervals::from_ranges(ranges.map(|address| (address, address)).collect())
    })
}

/// A longest-prefix-match table that asks for every length it has in turn.
pub(super) struct NaiveTrie<A> {
    lengths: BTreeSet<u8>,
    table: HashMap<(u8, A), ApiSet>,
}

impl<A: Address> NaiveTrie<A> {
    pub(super) fn new(entries: &[Entry<A>]) -> Self {
        let pairs = entries.iter().map(|e| ((e.length, e.prefix), e.apis));
        let table: HashMap<_, _> = pairs.collect();
        assert_eq!(table.len(), entries.len(), "an entry came twice");
        let lengths = entries.iter().map(|entry| entry.length).collect();
        Self { lengths, table }
    }

    pub(super) fn at(&self, address: A) -> ApiSet {
        let candidates = self.lengths.iter().rev().map(|&length| {
            let host = u32::from(A::BITS - length);
            let bits = address.to_u128().checked_shr(host).unwrap_or(0);
            (length, A::from_u128(bits.checked_shl(host).unwrap_or(0)))
        });
        let mut matches = candidates.filter_map(|key| self.table.get(&key));
        matches.next().copied().unwrap_or(ApiSet::NONE)
    }
}

/// Sets whose edges fall on prefixes of every length, or anywhere.
pub(super) fn set<A: Address>(ranges: usize) -> impl Strategy<Value = Intervals<A>> {
    let range = (any::<u128>(), any::<u128>(), 0..=A::BITS, 0..8u8);
    prop::collection::vec(range, 0..ranges).prop_map(|ranges| {
        let closed = ranges.into_iter().map(|(a, b, length, kind)| {
            let host = u128::MAX.checked_shr(128 - u32::from(A::BITS - length));
            let host = host.unwrap_or(0);
            match kind {
                0 => (A::from_u128(a.min(b)), A::from_u128(b.max(a))),
                1 => (A::from_u128(a), A::from_u128(a | host)),
                _ => (A::from_u128(a & !host), A::from_u128(a | host)),
            }
        });
        Intervals::from_ranges(closed.collect())
    })
}

/// Addresses worth asking about: every start, its neighbours, and the family's ends.
pub(super) fn edges<A: Address>(starts: &[A]) -> Vec<A> {
    let around = starts.iter().flat_map(|start| {
        let neighbours = [start.predecessor(), Some(*start), start.successor()];
        neighbours.into_iter().flatten()
    });
    around.chain([A::MIN, A::MAX]).collect()
}

/// What a table with these answers answers for `address`.
pub(super) fn answer_at<A: Address>(answers: &[(A, ApiSet)], address: A) -> ApiSet {
    let after = answers.partition_point(|(start, _)| *start <= address);
    answers[after - 1].1
}
