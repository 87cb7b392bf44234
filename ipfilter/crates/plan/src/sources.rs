//! Which APIs each address may call, as one function over a whole address family.
//!
//! Knows sets and API numbers; must not know names, ports, tables or maps.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use ipfilter_ebpf::abi::{ApiSet, MAX_APIS};

use ipfilter_addresses::{Address, Intervals};

/// More APIs than an [`ApiSet`] has bits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{apis} APIs in one deployment, but {MAX_APIS} fit: split them over several instances")]
pub struct TooManyApis {
    /// How many there were.
    pub apis: usize,
}

/// A total function from the addresses of one family to the APIs each may call.
///
/// Held as the sorted addresses at which the answer changes. The first is the family's lowest
/// address and neighbouring answers differ, so equal functions are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMap<A> {
    /// Where each step begins.
    starts: Vec<A>,
    /// Each step's answer, as an index into the palette.
    answers: Vec<u32>,
    /// The distinct answers in order of first appearance.
    palette: Vec<ApiSet>,
}

impl<A: Address> SourceMap<A> {
    /// The function that has API `i` in an address's answer where `sets[i]` has the address.
    ///
    /// # Errors
    /// More sets than an answer has bits.
    pub fn new(sets: &[&Intervals<A>]) -> Result<Self, TooManyApis> {
        match sets {
            _ if sets.len() > MAX_APIS => Err(TooManyApis { apis: sets.len() }),
            [only] => Ok(Self::of_one(only.flips())),
            _ => Ok(Self::of_many(sets)),
        }
    }

    /// One API's answers alternate, so there is nothing to merge.
    fn of_one(flips: &[A]) -> Self {
        let mut palette = vec![ApiSet::NONE, ApiSet::from_bits(1)];
        let mut starts = Vec::with_capacity(flips.len() + 1);
        if flips.first() == Some(&A::MIN) {
            palette.reverse();
        } else {
            starts.push(A::MIN);
        }
        starts.extend_from_slice(flips);
        palette.truncate(starts.len());
        let answers = [0, 1].into_iter().cycle().take(starts.len()).collect();
        Self {
            starts,
            answers,
            palette,
        }
    }

    /// A sweep over all lists at once, lowest address first.
    fn of_many(sets: &[&Intervals<A>]) -> Self {
        let mut lists: Vec<_> = sets
            .iter()
            .map(|set| set.flips().iter().copied().peekable())
            .collect();
        let mut heads: BinaryHeap<_> = lists
            .iter_mut()
            .enumerate()
            .filter_map(|(api, list)| Some(Reverse((*list.peek()?, api))))
            .collect();
        let mut builder = Builder::new();
        let mut bits = 0u64;
        let mut at = A::MIN;
        while let Some(Reverse((flip, api))) = heads.pop() {
            if flip != at {
                builder.push(at, bits);
                at = flip;
            }
            bits ^= 1 << api;
            let list = lists.get_mut(api);
            let next = list.and_then(|list| {
                list.next();
                list.peek().copied()
            });
            heads.extend(next.map(|next| Reverse((next, api))));
        }
        builder.push(at, bits);
        builder.map
    }

    /// Which APIs `address` may call.
    #[must_use]
    pub fn at(&self, address: A) -> ApiSet {
        let after = self.starts.partition_point(|start| *start <= address);
        let answer = after.checked_sub(1).and_then(|step| self.answers.get(step));
        answer
            .and_then(|answer| self.palette.get(*answer as usize))
            .copied()
            .unwrap_or(ApiSet::NONE)
    }

    /// The addresses at which the answer changes, ascending, the family's lowest first.
    #[must_use]
    pub fn starts(&self) -> &[A] {
        &self.starts
    }

    /// For each of [`starts`](Self::starts), the answer from there on as an index into
    /// [`palette`](Self::palette).
    #[must_use]
    pub fn answers(&self) -> &[u32] {
        &self.answers
    }

    /// The distinct answers in order of first appearance; at least one.
    #[must_use]
    pub fn palette(&self) -> &[ApiSet] {
        &self.palette
    }

    /// The number of addresses at which the answer changes, the family's lowest not counted.
    #[must_use]
    pub fn boundaries_len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Each step: where it begins and the answer from there to the next.
    pub fn steps(&self) -> impl Iterator<Item = (A, ApiSet)> + '_ {
        let answers = self.answers.iter();
        let sets = answers.filter_map(|answer| self.palette.get(*answer as usize));
        self.starts.iter().copied().zip(sets.copied())
    }
}

/// A [`SourceMap`] under construction.
struct Builder<A> {
    map: SourceMap<A>,
    index: HashMap<u64, u32>,
    last: Option<u64>,
}

impl<A: Address> Builder<A> {
    fn new() -> Self {
        let map = SourceMap {
            starts: Vec::new(),
            answers: Vec::new(),
            palette: Vec::new(),
        };
        Self {
            map,
            index: HashMap::new(),
            last: None,
        }
    }

    /// From `start` on the answer is `bits`; nothing happens if it was so before.
    fn push(&mut self, start: A, bits: u64) {
        if self.last == Some(bits) {
            return;
        }
        self.last = Some(bits);
        let palette = &mut self.map.palette;
        let answer = *self.index.entry(bits).or_insert_with(|| {
            palette.push(ApiSet::from_bits(bits));
            #[expect(
                clippy::cast_possible_truncation,
                reason = "2^32 distinct answers need more memory than the flips they come from"
            )]
            let last = (palette.len() - 1) as u32;
            last
        });
        self.map.starts.push(start);
        self.map.answers.push(answer);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Tiny, tiny_set};

    proptest! {
        #[test]
        fn answers_agree_with_the_sets(sets in prop::collection::vec(tiny_set(), 1..5)) {
            let sets: Vec<_> = sets.iter().collect();
            let map = SourceMap::new(&sets).unwrap();
            for address in Tiny::all() {
                for (api, set) in (0u32..).zip(&sets) {
                    prop_assert_eq!(map.at(address).has(api), set.contains(address));
                }
            }
            let steps: Vec<_> = map.steps().collect();
            prop_assert_eq!(steps[0].0, Tiny::MIN);
            prop_assert!(steps.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1));
            prop_assert!(steps.iter().all(|(start, apis)| map.at(*start) == *apis));
        }

        #[test]
        fn one_api_takes_no_other_road_to_the_same_map(set in tiny_set()) {
            prop_assert_eq!(SourceMap::of_one(set.flips()), SourceMap::of_many(&[&set]));
        }
    }

    #[test]
    fn sixty_four_apis_fit_and_one_more_does_not() {
        let all = Intervals::<u128>::all();
        let map = SourceMap::new(&[&all; 64]).unwrap();
        assert_eq!(map.at(0).bits(), u64::MAX);
        let error = SourceMap::new(&[&all; 65]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "65 APIs in one deployment, but 64 fit: split them over several instances"
        );
    }

    #[test]
    fn no_api_at_all_is_nobody() {
        let map = SourceMap::<u32>::new(&[]).unwrap();
        assert_eq!(map.palette(), [ApiSet::NONE]);
        assert_eq!(map.boundaries_len(), 0);
    }
}
