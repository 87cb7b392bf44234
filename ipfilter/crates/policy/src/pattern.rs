//! Wildcards: `*` for any run of characters, `?` for one.

/// Whether `pattern` matches the whole of `text`.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(expected) if *expected == b'?' || expected == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, from)) = retry else {
                    return false;
                };
                retry = Some((after, from + 1));
                p = after;
                t = from + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == b'*')
}

/// Whether `text` holds a wildcard or the start of a policy variable.
pub(crate) fn is_open(text: &str) -> bool {
    text.contains(['*', '?', '$'])
}

/// Whether every text that `narrow` matches is matched by `wide`. May say no where yes is true.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    // A `?` of the wide pattern must not be taken to match a `*` of the narrow one; and the search is
    // quadratic at worst, so only for texts of ordinary length.
    const LONGEST: usize = 2048;
    wide == narrow
        || (wide.len().max(narrow.len()) <= LONGEST
            && !wide.contains(['?', '$'])
            && !narrow.contains('$')
            && matches(wide, narrow))
}

/// The places in `pattern` that can be reached by matching the whole of `text` with what precedes.
pub(crate) fn tails<'p>(pattern: &'p str, text: &str) -> Vec<&'p str> {
    let bytes = pattern.as_bytes();
    let mut places = open_stars(bytes, [0].into());
    for byte in text.bytes() {
        let next = places
            .iter()
            .filter_map(|at| match bytes.get(*at) {
                Some(b'*') => Some(*at),
                Some(expected) if *expected == b'?' || *expected == byte => Some(*at + 1),
                _ => None,
            })
            .collect();
        places = open_stars(bytes, next);
    }
    places
        .into_iter()
        .filter_map(|at| pattern.get(at..))
        .collect()
}

/// A star may match nothing: what follows it can be reached too.
fn open_stars(pattern: &[u8], places: Vec<usize>) -> Vec<usize> {
    let mut open = Vec::with_capacity(places.len());
    for mut at in places {
        while open.last().is_none_or(|last| *last < at) {
            open.push(at);
            if pattern.get(at) != Some(&b'*') {
                break;
            }
            at += 1;
        }
    }
    open
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                naive(rest, text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            ([b'?', rest @ ..], [_, tail @ ..]) => naive(rest, tail),
            ([a, rest @ ..], [b, tail @ ..]) if a == b => naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(
                matches(&pattern, &text),
                naive(pattern.as_bytes(), text.as_bytes())
            );
        }

        #[test]
        fn tails_are_what_is_left(pattern in "[ab*?]{0,8}", head in "[ab]{0,4}", tail in "[ab]{0,4}") {
            let whole = matches(&pattern, &format!("{head}{tail}"));
            let split = tails(&pattern, &head).iter().any(|rest| matches(rest, &tail));
            prop_assert_eq!(whole, split);
        }

        #[test]
        fn covering_is_sound(wide in "[ab*?]{0,6}", narrow in "[ab*?]{0,6}", text in "[ab]{0,6}") {
            if covers(&wide, &narrow) && matches(&narrow, &text) {
                prop_assert!(matches(&wide, &text));
            }
        }
    }
}
