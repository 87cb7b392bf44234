//! The text of a policy, and where in it a byte stands.

use std::borrow::Cow;

/// The largest document that is read, in bytes. A million CIDR blocks take about 25 MB.
pub const SIZE_LIMIT: usize = 256 << 20;

/// A policy document as it was read: its name for messages and its text.
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
    /// Takes the bytes of a file. Bytes that are not UTF-8 are reported by [`super::parse`].
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

    /// Where the byte at `offset` stands; an offset past the end is the end.
    #[must_use]
    pub fn locate(&self, offset: usize) -> Position {
        Locator::new(&self.text).locate(offset)
    }
}

/// The nearest character's beginning at or before `offset`.
pub(crate) fn floor_boundary(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    (0..=end)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}

/// Finds the places of ascending offsets in one pass.
pub(crate) struct Locator<'s> {
    text: &'s str,
    done: usize,
    at: Position,
}

impl<'s> Locator<'s> {
    pub(crate) fn new(text: &'s str) -> Self {
        Self {
            text,
            done: 0,
            at: Position { line: 1, column: 1 },
        }
    }

    /// Where the byte at `offset` stands; an offset before the last one asked for begins anew.
    pub(crate) fn locate(&mut self, offset: usize) -> Position {
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

/// The policy inside a file: the file itself, or a string in it that holds the policy, as in what
/// `aws apigateway get-rest-api` prints.
pub(crate) struct Document<'s> {
    /// The policy's own text.
    pub(crate) text: Cow<'s, str>,
    layers: Vec<Layer>,
}

/// One level of JSON string escapes: the string's body and where that begins in the text around it.
struct Layer {
    body: String,
    start: usize,
}

impl<'s> Document<'s> {
    /// A text that is the policy.
    pub(crate) fn plain(text: &'s str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            layers: Vec::new(),
        }
    }

    /// The policy held, escaped, in the string body `body` that begins at `start` of this text.
    pub(crate) fn unwrap_string(mut self, body: &str, start: usize, decoded: String) -> Self {
        self.layers.push(Layer {
            body: body.to_owned(),
            start,
        });
        self.text = Cow::Owned(decoded);
        self
    }

    /// How many levels of escapes were undone.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Finds the places in the file of ascending offsets in the policy's text.
    pub(crate) fn unwrapped(&self) -> Unwrapped<'_> {
        Unwrapped {
            cursors: self.layers.iter().rev().map(Cursor::new).collect(),
        }
    }
}

/// Finds the places in the file of ascending offsets in the policy's text, in one pass.
#[derive(Clone)]
pub(crate) struct Unwrapped<'d> {
    /// From the innermost level outwards.
    cursors: Vec<Cursor<'d>>,
}

impl Unwrapped<'_> {
    /// The offset in the file of the character that stands at `offset` of the policy's text.
    pub(crate) fn outer(&mut self, offset: usize) -> usize {
        self.cursors
            .iter_mut()
            .fold(offset, |offset, cursor| cursor.outer(offset))
    }
}

/// How far one level of escapes was walked.
#[derive(Clone)]
struct Cursor<'d> {
    layer: &'d Layer,
    decoded: usize,
    at: usize,
}

impl<'d> Cursor<'d> {
    fn new(layer: &'d Layer) -> Self {
        Self {
            layer,
            decoded: 0,
            at: 0,
        }
    }

    fn outer(&mut self, offset: usize) -> usize {
        if offset < self.decoded {
            *self = Self::new(self.layer);
        }
        while self.decoded < offset {
            let rest = self
                .layer
                .body
                .as_bytes()
                .get(self.at..)
                .unwrap_or_default();
            let (step, bytes) = escape_at(rest);
            if step == 0 {
                break;
            }
            self.at += step;
            self.decoded += bytes;
        }
        self.layer.start + self.at
    }
}

/// The length of the escape or byte that `body` begins with, and of what it decodes to.
fn escape_at(body: &[u8]) -> (usize, usize) {
    match body {
        [] => (0, 0),
        [b'\\', b'u', rest @ ..] => match unicode_escape(rest) {
            0xD800..=0xDBFF => (12.min(body.len()), 4),
            0x800.. => (6, 3),
            0x80.. => (6, 2),
            _ => (6, 1),
        },
        [b'\\', _, ..] => (2, 1),
        _ => (1, 1),
    }
}

fn unicode_escape(digits: &[u8]) -> u32 {
    digits
        .get(..4)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
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

    #[test]
    fn offsets_survive_escapes() {
        let body = r#"a\"bA\u00e4\ud83d\ude00z"#;
        let decoded: String = serde_json::from_str(&format!("\"{body}\"")).unwrap();
        let document = Document::plain("").unwrap_string(body, 0, decoded.clone());
        let mut unwrapped = document.unwrapped();
        for (offset, character) in decoded.char_indices() {
            let rest = body.get(unwrapped.outer(offset)..).unwrap();
            let back: String = serde_json::from_str(&format!("\"{rest}\"")).unwrap();
            assert!(back.starts_with(character), "{offset} {rest}");
        }
    }
}
