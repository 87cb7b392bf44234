//! Wildcards in resources, which stay within a segment between colons.
//!
//! Follows the IAM User Guide's "IAM JSON policy elements: Resource": `*` and `?` match within their
//! segment, but a `*` that is a segment's last character may match on past its colon.

use super::glob::{self, Piece};

/// Whether every text that `narrow` matches is matched by `wide`. May say no where yes is true.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    const LONGEST: usize = 2048;
    // A `?` of the wide pattern must not be taken to match a `*` of the narrow one.
    wide == narrow
        || (wide.len().max(narrow.len()) <= LONGEST
            && !wide.contains(['?', '$'])
            && !narrow.contains(['$', ':'])
            && matches_anywhere(wide, narrow))
}

/// Whether `pattern` matches `text` if colons are characters like any others.
fn matches_anywhere(pattern: &str, text: &str) -> bool {
    let mut pieces = Vec::new();
    for (nth, literal) in pattern.split('*').enumerate() {
        if nth > 0 {
            pieces.push(Piece::Any);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
    }
    glob::matches(&pieces, text)
}

/// Whether pieces of a resource match the whole of `text`, where wildcards stay within segments.
pub(crate) fn matches(pieces: &[Piece<'_>], text: &str) -> bool {
    // Stars that are meant as such must not be taken for wildcards.
    let plain = |text: &str| text.replace('*', "\u{E000}").replace('?', "\u{E001}");
    let pattern = pieces.iter().map(|piece| match piece {
        Piece::Text(text) => plain(text),
        Piece::Any => "*".to_owned(),
        Piece::One => "?".to_owned(),
    });
    let pattern: String = pattern.collect();
    Places::start(&pattern).then(&plain(text)).at_end()
}

/// Whether `text` holds a wildcard or the start of a policy variable.
pub(crate) fn is_open(text: &str) -> bool {
    text.contains(['*', '?', '$'])
}

/// The places in a pattern that are reached by matching what has been read so far.
#[derive(Clone, Debug)]
pub(crate) struct Places<'p> {
    pattern: &'p str,
    /// Ascending.
    at: Vec<usize>,
}

impl<'p> Places<'p> {
    /// Before anything is read.
    pub(crate) fn start(pattern: &'p str) -> Self {
        Self {
            pattern,
            at: vec![0],
        }
        .open()
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.pattern.as_bytes().get(at).copied()
    }

    /// A `*` may match nothing: what follows it is reached too.
    fn open(mut self) -> Self {
        let mut open: Vec<usize> = Vec::with_capacity(self.at.len());
        for mut at in std::mem::take(&mut self.at) {
            while open.last().is_none_or(|last| *last < at) {
                open.push(at);
                if self.byte(at) != Some(b'*') {
                    break;
                }
                at += 1;
            }
        }
        self.at = open;
        self
    }

    /// Whether the `*` at this place ends its segment.
    fn ends_segment(&self, at: usize) -> bool {
        matches!(self.byte(at + 1), None | Some(b':'))
    }

    /// The place after reading `byte` at `at`.
    fn step(&self, at: usize, byte: u8) -> Option<usize> {
        match self.byte(at)? {
            b'*' => (byte != b':' || self.ends_segment(at)).then_some(at),
            b'?' => (byte != b':').then_some(at + 1),
            expected => (expected == byte).then_some(at + 1),
        }
    }

    /// After `text`.
    pub(crate) fn then(mut self, text: &str) -> Self {
        for byte in text.bytes() {
            let next = self.at.iter().filter_map(|at| self.step(*at, byte));
            self.at = next.collect();
            self = self.open();
        }
        self
    }

    /// After some text, of at least one character, that has neither `/` nor `:`.
    pub(crate) fn then_some(mut self) -> Self {
        let mut reached = vec![false; self.pattern.len() + 2];
        let mut before = self.at.iter().copied().peekable();
        for at in 0..=self.pattern.len() {
            let here = reached.get(at).copied().unwrap_or_default();
            let begins = before.next_if_eq(&at).is_some();
            let next = match self.byte(at) {
                Some(b'*') if here || begins => {
                    set(&mut reached, at);
                    at + 1
                }
                Some(b'/' | b':') | None => continue,
                Some(_) if here || begins => at + 1,
                Some(_) => continue,
            };
            set(&mut reached, next);
        }
        let places = reached.iter().enumerate();
        self.at = places
            .filter(|(_, reached)| **reached)
            .map(|(at, _)| at)
            .collect();
        self
    }

    /// Whether there is a way to read what was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.at.is_empty()
    }

    /// Whether the pattern may end here.
    pub(crate) fn at_end(&self) -> bool {
        self.at.last() == Some(&self.pattern.len())
    }

    /// What is left of the pattern, from each place; those that another includes are left out.
    pub(crate) fn tails(&self) -> impl Iterator<Item = &'p str> + '_ {
        let after_star = |at: usize| {
            let star = at.checked_sub(1)?;
            (self.byte(star) == Some(b'*') && self.at.binary_search(&star).is_ok()).then_some(())
        };
        let places = self.at.iter().filter(move |at| after_star(**at).is_none());
        places.filter_map(|at| self.pattern.get(*at..))
    }
}

fn set(places: &mut [bool], at: usize) {
    if let Some(place) = places.get_mut(at) {
        *place = true;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &str, text: &str) -> bool {
        Places::start(pattern).then(text).at_end()
    }

    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                let crosses = matches!(rest.first(), None | Some(b':'));
                naive(rest, text)
                    || text.first().is_some_and(|first| *first != b':' || crosses)
                        && naive(pattern, &text[1..])
            }
            ([b'?', rest @ ..], [first, tail @ ..]) => *first != b':' && naive(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) if a == b => naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab:*?]{0,8}", text in "[ab:]{0,8}") {
            prop_assert_eq!(is_match(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn tails_are_what_is_left(pattern in "[ab:*?]{0,8}", head in "[ab:]{0,4}", tail in "[ab:]{0,4}") {
            let whole = is_match(&pattern, &format!("{head}{tail}"));
            let places = Places::start(&pattern).then(&head);
            let split = places.tails().any(|rest| is_match(rest, &tail));
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn some_text_is_any_text(pattern in "[ab:/*?]{0,6}", tail in "[ab:/]{0,3}") {
            let texts = ["a", "b", "aa", "ab", "ba", "bb", "aaa", "bbb", "aab", "aba", "baa", "abb", "bab", "bba"];
            let some = Places::start(&pattern).then_some().then(&tail).at_end();
            let any = texts.iter().any(|text| is_match(&pattern, &format!("{text}{tail}")));
            // Longer texts are not tried, but the patterns are short.
            prop_assert!(!any || some);
        }

        #[test]
        fn covering_is_sound(wide in "[ab*?]{0,6}", narrow in "[ab*?]{0,6}", text in "[ab:]{0,6}") {
            if covers(&wide, &narrow) && is_match(&narrow, &text) {
                prop_assert!(is_match(&wide, &text));
            }
        }
    }
}
