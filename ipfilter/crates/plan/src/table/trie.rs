//! The kernel's longest-prefix-match trie, with the fewest entries that answer the same.

use ipfilter_ebpf::abi::{ApiSet, Config, names};

use super::{Content, Need, Part, SourceTable, TableSize};
use crate::{Entry, Family, SourceMap, TRIE_ENTRY_BYTES, cover};

pub(super) const MAPS: &[&str] = &[names::SOURCES_V4, names::SOURCES_V6];

/// What a program uses by default.
pub(super) const FLAGS: u32 = 0;

/// One family's trie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trie<A>(Vec<Entry<A>>);

impl<A: Family> Trie<A> {
    /// The trie that answers as `map` does.
    #[must_use]
    pub fn new(map: &SourceMap<A>) -> Self {
        Self(cover(map))
    }
}

impl<A: Family> SourceTable<A> for Trie<A> {
    fn parts(&self) -> Vec<Part<'_, A>> {
        vec![Part {
            name: A::pick(names::SOURCES_V4, names::SOURCES_V6),
            content: Content::Entries(&self.0),
        }]
    }

    fn configure(&self, _: &mut Config) {}

    fn size(&self) -> TableSize {
        TableSize {
            entries: self.0.len(),
            bytes: self.need().bytes(),
        }
    }

    fn need(&self) -> Need {
        Need {
            family: A::NAME,
            table: "trie",
            count: self.0.len(),
            each: TRIE_ENTRY_BYTES,
            unit: "entries",
            instead: Some("`--lookup intervals`, which takes a tenth"),
        }
    }

    fn at(&self, address: A) -> ApiSet {
        let matching = self.0.iter().filter(|entry| entry.matches(address));
        let longest = matching.max_by_key(|entry| entry.length);
        longest.map_or(ApiSet::NONE, |entry| entry.apis)
    }
}
