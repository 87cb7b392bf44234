//! JSON values that know where they are.
//!
//! `serde_json` does the reading: every level is split into the untouched text of its members, and a
//! member's offset is where its slice lies within the document. Repeated names are kept, since a
//! document that repeats one must be refused, not silently resolved.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{
    Deserializer as _,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::source::floor_boundary;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list.
    List,
    /// An object.
    Object,
}

impl Kind {
    /// The kind with its article, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "a Boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::List => "a list",
            Self::Object => "an object",
        }
    }
}

/// A value's text and its offset in the document.
#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    text: &'t str,
    offset: usize,
}

/// Why a text is not JSON, and where.
#[derive(Debug)]
pub struct SyntaxError {
    /// Its place, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
    /// The text ended too early.
    pub truncated: bool,
}

/// Checks that `text` is one JSON value and returns it.
pub fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) => Ok(Node { text, offset: 0 }.child(raw)),
        Err(error) => Err(SyntaxError {
            offset: offset_of(text, error.line(), error.column()),
            message: without_place(&error.to_string()),
            truncated: error.is_eof(),
        }),
    }
}

/// The reader counts columns in bytes, and names the last byte it took; in column 0 that is a line's end.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start = match line.checked_sub(2) {
        Some(nth) => text
            .match_indices('\n')
            .nth(nth)
            .map_or(0, |(at, _)| at + 1),
        None => 0,
    };
    floor_boundary(text, (start + column).saturating_sub(1))
}

fn without_place(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message.get(..end).unwrap_or(message).to_owned()
}

impl<'t> Node<'t> {
    /// A text that is yet to be read: it has members if it is an object, and is else of no use.
    pub fn unread(text: &'t str) -> Self {
        Self { text, offset: 0 }
    }

    fn child(&self, raw: &'t RawValue) -> Self {
        let start = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
        Self {
            text: raw.get(),
            offset: self.offset + start,
        }
    }

    /// The same value in a document that has `bytes` more before it.
    pub fn shifted(mut self, bytes: usize) -> Self {
        self.offset += bytes;
        self
    }

    /// The bytes of the document it takes.
    pub fn span(&self) -> Range<usize> {
        self.offset..self.offset + self.text.len()
    }

    /// Its text, as written.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.text.as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::String,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// The string it is, escapes undone; `Err` says what is wrong with the escapes, `Ok(None)` that
    /// it is no string.
    pub fn string(&self) -> Result<Option<Cow<'t, str>>, String> {
        if self.kind() != Kind::String {
            return Ok(None);
        }
        match self.body() {
            body if !body.contains('\\') => Ok(Some(Cow::Borrowed(body))),
            _ => serde_json::from_str(self.text)
                .map(|text: String| Some(Cow::Owned(text)))
                .map_err(|error| without_place(&error.to_string())),
        }
    }

    /// The text between a string's quotes.
    pub fn body(&self) -> &'t str {
        self.text
            .get(1..self.text.len().saturating_sub(1))
            .unwrap_or_default()
    }

    /// The member of that name, if the value is an object that has one.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<Self> {
        let named = |key: &Self| key.string().ok().flatten().is_some_and(|key| key == name);
        let mut members = self.members().into_iter();
        members.find(|(key, _)| named(key)).map(|(_, value)| value)
    }

    /// The names and values of an object, in order, repeated names included; else nothing.
    pub fn members(&self) -> Vec<(Self, Self)> {
        let mut reader = serde_json::Deserializer::from_str(self.text);
        reader.deserialize_map(Members(*self)).unwrap_or_default()
    }

    /// The values of a list, in order; else nothing.
    pub fn elements(&self) -> Vec<Self> {
        let mut reader = serde_json::Deserializer::from_str(self.text);
        reader.deserialize_seq(Elements(*self)).unwrap_or_default()
    }
}

/// What is in an object.
struct Members<'t>(Node<'t>);

/// What is in a list.
struct Elements<'t>(Node<'t>);

impl<'t> Visitor<'t> for Members<'t> {
    type Value = Vec<(Node<'t>, Node<'t>)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry()? {
            members.push((self.0.child(name), self.0.child(value)));
        }
        Ok(members)
    }
}

impl<'t> Visitor<'t> for Elements<'t> {
    type Value = Vec<Node<'t>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(value) = list.next_element()? {
            elements.push(self.0.child(value));
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_place() {
        let text = r#" {"a": [1, "x"], "\u0061" : null}"#;
        let root = parse(text).unwrap();
        let members = root.members();
        let names: Vec<_> = members
            .iter()
            .map(|(name, _)| name.string().unwrap().unwrap())
            .collect();
        assert_eq!(names, ["a", "a"]);
        let list = members[0].1.elements();
        assert_eq!(&text[list[1].span()], "\"x\"");
        assert_eq!(members[1].1.kind(), Kind::Null);
    }

    #[test]
    fn faults_are_placed() {
        let error = parse("{\n  \"a\": tru\n}").unwrap_err();
        assert_eq!(error.offset, 12, "{error:?}");
        assert!(parse("{\"a\": [1, 2").unwrap_err().truncated);
        assert!(parse("{} {}").is_err());
    }

    #[test]
    fn depth_does_not_grow_the_stack() {
        let deep = "[".repeat(1_000_000);
        assert!(parse(&deep).unwrap_err().truncated);
    }
}
