//! The policy inside a file, which may be a part of it, or a string in it.

use std::{borrow::Cow, ops::Range};

pub(crate) use ipfilter_document::source::Locator;
pub use ipfilter_document::source::{Position, Source};

/// The largest document that is read, in bytes. A million CIDR blocks take about 25 MB.
pub const SIZE_LIMIT: usize = 256 << 20;

/// The policy inside a file: the file itself, or a string in it that holds the policy, as in what
/// `aws apigateway get-rest-api` prints.
pub(crate) struct Document<'s> {
    /// The policy's own text.
    pub(crate) text: Cow<'s, str>,
    layers: Vec<Layer>,
}

/// A part of the text around it: where it begins, and its text if that is a string's body with escapes.
struct Layer {
    body: Option<String>,
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
    pub(crate) fn unwrap_string(mut self, body: String, start: usize, decoded: String) -> Self {
        let body = Some(body);
        self.layers.push(Layer { body, start });
        self.text = Cow::Owned(decoded);
        self
    }

    /// The policy that is a part of this text.
    pub(crate) fn part(mut self, span: Range<usize>) -> Self {
        self.layers.push(Layer {
            body: None,
            start: span.start,
        });
        self.text = match self.text {
            Cow::Borrowed(text) => Cow::Borrowed(text.get(span).unwrap_or_default()),
            Cow::Owned(text) => Cow::Owned(text.get(span).unwrap_or_default().to_owned()),
        };
        self
    }

    /// How many levels were removed.
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
    /// The offset in the file of the character at `offset` of the policy's text.
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
        let Some(body) = &self.layer.body else {
            return self.layer.start + offset;
        };
        while self.decoded < offset {
            let rest = body.as_bytes().get(self.at..).unwrap_or_default();
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
    fn offsets_survive_escapes() {
        let body = r#"a\"bA\u00e4\ud83d\ude00z"#;
        let decoded: String = serde_json::from_str(&format!("\"{body}\"")).unwrap();
        let document = Document::plain("").unwrap_string(body.to_owned(), 0, decoded.clone());
        let mut unwrapped = document.unwrapped();
        for (offset, character) in decoded.char_indices() {
            let rest = body.get(unwrapped.outer(offset)..).unwrap();
            let back: String = serde_json::from_str(&format!("\"{rest}\"")).unwrap();
            assert!(back.starts_with(character), "{offset} {rest}");
        }
    }
}
