//! The text of a document, and where in it a byte is.

/// A document as it was read: its name for messages and its text.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: String,
    not_utf8: Option<usize>,
}

/// A place in a text; both count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

impl Source {
    /// Takes the bytes of a file. Bytes that are not UTF-8 are reported by [`check_text`](crate::reader::Reader::check_text).
    pub fn new(name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let name = name.into();
        match String::from_utf8(bytes.into()) {
            Ok(text) => Self {
                name,
                text,
                not_utf8: None,
            },
            Err(error) => Self {
                name,
                not_utf8: Some(error.utf8_error().valid_up_to()),
                text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            },
        }
    }

    /// The name messages use for it: a path, or `-`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text; bytes that were not UTF-8 are replaced by U+FFFD.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The offset of the first byte that is not UTF-8.
    #[must_use]
    pub fn not_utf8(&self) -> Option<usize> {
        self.not_utf8
    }

    /// Where the byte at `offset` is; an offset past the end is the end.
    #[must_use]
    pub fn locate(&self, offset: usize) -> Position {
        Locator::new(&self.text).locate(offset)
    }
}

/// The nearest character's beginning at or before `offset`.
#[must_use]
pub fn floor_boundary(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    (0..=end)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// Finds the places of ascending offsets in one pass.
pub struct Locator<'s> {
    text: &'s str,
    done: usize,
    at: Position,
}

impl<'s> Locator<'s> {
    /// Begins at the beginning of `text`.
    #[must_use]
    pub fn new(text: &'s str) -> Self {
        Self {
            text,
            done: 0,
            at: Position { line: 1, column: 1 },
        }
    }

    /// Where the byte at `offset` is; an offset before the last one asked for begins anew.
    pub fn locate(&mut self, offset: usize) -> Position {
        if offset < self.done {
            *self = Self::new(self.text);
        }
        let end = floor_boundary(self.text, offset);
        for character in self.text.get(self.done..end).unwrap_or_default().chars() {
            if character == '\n' {
                self.at.line += 1;
                self.at.column = 1;
            } else {
                self.at.column += 1;
            }
        }
        self.done = end;
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("x", "a\nbäc\r\nd".as_bytes().to_vec());
        let at = |offset| {
            let place = source.locate(offset);
            (place.line, place.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(2), (2, 1));
        assert_eq!(at(5), (2, 3));
        assert_eq!(at(99), (3, 2));
    }
}
