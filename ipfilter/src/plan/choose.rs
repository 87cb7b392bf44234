//! Which of the two source tables serves a plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Plan, SourceMap, cover};
use crate::addresses::Address;

/// The most trie entries for which the trie is chosen, both families together.
///
/// Measured on one core with random sources, in ns per packet over parsing: 10 prefixes, trie 21,
/// intervals 2; 1,000 prefixes, 89 and 3; a million, 1,267 and 30. So the trie is worth its
/// simplicity only where there is next to nothing in it: it then saves the table's roots, 512 KiB
/// a family.
pub const TRIE_ENTRIES: usize = 4;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lookup {
    /// What is cheapest for the plan.
    #[default]
    Auto,
    /// The kernel's longest-prefix-match trie.
    Trie,
    /// The interval table.
    Intervals,
}

impl Lookup {
    /// The table that serves `plan`.
    #[must_use]
    pub fn choose(self, plan: &Plan) -> Table {
        self.choose_for(&plan.v4, &plan.v6)
    }

    /// The table that serves these sources.
    #[must_use]
    pub fn choose_for(self, v4: &SourceMap<u32>, v6: &SourceMap<u128>) -> Table {
        match self {
            Self::Trie => Table::Trie,
            Self::Intervals => Table::Intervals,
            Self::Auto if are_few(v4, v6) => Table::Trie,
            Self::Auto => Table::Intervals,
        }
    }
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// The kernel's longest-prefix-match trie.
    Trie,
    /// The interval table.
    Intervals,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trie => "trie",
            Self::Intervals => "intervals",
        })
    }
}

fn are_few(v4: &SourceMap<u32>, v6: &SourceMap<u128>) -> bool {
    let (v4, v6) = (entries(v4), entries(v6));
    v4.zip(v6).is_some_and(|(v4, v6)| v4 + v6 <= TRIE_ENTRIES)
}

/// The trie entries of one family; nothing if these are certainly too many, as an entry makes two
/// boundaries at most.
fn entries<A: Address>(map: &SourceMap<A>) -> Option<usize> {
    (map.boundaries_len() <= 2 * TRIE_ENTRIES).then(|| cover(map).len())
}
