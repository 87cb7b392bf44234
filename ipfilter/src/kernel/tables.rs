//! The source tables of a plan, as the kernel will have them: tries, or interval tables.

use std::net::IpAddr;

use ipfilter_ebpf::{abi::ApiSet, interval::Image};

use super::error::Error;
use crate::plan::{Entry, Family, IntervalTable, Plan, SourceMap, TRIE_ENTRY_BYTES, Table, cover};

/// How large the tables of sources of a deployment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Which kind they are.
    pub table: Table,
    /// That of IPv4.
    pub v4: TableSize,
    /// That of IPv6.
    pub v6: TableSize,
}

/// How large a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Prefixes of a trie, or ranges of an interval table.
    pub entries: usize,
    /// About how much kernel memory it takes, in bytes.
    pub bytes: usize,
}

/// One family's table.
pub(super) enum Sources<A: Family> {
    /// Entries of a trie.
    Trie(Vec<Entry<A>>),
    /// An interval table.
    Intervals(IntervalTable<A>),
}

impl<A: Family> Sources<A> {
    fn of(map: &SourceMap<A>, table: Table) -> Result<Self, Error> {
        match table {
            Table::Trie => Ok(Self::Trie(cover(map))),
            Table::Intervals => IntervalTable::new(map)
                .map(Self::Intervals)
                .map_err(|error| Error::failed("the policy is too large", error)),
        }
    }

    /// The entries of the trie: none where the interval table is used.
    pub(super) fn entries(&self) -> &[Entry<A>] {
        match self {
            Self::Trie(entries) => entries,
            Self::Intervals(_) => &[],
        }
    }

    /// The interval table: nothing where the trie is used.
    pub(super) fn image(&self) -> Image<'_> {
        match self {
            Self::Trie(_) => Image::default(),
            Self::Intervals(table) => table.image(),
        }
    }

    /// What the table answers.
    fn at(&self, address: A) -> ApiSet {
        match self {
            Self::Trie(entries) => {
                let matching = entries.iter().filter(|entry| entry.matches(address));
                let longest = matching.max_by_key(|entry| entry.length);
                longest.map_or(ApiSet::NONE, |entry| entry.apis)
            }
            Self::Intervals(table) => table.at(address),
        }
    }

    /// How large the table of `map` is.
    fn size(&self, map: &SourceMap<A>) -> TableSize {
        match self {
            Self::Trie(entries) => TableSize {
                entries: entries.len(),
                bytes: entries.len() * TRIE_ENTRY_BYTES,
            },
            Self::Intervals(table) => TableSize {
                entries: map.starts().len(),
                bytes: table.sizes().total(),
            },
        }
    }

    /// What a program must know of the interval table beside its words.
    pub(super) fn layout(&self) -> A::Layout {
        match self {
            Self::Trie(_) => A::Layout::default(),
            Self::Intervals(table) => *table.layout(),
        }
    }
}

/// The APIs that `source` may call, by the tables that `plan` is loaded as, read here.
///
/// # Errors
///
/// When the plan is too large for its tables.
pub fn callable(plan: &Plan, source: IpAddr) -> Result<ApiSet, Error> {
    let tables = Tables::of(plan)?;
    Ok(match source {
        IpAddr::V4(source) => tables.v4.at(source.to_bits()),
        IpAddr::V6(source) => tables.v6.at(source.to_bits()),
    })
}

/// Both families' tables, of the same kind.
pub(super) struct Tables {
    pub(super) kind: Table,
    pub(super) v4: Sources<u32>,
    pub(super) v6: Sources<u128>,
    pub(super) sizes: TableSizes,
}

impl Tables {
    pub(super) fn of(plan: &Plan) -> Result<Self, Error> {
        let kind = plan.lookup.choose();
        let v4 = Sources::of(&plan.v4, kind)?;
        let v6 = Sources::of(&plan.v6, kind)?;
        let sizes = TableSizes {
            table: kind,
            v4: v4.size(&plan.v4),
            v6: v6.size(&plan.v6),
        };
        Ok(Self {
            kind,
            v4,
            v6,
            sizes,
        })
    }
}
