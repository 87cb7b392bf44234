//! A plan's tables of sources, whichever kind they are.
//!
//! What a kind's maps are called and hold, what a program must know of it, how large it is, what it answers
//! and how it is read back from the kernel are behind [`SourceTable`]; each kind is a file here. Who loads a
//! table copies its [`Part`]s, who verifies one hands over what is [`Stored`], and neither knows the kind.

mod intervals;
mod trie;

use std::{convert::Infallible, fmt::Debug, net::IpAddr};

use ipfilter_ebpf::abi::{ApiSet, Config};

pub use trie::Trie;

use super::{
    Answers, Entry, Family, IntervalTable, Malformed, Plan, SourceMap, Table, TableTooLarge,
};

/// One family's table of sources.
pub trait SourceTable<A: Family>: Debug {
    /// The names of this kind's maps, of both families.
    fn maps() -> &'static [&'static str]
    where
        Self: Sized;

    /// The bits of [`Config::flags`] that have a program look sources up there.
    fn flags() -> u32
    where
        Self: Sized;

    /// The table that answers as `map` does.
    ///
    /// # Errors
    /// It would be too large.
    fn build(map: &SourceMap<A>) -> Result<Self, TableTooLarge>
    where
        Self: Sized;

    /// What a loaded table of this kind answers, whatever its maps hold. `config` is the program's.
    ///
    /// # Errors
    /// A map can't be read.
    fn read_back<E>(stored: &dyn Stored<A, E>, config: &Config) -> Result<ReadBack<A>, E>
    where
        Self: Sized;

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

/// The maps of a loaded table. An error of type `E` says why one can't be read.
pub trait Stored<A, E> {
    /// The entries of a longest-prefix-match map, in any order.
    ///
    /// # Errors
    /// It can't be read.
    fn entries(&self, name: &'static str) -> Result<Vec<Entry<A>>, E>;

    /// The words of an array.
    ///
    /// # Errors
    /// It can't be read.
    fn words(&self, name: &'static str) -> Result<Vec<u64>, E>;

    /// The words of read-only data of the program.
    ///
    /// # Errors
    /// It can't be read.
    fn section(&self, name: &'static str) -> Result<Vec<u64>, E>;
}

/// What a loaded table answers, if that can be determined.
pub type ReadBack<A> = Result<Answers<A>, Malformed>;

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

/// What there is to do with one kind of table, in one family.
struct Kind<A: Family, E> {
    maps: &'static [&'static str],
    flags: u32,
    build: Build<A>,
    read_back: Read<A, E>,
}

type Build<A> = fn(&SourceMap<A>) -> Result<Box<dyn SourceTable<A>>, TableTooLarge>;

type Read<A, E> = fn(&dyn Stored<A, E>, &Config) -> Result<ReadBack<A>, E>;

impl<A: Family, E> Kind<A, E> {
    fn of<T: SourceTable<A> + 'static>() -> Self {
        Self {
            maps: T::maps(),
            flags: T::flags(),
            build: |map| Ok(Box::new(T::build(map)?)),
            read_back: T::read_back,
        }
    }
}

impl Table {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Trie, Self::Intervals];

    /// The only place that goes from a kind's name to its file.
    fn kind<A: Family, E>(self) -> Kind<A, E> {
        match self {
            Self::Trie => Kind::of::<Trie<A>>(),
            Self::Intervals => Kind::of::<IntervalTable<A>>(),
        }
    }

    /// The kind in which a program with these [`Config::flags`] looks sources up.
    #[must_use]
    pub fn of_program(flags: u32) -> Self {
        let all = Self::ALL
            .into_iter()
            .fold(0, |all, kind| all | kind.flags());
        let found = Self::ALL
            .into_iter()
            .find(|kind| kind.flags() == flags & all);
        found.unwrap_or(Self::Trie)
    }

    /// The table of this kind that answers as `map` does.
    ///
    /// # Errors
    /// It would be too large.
    pub fn build<A: Family>(
        self,
        map: &SourceMap<A>,
    ) -> Result<Box<dyn SourceTable<A>>, TableTooLarge> {
        (self.kind::<A, Infallible>().build)(map)
    }

    /// What a loaded table of this kind answers, whatever its maps hold.
    ///
    /// # Errors
    /// A map can't be read.
    pub fn read_back<A: Family, E>(
        self,
        stored: &dyn Stored<A, E>,
        config: &Config,
    ) -> Result<ReadBack<A>, E> {
        (self.kind::<A, E>().read_back)(stored, config)
    }

    /// The names of its maps, of both families.
    #[must_use]
    pub fn maps(self) -> &'static [&'static str] {
        self.kind::<u32, Infallible>().maps
    }

    /// The bits of [`Config::flags`] that have a program look sources up there.
    #[must_use]
    pub fn flags(self) -> u32 {
        self.kind::<u32, Infallible>().flags
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

    /// A table as if it were loaded.
    struct Loaded<'t, A>(Vec<Part<'t, A>>);

    impl<A> Loaded<'_, A> {
        fn content(&self, name: &str) -> Content<'_, A>
        where
            A: Copy,
        {
            let part = self.0.iter().find(|part| part.name == name);
            part.expect("a kind reads back what it has stored").content
        }
    }

    impl<A: Family> Stored<A, Infallible> for Loaded<'_, A> {
        fn entries(&self, name: &'static str) -> Result<Vec<Entry<A>>, Infallible> {
            match self.content(name) {
                Content::Entries(entries) => Ok(entries.to_vec()),
                other => panic!("{name} holds {other:?}"),
            }
        }

        fn words(&self, name: &'static str) -> Result<Vec<u64>, Infallible> {
            match self.content(name) {
                Content::Words(words, _) => Ok(words.to_vec()),
                other => panic!("{name} holds {other:?}"),
            }
        }

        fn section(&self, name: &'static str) -> Result<Vec<u64>, Infallible> {
            match self.content(name) {
                Content::Section(words) => Ok(words.to_vec()),
                other => panic!("{name} holds {other:?}"),
            }
        }
    }

    fn every_kind_answers_as_the_map<A: Family>(sets: &[Intervals<A>]) {
        let map = SourceMap::new(&sets.iter().collect::<Vec<_>>()).unwrap();
        for kind in Table::ALL {
            let table = kind.build(&map).unwrap();
            let mut config = Config::NONE;
            table.configure(&mut config);
            let Ok(read) = kind.read_back(&Loaded(table.parts()), &config);
            let steps: Vec<_> = map.steps().collect();
            assert_eq!(read, Ok(steps), "{kind}");
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
    fn a_program_says_which_kind_it_uses() {
        for kind in Table::ALL {
            assert_eq!(Table::of_program(kind.flags()), kind);
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
