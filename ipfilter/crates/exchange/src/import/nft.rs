//! nftables (nft(8)): sets, elements, and a chain that asks for sources.

mod chain;
mod ruleset;
#[cfg(test)]
mod tests;
mod tokens;

use self::{
    ruleset::Ruleset,
    tokens::{Reader, tokens},
};
use super::{Choice, Imported};
use crate::{Problem, block::Range};

/// Whether a text is the elements of a set, and nothing around them.
pub(super) fn is_elements(text: &str) -> bool {
    let inside = text
        .trim()
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let first =
        inside.and_then(|inside| inside.split([',', ' ', '\n']).find(|word| !word.is_empty()));
    first.is_some_and(|word| Range::parse(word).is_some())
}

pub(super) fn is_beginning(line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("table" | "set" | "chain") => line.contains('{'),
        Some("define") => line.contains('='),
        Some("elements") => words.next() == Some("="),
        Some("add") => matches!(words.next(), Some("element" | "table" | "set" | "rule")),
        _ => false,
    }
}

pub(super) fn read(text: &str, choice: &Choice) -> Result<Imported, Vec<Problem>> {
    let tokens = tokens(text);
    let mut ruleset = Ruleset::default();
    if is_elements(text) {
        let mut reader = Reader {
            tokens: &tokens,
            place: 0,
        };
        ruleset.list("", &mut reader);
    } else {
        ruleset.top(&mut Reader {
            tokens: &tokens,
            place: 0,
        });
    }
    ruleset.finish(choice)
}
