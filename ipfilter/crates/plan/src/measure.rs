//! How large a plan is, and what its tables take.

use super::{Family, IntervalTable, Sizes, SourceMap, TableTooLarge, cover};
use ipfilter_addresses::{Address, blocks};

/// About how many bytes the kernel's trie takes per entry, from 100 to 125 MB measured at a million: a node
/// of 64 bytes each, and nearly one more for each branch.
pub const TRIE_ENTRY_BYTES: usize = 128;

/// How large a plan's sources are, per family. Costs as much as building every table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measures {
    /// IPv4.
    pub v4: FamilyMeasures,
    /// IPv6.
    pub v6: FamilyMeasures,
}

/// How large one family of a plan's sources is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMeasures {
    /// Disjoint prefixes of the sources that some API lets pass, split where answers differ.
    pub prefixes: usize,
    /// Maximal ranges of these sources with the same answer.
    pub intervals: usize,
    /// Distinct answers, the empty one included where it occurs.
    pub answers: usize,
    /// Entries of the smallest trie.
    pub entries: usize,
    /// What the interval table takes, or why there can be none.
    pub table: Result<Sizes, TableTooLarge>,
}

impl Measures {
    /// The measures of both families' sources.
    #[must_use]
    pub fn of(v4: &SourceMap<u32>, v6: &SourceMap<u128>) -> Self {
        Self {
            v4: FamilyMeasures::of(v4),
            v6: FamilyMeasures::of(v6),
        }
    }
}

impl FamilyMeasures {
    fn of<A: Family>(map: &SourceMap<A>) -> Self {
        let intervals = ranges(map);
        Self {
            prefixes: intervals
                .iter()
                .map(|(first, last)| blocks(*first, *last).count())
                .sum(),
            intervals: intervals.len(),
            answers: map.palette().len(),
            entries: cover(map).len(),
            table: IntervalTable::new(map).map(|table| table.sizes()),
        }
    }

    /// About how many bytes of kernel memory the trie takes.
    #[must_use]
    pub fn trie_bytes(&self) -> usize {
        self.entries * TRIE_ENTRY_BYTES
    }
}

/// The ranges with an answer other than none, by first and last address.
fn ranges<A: Address>(map: &SourceMap<A>) -> Vec<(u128, u128)> {
    let ends = map
        .starts()
        .iter()
        .skip(1)
        .map(|start| start.to_u128().wrapping_sub(1));
    let ends = ends.chain([A::MAX.to_u128()]);
    let steps = map
        .steps()
        .zip(ends)
        .filter(|((_, apis), _)| apis.bits() != 0);
    steps
        .map(|((start, _), end)| (start.to_u128(), end))
        .collect()
}
