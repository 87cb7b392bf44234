//! Reading objects, lists and strings, with every mistake noted on the way.

use std::{borrow::Cow, collections::HashSet};

use crate::{
    characters,
    json::{self, Kind, Node, SyntaxError},
    problem::{Advice, At, Path, Problems, clip},
    source::Source,
};

/// The character that some editors begin a file with.
pub const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// What is needed while a document is read.
#[derive(Default)]
pub struct Reader<C = ()> {
    /// What is wrong with it so far.
    pub problems: Problems,
    /// What else its reader knows.
    pub context: C,
}

/// A name in an object and its value.
pub struct Member<'t> {
    /// The name, escapes undone.
    pub name: Cow<'t, str>,
    /// The name as it is written.
    pub key: Node<'t>,
    /// The value.
    pub value: Node<'t>,
}

impl<C> Reader<C> {
    /// With nothing read yet.
    pub fn new(context: C) -> Self {
        Self {
            problems: Problems::default(),
            context,
        }
    }

    /// Notes an error.
    pub fn error(&mut self, kind: &'static str, at: &At<'_>, advice: impl FnOnce() -> Advice) {
        self.problems.error(kind, at, advice);
    }

    /// Notes a warning.
    pub fn warn(&mut self, kind: &'static str, at: &At<'_>, advice: impl FnOnce() -> Advice) {
        self.problems.warn(kind, at, advice);
    }

    /// Whether a document is text; else says what it is.
    pub fn check_text(&mut self, source: &Source) -> bool {
        let Some(at) = source.not_utf8() else {
            return true;
        };
        self.error("utf-8", &(&Path::Root, at..at + 3), || not_utf8(source));
        false
    }

    /// The value that `text` is, which may begin with a byte order mark. `empty` says what an empty
    /// document lacks, `braces` what to write where the outer braces are missing.
    pub fn root<'t>(&mut self, text: &'t str, empty: &str, braces: &str) -> Option<Node<'t>> {
        let body = text.trim_start_matches(BYTE_ORDER_MARK);
        let skipped = text.len() - body.len();
        if body.trim().is_empty() {
            self.error("json", &(&Path::Root, 0..0), || {
                Advice::new("the document is empty").hint(empty)
            });
            return None;
        }
        match json::parse(body) {
            Ok(root) => Some(root.shifted(skipped)),
            Err(error) => {
                let end = text.len().min(skipped + error.offset + 1);
                let at = (&Path::Root, (skipped + error.offset).min(end)..end);
                self.error("json", &at, || syntax_advice(body, &error, braces));
                None
            }
        }
    }

    /// The members of an object that has some, each name once; else says what is wrong. `what` names
    /// the object with its article.
    pub fn object<'t>(
        &mut self,
        node: Node<'t>,
        path: &Path<'_>,
        what: &str,
    ) -> Option<Vec<Member<'t>>> {
        if node.kind() != Kind::Object {
            self.error("kind", &(path, node.span()), || {
                Advice::new(format!("{what} is an object, not {}", node.kind().name()))
            });
            return None;
        }
        let members = self.members(node, path);
        if members.is_empty() {
            self.error("empty", &(path, node.span()), || {
                Advice::new(format!("{what} cannot be empty"))
            });
            return None;
        }
        Some(members)
    }

    /// The members of an object, each name once; repetitions are errors.
    pub fn members<'t>(&mut self, node: Node<'t>, path: &Path<'_>) -> Vec<Member<'t>> {
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for (key, value) in node.members() {
            let Some(name) = self.text(key, path, "a name") else {
                continue;
            };
            if seen.insert(name.clone()) {
                members.push(Member { name, key, value });
            } else {
                self.error("duplicate", &(&path.name(&name), key.span()), || {
                    Advice::new(format!("`{}` appears twice", clip(&name)))
                        .hint("keep one: which of them would count is not defined")
                });
            }
        }
        members
    }

    /// A string; else says that `what` is one.
    pub fn text<'t>(
        &mut self,
        node: Node<'t>,
        path: &Path<'_>,
        what: &str,
    ) -> Option<Cow<'t, str>> {
        match node.string() {
            Ok(Some(text)) => Some(text),
            Ok(None) => {
                self.error("kind", &(path, node.span()), || {
                    Advice::new(format!("{what} is a string, not {}", node.kind().name()))
                });
                None
            }
            Err(fault) => {
                self.error("json", &(path, node.span()), || {
                    Advice::new(format!("{what} is not a valid JSON string: {fault}"))
                });
                None
            }
        }
    }

    /// Hands each value of a list to `read`, or the single value in place of a list.
    pub fn each<'t>(
        &mut self,
        node: Node<'t>,
        path: &Path<'_>,
        what: &str,
        mut read: impl FnMut(&mut Self, Node<'t>, &Path<'_>),
    ) {
        if node.kind() != Kind::List {
            read(self, node, path);
            return;
        }
        let elements = node.elements();
        if elements.is_empty() {
            self.error("empty", &(path, node.span()), || {
                Advice::new(format!("{what} cannot be an empty list"))
                    .hint("list at least one value")
            });
        }
        for (index, element) in elements.into_iter().enumerate() {
            read(self, element, &path.index(index));
        }
    }
}

fn not_utf8(source: &Source) -> Advice {
    let advice = Advice::new("the file is not UTF-8 text");
    // The two bytes of a UTF-16 byte order mark, each replaced.
    if source.not_utf8() == Some(0) && source.text().starts_with("\u{FFFD}\u{FFFD}") {
        return advice.hint("it looks like UTF-16: save it as UTF-8");
    }
    advice.hint("save it as UTF-8")
}

fn syntax_advice(text: &str, error: &SyntaxError, braces: &str) -> Advice {
    if text.trim_start().starts_with('"') && error.message == "trailing characters" {
        return Advice::new("the document is not JSON: it does not begin with a brace")
            .hint(format!("the outer braces are missing: {braces}"));
    }
    if let Some(advice) = characters::explain(text, error.offset) {
        return advice;
    }
    if error.truncated {
        return Advice::new("the document ends too early: it is not closed")
            .hint("the file may have been cut off while it was copied");
    }
    let advice = Advice::new(format!("the document is not JSON: {}", error.message));
    let closing = text
        .as_bytes()
        .get(error.offset)
        .is_some_and(|byte| b"]}".contains(byte));
    match error.message.as_str() {
        "trailing characters" => advice.hint("one document a file: there is more after its end"),
        "trailing comma" => advice.hint("remove the comma before the closing bracket"),
        "expected value" | "key must be a string" if closing => {
            advice.hint("is there a comma too many before the closing bracket?")
        }
        "key must be a string" => {
            advice.hint("a name in double quotes is expected here: is there a comma too many?")
        }
        _ => advice,
    }
}
