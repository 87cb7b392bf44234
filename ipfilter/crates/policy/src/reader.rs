//! Reading objects, lists and strings, with every mistake noted on the way.

use std::{borrow::Cow, collections::HashSet};

use super::{
    class::Classes,
    json::{Kind, Node},
    problem::{Advice, At, Path, Problems, clip},
};

/// What is needed while a policy is read.
pub(crate) struct Reader<'c> {
    pub(crate) problems: Problems,
    pub(crate) classes: &'c Classes,
}

/// A name in an object and the value it stands for.
pub(crate) struct Member<'t> {
    pub(crate) name: Cow<'t, str>,
    pub(crate) key: Node<'t>,
    pub(crate) value: Node<'t>,
}

impl Reader<'_> {
    pub(crate) fn error(
        &mut self,
        kind: &'static str,
        at: &At<'_>,
        advice: impl FnOnce() -> Advice,
    ) {
        self.problems.error(kind, at, advice);
    }

    pub(crate) fn warn(
        &mut self,
        kind: &'static str,
        at: &At<'_>,
        advice: impl FnOnce() -> Advice,
    ) {
        self.problems.warn(kind, at, advice);
    }

    /// The members of an object that has some, each name once; else says what is wrong. `what` names
    /// the object with its article.
    pub(crate) fn object<'t>(
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
    pub(crate) fn members<'t>(&mut self, node: Node<'t>, path: &Path<'_>) -> Vec<Member<'t>> {
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
    pub(crate) fn text<'t>(
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

    /// Hands each value of a list to `read`, or the one value that stands in place of a list.
    pub(crate) fn each<'t>(
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
