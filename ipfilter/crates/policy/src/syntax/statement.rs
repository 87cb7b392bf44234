//! Statements, as written.

use std::{borrow::Cow, ops::Range};

use super::{
    action::Action,
    condition::{self, Condition},
    principal::Principal,
    reader::{Member, Reader},
    resource::Resource,
};
use crate::text::{
    json::{Kind, Node},
    problem::{Advice, Path, StatementId, clip, nearest},
};

/// What a matching statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Lets the request in, unless a Deny matches too.
    Allow,
    /// Turns the request away, whatever else matches.
    Deny,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    pub(crate) principal: Element<Principal>,
    pub(crate) action: Element<Action>,
    pub(crate) resource: Element<Resource>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
}

impl Statement {
    /// What names the statement in problems.
    pub(crate) fn id(&self, index: usize) -> StatementId {
        StatementId {
            index,
            sid: self.sid.clone(),
        }
    }
}

/// An element of a statement and its position.
#[derive(Clone, Debug)]
pub(crate) struct Element<T> {
    pub(crate) is: T,
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
}

const ELEMENTS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

/// Reads one statement; `None` when a part that it needs cannot be had. What is wrong is noted.
pub(crate) fn parse(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Statement> {
    if node.kind() != Kind::Object {
        reader.error("kind", &(path, node.span()), || {
            Advice::new(format!(
                "a statement is an object, not {}",
                node.kind().name()
            ))
        });
        return None;
    }
    let members = reader.members(node, path);
    let found = Found {
        node,
        path,
        members: &members,
    };
    let sid = found.get("Sid").and_then(|member| {
        reader
            .text(member.value, &path.name("Sid"), "`Sid`")
            .map(Cow::into_owned)
    });
    if let Some(statement) = &mut reader.problems.statement {
        statement.sid.clone_from(&sid);
    }
    for member in &members {
        check_name(reader, member, path);
    }
    let effect = effect(reader, &found);
    let principal = found.either(reader, "Principal", "NotPrincipal", Principal::parse);
    let action = found.either(reader, "Action", "NotAction", Action::parse);
    let resource = found.either(reader, "Resource", "NotResource", Resource::parse);
    let conditions = match found.get("Condition") {
        Some(member) => condition::parse(reader, member.value, &path.name("Condition")),
        None => Vec::new(),
    };
    Some(Statement {
        sid,
        effect: effect?,
        principal: principal?,
        action: action?,
        resource: resource?,
        conditions,
        path: path.to_string(),
        span: node.span(),
    })
}

fn check_name(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) {
    let name = member.name.as_ref();
    if ELEMENTS.contains(&name) {
        return;
    }
    reader.error("element", &(&path.name(name), member.key.span()), || {
        let advice = Advice::new(format!("a statement has no element `{}`", clip(name)));
        match nearest(name, ELEMENTS) {
            Some(element) => advice.hint(format!("did you mean `{element}`?")),
            None => advice.hint(format!(
                "elements are {}",
                ELEMENTS.map(|e| format!("`{e}`")).join(", ")
            )),
        }
    });
}

/// Members that are looked at for a misspelt element that seems missing.
const MOST_MISSPELT: usize = 64;

/// A statement's members while it is read.
struct Found<'f, 't> {
    node: Node<'t>,
    path: &'f Path<'f>,
    members: &'f [Member<'t>],
}

type ParseElement<'t, T> = fn(&mut Reader, Node<'t>, &Path<'_>, bool) -> T;

impl<'t> Found<'_, 't> {
    fn get(&self, name: &str) -> Option<&Member<'t>> {
        self.members.iter().find(|member| member.name == name)
    }

    /// Points at the statement when it lacks an element.
    fn missing(&self, reader: &mut Reader, name: &str, advice: impl FnOnce() -> Advice) {
        let misspelt = |member: &Member<'_>| {
            !ELEMENTS.contains(&member.name.as_ref())
                && nearest(&member.name, ELEMENTS) == Some(name)
        };
        if self.members.iter().take(MOST_MISSPELT).any(misspelt) {
            return;
        }
        let start = self.node.span().start;
        reader.error(
            "missing",
            &(&self.path.name(name), start..start + 1),
            advice,
        );
    }

    /// The element `name`, or its opposite `except`; exactly one of them must be there.
    fn either<T>(
        &self,
        reader: &mut Reader,
        name: &str,
        except: &str,
        parse: ParseElement<'t, T>,
    ) -> Option<Element<T>> {
        let (member, negated) = match (self.get(name), self.get(except)) {
            (Some(member), None) => (member, false),
            (None, Some(member)) => (member, true),
            (Some(_), Some(member)) => {
                reader.error(
                    "both",
                    &(&self.path.name(except), member.key.span()),
                    || {
                        Advice::new(format!("`{name}` and `{except}` exclude each other"))
                            .hint("keep one of them")
                    },
                );
                return None;
            }
            (None, None) => {
                self.missing(reader, name, || {
                    Advice::new(format!("the statement has no `{name}`"))
                        .hint(format!("add `{name}` or `{except}`"))
                });
                return None;
            }
        };
        let path = self.path.name(if negated { except } else { name });
        Some(Element {
            is: parse(reader, member.value, &path, negated),
            path: path.to_string(),
            span: member.key.span().start..member.value.span().end,
        })
    }
}

fn effect(reader: &mut Reader, found: &Found<'_, '_>) -> Option<Effect> {
    let Some(member) = found.get("Effect") else {
        found.missing(reader, "Effect", || {
            Advice::new("the statement has no `Effect`")
                .hint("add \"Effect\": \"Allow\" or \"Deny\"")
        });
        return None;
    };
    let path = found.path.name("Effect");
    let text = reader.text(member.value, &path, "`Effect`")?;
    match text.as_ref() {
        "Allow" => Some(Effect::Allow),
        "Deny" => Some(Effect::Deny),
        other => {
            reader.error("effect", &(&path, member.value.span()), || {
                let advice = Advice::new(format!("`{}` is not an effect", clip(other)));
                match nearest(other, ["Allow", "Deny"]) {
                    Some(effect) => advice.hint(format!("write `{effect}`, with its capital")),
                    None => advice.hint("write `Allow` or `Deny`"),
                }
            });
            None
        }
    }
}
