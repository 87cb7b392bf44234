//! What an interval table answers, read back from its words: for each address, whatever the words are.
//!
//! The table is asked by the code that the kernel runs. Between two *edges* that code compares alike, takes
//! the same path and gives the same answer; so one address of each piece between edges represents all of
//! them. The edges are found in the words: the boundaries that a list compares with, the bits of a bitmap,
//! the prefixes of a root. One edge too many costs a lookup; none is ever missing, however the table is
//! damaged.

pub(super) mod v4;
pub(super) mod v6;

use ipfilter_addresses::Address;
use ipfilter_ebpf::{abi::ApiSet, interval::Image};

use super::Family;
use crate::read_back::{Answers, Malformed, push};

/// What an interval table answers.
///
/// # Errors
///
/// When that can't be determined.
pub(crate) fn interval_answers<A: Family>(
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
