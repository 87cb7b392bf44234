//! Matching text against wildcards, in time that grows with the text, whatever the wildcards.
//!
//! `*` matches any run of characters, `?` one.

/// A piece of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'p> {
    /// Exactly this text.
    Text(&'p str),
    /// `*`.
    Any,
    /// `?`.
    One,
}

/// Whether the pieces match the whole of `text`. Between two `*` the first place that fits is as good
/// as any other, so nothing is tried twice.
pub(crate) fn matches(pieces: &[Piece<'_>], text: &str) -> bool {
    let mut groups = pieces.split(|piece| *piece == Piece::Any).peekable();
    let first = groups.next().unwrap_or_default();
    let Some(mut rest) = strip_prefix(first, text) else {
        return false;
    };
    if groups.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(group) = groups.next() {
        if groups.peek().is_none() {
            return ends_with(group, rest);
        }
        match find(group, rest) {
            Some(after) => rest = after,
            None => return false,
        }
    }
    false
}

/// What follows the group in `text`, which must begin with it.
fn strip_prefix<'t>(group: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    group.iter().try_fold(text, |rest, piece| match piece {
        Piece::Text(literal) => rest.strip_prefix(literal),
        Piece::One => {
            let mut characters = rest.chars();
            characters.next().map(|_| characters.as_str())
        }
        Piece::Any => None,
    })
}

fn ends_with(group: &[Piece<'_>], text: &str) -> bool {
    let rest = group
        .iter()
        .rev()
        .try_fold(text, |rest, piece| match piece {
            Piece::Text(literal) => rest.strip_suffix(literal),
            Piece::One => {
                let mut characters = rest.chars();
                characters.next_back().map(|_| characters.as_str())
            }
            Piece::Any => None,
        });
    rest.is_some()
}

/// What follows the first place in `text` where the group fits.
fn find<'t>(group: &[Piece<'_>], text: &'t str) -> Option<&'t str> {
    match group {
        [] => Some(text),
        [Piece::Text(literal)] => {
            let at = text.find(literal)?;
            text.get(at + literal.len()..)
        }
        _ => text
            .char_indices()
            .map(|(at, _)| at)
            .filter_map(|at| text.get(at..))
            .find_map(|text| strip_prefix(group, text)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn pieces(pattern: &str) -> Vec<Piece<'_>> {
        pattern
            .char_indices()
            .map(|(at, character)| match character {
                '*' => Piece::Any,
                '?' => Piece::One,
                _ => Piece::Text(&pattern[at..at + character.len_utf8()]),
            })
            .collect()
    }

    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => {
                naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (['?', rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) if a == b => naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[aä*?]{0,8}", text in "[aä]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pieces(&pattern), &text), naive(&p, &t));
        }
    }

    #[test]
    fn many_wildcards_take_no_longer() {
        let begun = Instant::now();
        let pattern = format!("{}b", "*a".repeat(2_000));
        assert!(!matches(&pieces(&pattern), &"a".repeat(100_000)));
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
