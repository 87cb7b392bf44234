//! One family's set, kept as the sorted addresses at which membership changes.

use std::{fmt::Debug, hash::Hash};

/// An address of one family as an integer in host byte order: `u32` for IPv4, `u128` for IPv6.
pub trait Address: Copy + Ord + Hash + Debug + Default + Send + Sync + 'static {
    /// Bits in an address.
    const BITS: u8;
    /// The lowest address.
    const MIN: Self;
    /// The highest address.
    const MAX: Self;

    /// The next higher address, if there is one.
    fn successor(self) -> Option<Self>;
    /// The next lower address, if there is one.
    fn predecessor(self) -> Option<Self>;
    /// The address as the low bits of a `u128`.
    fn to_u128(self) -> u128;
    /// The address held in the low bits of `bits`, the others ignored.
    fn from_u128(bits: u128) -> Self;
}

macro_rules! address {
    ($integer:ty, $bits:literal) => {
        impl Address for $integer {
            const BITS: u8 = $bits;
            const MIN: Self = <$integer>::MIN;
            const MAX: Self = <$integer>::MAX;

            fn successor(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn predecessor(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn to_u128(self) -> u128 {
                self.into()
            }

            #[allow(
                clippy::allow_attributes,
                clippy::cast_possible_truncation,
                trivial_numeric_casts,
                reason = "the high bits are to be ignored, and the macro also serves u128"
            )]
            fn from_u128(bits: u128) -> Self {
                bits as Self
            }
        }
    };
}

address!(u32, 32);
address!(u128, 128);

/// A set of addresses of one family.
///
/// Held as the strictly increasing addresses at which membership flips, beginning outside the set.
/// Every set has exactly one such list, so `==` compares sets, and each operation is one merge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Intervals<A> {
    flips: Vec<A>,
}

impl<A: Address> Intervals<A> {
    /// The set without members.
    #[must_use]
    pub fn empty() -> Self {
        Self { flips: Vec::new() }
    }

    /// The whole family.
    #[must_use]
    pub fn all() -> Self {
        Self {
            flips: vec![A::MIN],
        }
    }

    /// The union of closed ranges `(first, last)`, in any order, overlapping or not.
    /// A range whose last address precedes its first is empty.
    #[must_use]
    pub fn from_ranges(mut ranges: Vec<(A, A)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut flips = Vec::with_capacity(ranges.len() * 2);
        let mut open: Option<(A, A)> = None;
        for (first, last) in ranges {
            open = match open {
                Some((start, end)) if end.successor().is_none_or(|next| first <= next) => {
                    Some((start, end.max(last)))
                }
                Some(done) => {
                    push_range(&mut flips, done);
                    Some((first, last))
                }
                None => Some((first, last)),
            };
        }
        if let Some(done) = open {
            push_range(&mut flips, done);
        }
        flips.shrink_to_fit();
        Self { flips }
    }

    /// The strictly increasing addresses at which membership changes, beginning outside the set.
    #[must_use]
    pub fn flips(&self) -> &[A] {
        &self.flips
    }

    /// Whether `address` is a member.
    #[must_use]
    pub fn contains(&self, address: A) -> bool {
        self.flips.partition_point(|flip| *flip <= address) % 2 == 1
    }

    /// Whether every address from `first` to `last` is a member.
    #[must_use]
    pub fn contains_range(&self, first: A, last: A) -> bool {
        let flips = self.flips.partition_point(|flip| *flip <= first);
        flips % 2 == 1 && self.flips.get(flips).is_none_or(|end| last < *end)
    }

    /// Whether some address from `first` to `last` is a member.
    #[must_use]
    pub fn overlaps_range(&self, first: A, last: A) -> bool {
        let flips = self.flips.partition_point(|flip| *flip <= first);
        flips % 2 == 1 || self.flips.get(flips).is_some_and(|start| *start <= last)
    }

    /// The number of members. All of IPv6 has one more than a `u128` holds, and counts as `u128::MAX`.
    #[must_use]
    pub fn count(&self) -> u128 {
        self.ranges().fold(0, |sum: u128, (first, last)| {
            let size = (last.to_u128() - first.to_u128()).saturating_add(1);
            sum.saturating_add(size)
        })
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flips.is_empty()
    }

    /// Whether the set is the whole family.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.flips == [A::MIN]
    }

    /// The number of maximal ranges.
    #[must_use]
    pub fn ranges_len(&self) -> usize {
        self.flips.len().div_ceil(2)
    }

    /// The maximal closed ranges `(first, last)`, ascending; no two touch.
    pub fn ranges(&self) -> impl DoubleEndedIterator<Item = (A, A)> + '_ {
        self.flips.chunks(2).filter_map(|pair| match pair {
            [first, end] => Some((*first, end.predecessor()?)),
            [first] => Some((*first, A::MAX)),
            _ => None,
        })
    }

    /// The members of `self`, of `other`, or of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a || b)
    }

    /// The members of both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a && b)
    }

    /// The members of `self` that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.merge(other, |a, b| a && !b)
    }

    /// Every address that is not a member.
    #[must_use]
    pub fn complement(&self) -> Self {
        Self::all().difference(self)
    }

    /// `keep` says which of the four regions the result has; `keep(false, false)` must be false.
    fn merge(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        // Sets are often equal, empty or whole: then nothing has to be compared address by address.
        if self == other {
            return self.kept(keep(true, true), false);
        }
        match (self.flips.as_slice(), other.flips.as_slice()) {
            (_, []) => self.kept(keep(true, false), false),
            ([], _) => other.kept(keep(false, true), false),
            (_, [all]) if *all == A::MIN => self.kept(keep(true, true), keep(false, true)),
            ([all], _) if *all == A::MIN => other.kept(keep(true, true), keep(true, false)),
            _ => self.sweep(other, keep),
        }
    }

    /// Of the whole family what is in the set, if that is to be kept, and what is not, if that is.
    fn kept(&self, inside: bool, outside: bool) -> Self {
        let flips = match (inside, outside) {
            (true, true) => vec![A::MIN],
            (true, false) => self.flips.clone(),
            (false, true) => match self.flips.as_slice() {
                [first, rest @ ..] if *first == A::MIN => rest.to_vec(),
                flips => [&[A::MIN], flips].concat(),
            },
            (false, false) => Vec::new(),
        };
        Self { flips }
    }

    /// One sweep over both lists.
    fn sweep(&self, other: &Self, keep: impl Fn(bool, bool) -> bool) -> Self {
        let mut flips = Vec::with_capacity(self.flips.len() + other.flips.len());
        let (mut left, mut right) = (self.flips.iter().peekable(), other.flips.iter().peekable());
        let (mut in_left, mut in_right, mut inside) = (false, false, false);
        while let Some(at) = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => Some(**a.min(b)),
            (Some(a), None) => Some(**a),
            (None, b) => b.map(|b| **b),
        } {
            in_left ^= left.next_if(|flip| **flip == at).is_some();
            in_right ^= right.next_if(|flip| **flip == at).is_some();
            if keep(in_left, in_right) != inside {
                inside = !inside;
                flips.push(at);
            }
        }
        Self { flips }
    }
}

fn push_range<A: Address>(flips: &mut Vec<A>, (first, last): (A, A)) {
    flips.push(first);
    flips.extend(last.successor());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const SPAN: u32 = 24;

    /// Small ranges at both ends of the family, where the arithmetic could go wrong.
    fn set() -> impl Strategy<Value = (Intervals<u32>, BTreeSet<u32>)> {
        let ends = (0..SPAN, 0..SPAN, any::<bool>());
        prop::collection::vec(ends, 0..6).prop_map(|ranges| {
            let ranges: Vec<(u32, u32)> = ranges
                .into_iter()
                .map(|(a, b, top)| {
                    let base = if top { u32::MAX - SPAN + 1 } else { 0 };
                    (base + a, base + b)
                })
                .collect();
            let members = ranges.iter().flat_map(|(a, b)| *a..=*b).collect();
            (Intervals::from_ranges(ranges), members)
        })
    }

    fn universe() -> impl Iterator<Item = u32> {
        (0..SPAN + 2).chain(u32::MAX - SPAN - 2..=u32::MAX)
    }

    fn check(got: &Intervals<u32>, want: impl Fn(u32) -> bool) {
        for address in universe() {
            assert_eq!(got.contains(address), want(address), "{address}");
            let reach = address.saturating_add(3);
            let all = (address..=reach).all(&want);
            assert_eq!(got.contains_range(address, reach), all, "{address}");
            let any = (address..=reach).any(&want);
            assert_eq!(got.overlaps_range(address, reach), any, "{address}");
        }
        assert!(got.flips.is_sorted_by(|a, b| a < b), "not canonical");
        assert_eq!(got.ranges_len(), got.ranges().count());
        assert_eq!(&Intervals::from_ranges(got.ranges().collect()), got);
    }

    proptest! {
        #[test]
        fn algebra_agrees_with_a_naive_set((a, in_a) in set(), (b, in_b) in set()) {
            check(&a, |x| in_a.contains(&x));
            check(&a.union(&b), |x| in_a.contains(&x) || in_b.contains(&x));
            check(&a.intersection(&b), |x| in_a.contains(&x) && in_b.contains(&x));
            check(&a.difference(&b), |x| in_a.contains(&x) && !in_b.contains(&x));
            check(&a.complement(), |x| !in_a.contains(&x));
            prop_assert_eq!(a.complement().complement(), a);
        }
    }

    #[test]
    fn members_are_counted() {
        assert_eq!(Intervals::<u32>::empty().count(), 0);
        assert_eq!(Intervals::<u32>::all().count(), 1 << 32);
        assert_eq!(Intervals::<u128>::all().count(), u128::MAX);
        let set = Intervals::from_ranges(vec![(0_u32, 3), (8, 8), (u32::MAX, u32::MAX)]);
        assert_eq!(set.count(), 6);
    }

    #[test]
    fn the_whole_family_has_no_end() {
        let all = Intervals::<u128>::from_ranges(vec![(0, u128::MAX)]);
        assert!(all.is_all());
        assert_eq!(all.ranges().collect::<Vec<_>>(), [(0, u128::MAX)]);
        assert!(all.complement().is_empty());
    }
}
