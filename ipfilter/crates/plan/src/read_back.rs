//! What a table in the kernel answers, for every address, and where that is not what it should answer.

use ipfilter_addresses::Address;
use ipfilter_ebpf::abi::ApiSet;

use super::SourceMap;

/// The answers of a table: each holds from its address to the next, the first from the lowest address on.
pub type Answers<A> = Vec<(A, ApiSet)>;

/// A table whose answers can't be determined: its layout is impossible, or its nodes form a circle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(crate) &'static str);

/// From `edge` on the answer is `apis`; replaces an answer from the same address on.
pub(crate) fn push<A: Address>(answers: &mut Answers<A>, edge: A, apis: ApiSet) {
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
