//! A plan's tables of sources, whichever kind they are.
//!
//! What a kind's maps are called and hold, what a program must know of it, how large it is and what it
//! answers are behind [`SourceTable`]; each kind is a file here. Who loads a table copies its [`Part`]s and
//! knows no kind.

mod intervals;
mod trie;

use std::{fmt::Debug, net::IpAddr};

use ipfilter_ebpf::abi::{ApiSet, Config};

pub use trie::Trie;

use super::{Entry, Family, IntervalTable, Plan, SourceMap, Table, TableTooLarge};

/// One family's table of sources.
pub trait SourceTable<A: Family>: Debug {
    /// What its maps hold, and the sections of the program's data.
    fn parts(&self) -> Vec<Part<'_, A>>;

    /// Adds what a program must know of it beside the maps.
    fn configure(&self, config: &mut Config);

    /// How large it is.
    fn size(&self) -> TableSize;

    /// The memory that it takes, in its own units.
    fn need(&self) -> Need;

    /// Which APIs `address` may call, read as the kernel reads it.
    fn at(&self, address: A) -> ApiSet;
}

/// One map of a table, or one section.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, A> {
    /// Its name in the BPF object.
    pub name: &'static str,
    /// What it holds.
    pub content: Content<'a, A>,
}

/// What a part holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a, A> {
    /// A longest-prefix-match map of these entries, sorted by address.
    Entries(&'a [Entry<A>]),
    /// An array of these words, so many in each element, to be filled through a memory map.
    Words(&'a [u64], usize),
    /// Read-only data of the program itself.
    Section(&'a [u64]),
}

impl<A> Part<'_, A> {
    /// How many elements the map has; none for a section.
    #[must_use]
    pub fn elements(&self) -> Option<usize> {
        match self.content {
            Content::Entries(entries) => Some(entries.len()),
            Content::Words(words, each) => words.len().checked_div(each),
            Content::Section(_) => None,
        }
    }
}

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Prefixes of a trie, or ranges of an interval table.
    pub entries: usize,
    /// About how much kernel memory it takes, in bytes.
    pub bytes: usize,
}

/// How large the tables of a plan are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Which kind they are.
    pub table: Table,
    /// That of IPv4.
    pub v4: TableSize,
    /// That of IPv6.
    pub v6: TableSize,
}

/// The memory that a table takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The family's name.
    pub family: &'static str,
    /// What the table is called.
    pub table: &'static str,
    /// How many units it has.
    pub count: usize,
    /// The bytes of each.
    pub each: usize,
    /// What they are called.
    pub unit: &'static str,
    /// What to do about it besides using fewer prefixes, if there is anything.
    pub instead: Option<&'static str>,
}

impl Need {
    /// All of it, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.count.saturating_mul(self.each)
    }
}

impl Table {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Trie, Self::Intervals];

    /// The table of this kind that answers as `map` does.
    ///
    /// # Errors
    /// It would be too large.
    pub fn build<A: Family>(
        self,
        map: &SourceMap<A>,
    ) -> Result<Box<dyn SourceTable<A>>, TableTooLarge> {
        Ok(match self {
            Self::Trie => Box::new(Trie::new(map)),
            Self::Intervals => Box::new(IntervalTable::new(map)?),
        })
    }

    /// The names of its maps, of both families.
    #[must_use]
    pub const fn maps(self) -> &'static [&'static str] {
        match self {
            Self::Trie => trie::MAPS,
            Self::Intervals => intervals::MAPS,
        }
    }

    /// The bits of [`Config::flags`] that have a program look sources up there.
    #[must_use]
    pub const fn flags(self) -> u32 {
        match self {
            Self::Trie => trie::FLAGS,
            Self::Intervals => intervals::FLAGS,
        }
    }
}

/// Both families' tables, of the same kind.
#[derive(Debug)]
pub struct Tables {
    /// Which kind.
    pub kind: Table,
    /// That of IPv4.
    pub v4: Box<dyn SourceTable<u32>>,
    /// That of IPv6.
    pub v6: Box<dyn SourceTable<u128>>,
}

impl Tables {
    /// The tables that `plan` is loaded as.
    ///
    /// # Errors
    /// One would be too large.
    pub fn of(plan: &Plan) -> Result<Self, TableTooLarge> {
        let kind = plan.lookup.choose();
        Ok(Self {
            kind,
            v4: kind.build(&plan.v4)?,
            v6: kind.build(&plan.v6)?,
        })
    }

    /// How large they are.
    #[must_use]
    pub fn sizes(&self) -> TableSizes {
        TableSizes {
            table: self.kind,
            v4: self.v4.size(),
            v6: self.v6.size(),
        }
    }

    /// Which APIs `source` may call.
    #[must_use]
    pub fn at(&self, source: IpAddr) -> ApiSet {
        match source {
            IpAddr::V4(source) => self.v4.at(source.to_bits()),
            IpAddr::V6(source) => self.v6.at(source.to_bits()),
        }
    }

    /// Adds what a program must know of them beside their maps.
    pub fn configure(&self, config: &mut Config) {
        self.v4.configure(config);
        self.v6.configure(config);
    }
}

#[cfg(test)]
mod tests {
    use ipfilter_addresses::Intervals;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{edges, set};

    fn every_kind_answers_as_the_map<A: Family>(sets: &[Intervals<A>]) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        for kind in Table::ALL {
            let table = kind.build(&map).unwrap();
            for address in edges(map.starts()) {
                assert_eq!(table.at(address), map.at(address), "{kind}");
            }
            for part in table.parts() {
                let is_map = kind.maps().contains(&part.name);
                assert_eq!(part.elements().is_some(), is_map, "{}", part.name);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_kind_answers_the_same(
            v4 in prop::collection::vec(set::<u32>(8), 1..4),
            v6 in prop::collection::vec(set::<u128>(8), 1..4),
        ) {
            every_kind_answers_as_the_map(&v4);
            every_kind_answers_as_the_map(&v6);
        }
    }

    #[test]
    fn no_two_kinds_share_a_map() {
        let mut names: Vec<_> = Table::ALL.iter().flat_map(|kind| kind.maps()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
