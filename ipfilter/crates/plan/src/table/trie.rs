//! The kernel's longest-prefix-match trie, with the fewest entries that answer the same.

use ipfilter_addresses::Address;
use ipfilter_ebpf::abi::{ApiSet, Config, names};

use super::{Content, Need, Part, ReadBack, SourceTable, Stored, TableSize};
use crate::{
    Answers, Entry, Family, SourceMap, TRIE_ENTRY_BYTES, TableTooLarge, cover, read_back::push,
};

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
    fn maps() -> &'static [&'static str] {
        &[names::SOURCES_V4, names::SOURCES_V6]
    }

    /// What a program uses by default.
    fn flags() -> u32 {
        0
    }

    fn build(map: &SourceMap<A>) -> Result<Self, TableTooLarge> {
        Ok(Self::new(map))
    }

    fn read_back<E>(stored: &dyn Stored<A, E>, _: &Config) -> Result<ReadBack<A>, E> {
        Ok(Ok(answers(&stored.entries(name::<A>())?)))
    }

    fn parts(&self) -> Vec<Part<'_, A>> {
        vec![Part {
            name: name::<A>(),
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

/// The family's map.
fn name<A: Family>() -> &'static str {
    A::pick(names::SOURCES_V4, names::SOURCES_V6)
}

/// What a longest-prefix-match table with these entries answers, in whichever order they are.
fn answers<A: Address>(entries: &[Entry<A>]) -> Answers<A> {
    let mut spans: Vec<_> = entries.iter().map(Span::of).collect();
    // An outer prefix before those inside it.
    spans.sort_unstable_by(|a, b| (a.first, b.last).cmp(&(b.first, a.last)));
    let mut answers = Answers::new();
    push(&mut answers, A::MIN, ApiSet::NONE);
    let mut open: Vec<Span<A>> = Vec::new();
    for span in spans {
        close(&mut open, &mut answers, |outer| outer.last < span.first);
        push(&mut answers, span.first, span.apis);
        open.push(span);
    }
    close(&mut open, &mut answers, |_| true);
    answers
}

/// Ends the innermost open prefixes as long as they are over.
fn close<A: Address>(
    open: &mut Vec<Span<A>>,
    answers: &mut Answers<A>,
    is_over: impl Fn(&Span<A>) -> bool,
) {
    while let Some(over) = open.pop_if(|span| is_over(span)) {
        if let Some(next) = over.last.successor() {
            let outer = open.last().map_or(ApiSet::NONE, |outer| outer.apis);
            push(answers, next, outer);
        }
    }
}

/// The addresses of a prefix.
struct Span<A> {
    first: A,
    last: A,
    apis: ApiSet,
}

impl<A: Address> Span<A> {
    fn of(entry: &Entry<A>) -> Self {
        let host_bits = u32::from(A::BITS.saturating_sub(entry.length));
        let host = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let prefix = entry.prefix.to_u128();
        Self {
            first: A::from_u128(prefix & !host),
            last: A::from_u128(prefix | host),
            apis: entry.apis,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{NaiveTrie, answer_at, edges};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_entries_are_what_the_longest_match_is(
            entries in prop::collection::btree_map((any::<u32>(), 0..=32u8), 0..4u64, 0..60),
            random in prop::collection::vec(any::<u32>(), 100),
        ) {
            let entries = entries.into_iter().map(|((prefix, length), apis)| {
                let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                ((prefix & !host, length), ApiSet::from_bits(apis))
            });
            let entries: std::collections::BTreeMap<_, _> = entries.collect();
            let entries: Vec<_> = entries
                .into_iter()
                .map(|((prefix, length), apis)| Entry { prefix, length, apis })
                .rev()
                .collect();
            let answers = answers(&entries);
            let naive = NaiveTrie::new(&entries);
            let starts: Vec<_> = answers.iter().map(|(start, _)| *start).collect();
            for address in edges(&starts).into_iter().chain(random) {
                prop_assert_eq!(answer_at(&answers, address), naive.at(address));
            }
        }
    }
}
