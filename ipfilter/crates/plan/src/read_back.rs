//! What a table answers, read back from its bytes: for each address, whatever the bytes are.
//!
//! An interval table is asked by the very code that the kernel runs. Between two *edges* that code compares
//! alike, takes the same path and gives the same answer; so one address of each piece between edges stands for
//! all. The edges are found in the words: the boundaries that a list compares with, the bits of a bitmap, the
//! prefixes of a root. One edge too many costs a lookup; none is ever missing, however the table is damaged.

mod v4;
mod v6;

use ipfilter_addresses::Address;
use ipfilter_ebpf::{abi::ApiSet, interval::Image};

use super::{Entry, Family, SourceMap};

/// The answers of a table: each holds from its address to the next, the first from the lowest address on.
pub type Answers<A> = Vec<(A, ApiSet)>;

/// A table whose answers can't be told: its layout is none, or its nodes lead in circles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// A family whose interval tables can be read back.
pub trait ReadBack: Family {
    /// Adds the edges of a table.
    #[doc(hidden)]
    fn edges(
        image: Image<'_>,
        layout: &Self::Layout,
        edges: &mut Edges<Self>,
    ) -> Result<(), Malformed>;
}

/// What an interval table answers.
///
/// # Errors
///
/// When that can't be told.
pub fn interval_answers<A: ReadBack>(
    image: Image<'_>,
    layout: &A::Layout,
) -> Result<Answers<A>, Malformed> {
    let mut edges = Edges::new(image);
    A::edges(image, layout, &mut edges)?;
    let mut edges = edges.found;
    // They come in long runs.
    edges.sort();
    edges.dedup();
    let mut answers = Answers::<A>::new();
    for edge in edges {
        // Where the kernel finds no answer, nobody may call.
        let bits = A::lookup(image, layout, edge).unwrap_or_default();
        push(&mut answers, edge, ApiSet::from_bits(bits));
    }
    Ok(answers)
}

/// What a longest-prefix-match table with these entries answers, in whichever order they are.
#[must_use]
pub fn trie_answers<A: Address>(entries: &[Entry<A>]) -> Answers<A> {
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

/// From `edge` on the answer is `apis`, whatever was said of it before.
fn push<A: Address>(answers: &mut Answers<A>, edge: A, apis: ApiSet) {
    answers.pop_if(|(last, _)| *last == edge);
    if answers.last().is_none_or(|(_, last)| *last != apis) {
        answers.push((edge, apis));
    }
}

/// Addresses for which a table answers something else than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch<A> {
    /// The first of them.
    pub first: A,
    /// The last of them.
    pub last: A,
    /// What it should answer.
    pub wanted: ApiSet,
    /// What it answers.
    pub found: ApiSet,
}

/// Where `answers` are not those of `map`.
#[must_use]
pub fn mismatches<A: Address>(map: &SourceMap<A>, answers: &[(A, ApiSet)]) -> Vec<Mismatch<A>> {
    let mut mismatches: Vec<Mismatch<A>> = Vec::new();
    let (mut wanted, mut found) = (map.steps().peekable(), answers.iter().copied().peekable());
    let mut now = (ApiSet::NONE, ApiSet::NONE);
    let mut at = Some(A::MIN);
    while let Some(first) = at {
        if let Some((_, apis)) = wanted.next_if(|(start, _)| *start <= first) {
            now.0 = apis;
        }
        if let Some((_, apis)) = found.next_if(|(start, _)| *start <= first) {
            now.1 = apis;
        }
        let starts = [wanted.peek(), found.peek()].into_iter().flatten();
        at = starts.map(|(start, _)| *start).min();
        let last = at.and_then(Address::predecessor).unwrap_or(A::MAX);
        if now.0 == now.1 {
            continue;
        }
        match mismatches.last_mut() {
            Some(before)
                if before.last.successor() == Some(first)
                    && (before.wanted, before.found) == now =>
            {
                before.last = last;
            }
            _ => mismatches.push(Mismatch {
                first,
                last,
                wanted: now.0,
                found: now.1,
            }),
        }
    }
    mismatches
}

/// Edges that were found, and how many may be.
#[derive(Debug)]
pub struct Edges<A> {
    found: Vec<A>,
    /// A table whose nodes are not in each other has no more.
    most: usize,
}

impl<A: Address> Edges<A> {
    fn new(image: Image<'_>) -> Self {
        let words = image.words.len() + image.near.len() + image.roots.as_flattened().len();
        Self {
            found: vec![A::MIN],
            most: 1024 + 128 * words,
        }
    }

    fn push(&mut self, edge: A) -> Result<(), Malformed> {
        if self.found.len() >= self.most {
            return Err(Malformed("its nodes overlap"));
        }
        self.found.push(edge);
        Ok(())
    }

    /// Adds an edge for each bit of `words` that is not as the one before, and wherever words are missing;
    /// `at` says which address a bit stands for, if any.
    fn push_bits(
        &mut self,
        words: impl Iterator<Item = Option<u64>>,
        at: impl Fn(u64) -> Option<A>,
    ) -> Result<(), Malformed> {
        let mut before = None;
        for (index, word) in (0_u64..).zip(words) {
            let first = index << 6;
            let mut changes = match (before, word) {
                (None, None) => continue,
                (Some(_), None) | (None, Some(_)) => 1,
                (Some(_), Some(_)) => 0,
            };
            if let Some(word) = word {
                let carried = before.unwrap_or(word << 63);
                changes |= word ^ (word << 1 | carried >> 63);
            }
            while changes != 0 {
                if let Some(edge) = at(first | u64::from(changes.trailing_zeros())) {
                    self.push(edge)?;
                }
                changes &= changes - 1;
            }
            before = word;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
