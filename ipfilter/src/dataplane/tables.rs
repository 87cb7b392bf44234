//! The source tables of a plan, as the kernel will have them: tries, or interval tables.

use ipfilter_ebpf::interval::Layout;

use super::error::Error;
use crate::plan::{Entry, Family, IntervalTable, Plan, SourceMap, Table, cover};

/// One family's table.
pub(super) enum Sources<A> {
    /// Entries of a trie.
    Trie(Vec<Entry<A>>),
    /// Words of an interval table.
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

    /// The words of the interval table: none where the trie is used.
    pub(super) fn words(&self) -> &[u64] {
        match self {
            Self::Trie(_) => &[],
            Self::Intervals(table) => table.words(),
        }
    }

    /// What a program must know of the interval table beside its words.
    pub(super) fn layout(&self) -> Layout {
        match self {
            Self::Trie(_) => Layout::default(),
            Self::Intervals(table) => *table.layout(),
        }
    }
}

/// Both families' tables, of the same kind.
pub(super) struct Tables {
    pub(super) kind: Table,
    pub(super) v4: Sources<u32>,
    pub(super) v6: Sources<u128>,
}

impl Tables {
    pub(super) fn of(plan: &Plan) -> Result<Self, Error> {
        let kind = plan.lookup.choose();
        Ok(Self {
            kind,
            v4: Sources::of(&plan.v4, kind)?,
            v6: Sources::of(&plan.v6, kind)?,
        })
    }
}
