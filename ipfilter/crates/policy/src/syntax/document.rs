//! The document around the statements.
//!
//! Follows the IAM User Guide's "Grammar of the IAM JSON policy language". The policy is taken out of what
//! tools keep it in (see [`super::container`]).

use ipfilter_document::reader::BYTE_ORDER_MARK;

use super::{
    container::{self, Contents},
    reader::{Member, Reader},
    statement::{self, Statement},
};
use crate::text::{
    json::{Kind, Node},
    problem::{Advice, Path, StatementId, clip, nearest},
    source::{Document, SIZE_LIMIT, Source},
};

/// More levels of escapes and objects than any tool adds.
const DEEPEST: usize = 4;

/// API Gateway's default quota for a resource policy, in characters (API Gateway Developer Guide,
/// "Quotas for configuring and running a REST API in API Gateway").
const QUOTA: usize = 8192;

/// The policy text in `source`: all of it, or a part of it. `None` when it cannot be read.
pub(crate) fn open<'s>(reader: &mut Reader, source: &'s Source) -> Option<Document<'s>> {
    if !reader.check_text(source) {
        return None;
    }
    let text = source.text();
    if text.len() > SIZE_LIMIT {
        reader.error("size", &(&Path::Root, 0..1), || {
            Advice::new(format!(
                "the document is larger than {} MiB",
                SIZE_LIMIT >> 20
            ))
            .hint("that is about ten million address blocks: merge them, or split the API")
        });
        return None;
    }
    if text.starts_with(BYTE_ORDER_MARK) {
        reader.warn("byte-order-mark", &(&Path::Root, 0..3), || {
            Advice::new("the file begins with a byte order mark; it is ignored")
                .hint("save it as UTF-8 without one: AWS does not take it")
        });
    }
    unwrap(reader, Document::plain(text))
}

/// Takes the policy out of what holds it.
fn unwrap<'s>(reader: &mut Reader, mut document: Document<'s>) -> Option<Document<'s>> {
    while document.depth() < DEEPEST {
        document = match container::contents(&document.text) {
            Contents::Itself => break,
            Contents::Escaped(body, start) => {
                let Ok(decoded) = serde_json::from_str(&format!("\"{body}\"")) else {
                    break;
                };
                let body = body.to_owned();
                document.unwrap_string(body, start, decoded)
            }
            Contents::Part(span) => document.part(span),
            Contents::Foreign(advice) => {
                let start = document.unwrapped().outer(0);
                reader.error("container", &(&Path::Root, start..start + 1), || advice);
                return None;
            }
        };
    }
    Some(document)
}

/// Reads a policy's statements. The result is whole only if no error was noted.
pub(crate) fn parse(reader: &mut Reader, document: &Document<'_>) -> Vec<Statement> {
    let root = match reader.root(
        &document.text,
        "a policy is a JSON object with `Statement`",
        "write {\"Version\": …, \"Statement\": […]}",
    ) {
        Some(root) if root.kind() == Kind::Object => root,
        Some(root) => {
            reader.error("kind", &(&Path::Root, root.span()), || {
                Advice::new(format!("a policy is an object, not {}", root.kind().name()))
                    .hint("begin with {\"Version\": \"2012-10-17\", \"Statement\": […]}")
            });
            return Vec::new();
        }
        None => return Vec::new(),
    };
    let characters = document.text.chars().count();
    if characters > QUOTA {
        reader.warn(
            "quota",
            &(&Path::Root, root.span().start..root.span().start + 1),
            || {
                Advice::new(format!(
                    "the policy is {characters} characters long; API Gateway takes {QUOTA}"
                ))
                .hint("enforced here all the same; on AWS ask for a higher quota")
            },
        );
    }
    let members = reader.members(root, &Path::Root);
    members
        .iter()
        .for_each(|member| check_element(reader, member));
    let version = members.iter().find(|member| member.name == "Version");
    let version = version.and_then(|member| member.value.string().ok().flatten());
    reader.context.variables = version.as_deref() == Some("2012-10-17");
    match members.iter().find(|member| member.name == "Statement") {
        Some(member) => statements(reader, member.value, &Path::Root.name("Statement")),
        // An unknown name is reported already; it may be a misspelt one.
        None if members
            .iter()
            .any(|member| !ELEMENTS.contains(&member.name.as_ref())) =>
        {
            Vec::new()
        }
        None => {
            let start = root.span().start;
            reader.error(
                "missing",
                &(&Path::Root.name("Statement"), start..start + 1),
                || {
                    Advice::new("the policy has no `Statement`")
                        .hint("add \"Statement\": [{\"Effect\": …}]")
                },
            );
            Vec::new()
        }
    }
}

const ELEMENTS: [&str; 3] = ["Version", "Id", "Statement"];

fn check_element(reader: &mut Reader, member: &Member<'_>) {
    let path = Path::Root.name(&member.name);
    match member.name.as_ref() {
        "Statement" => {}
        "Id" => drop(reader.text(member.value, &path, "`Id`")),
        "Version" => {
            let version = reader.text(member.value, &path, "`Version`");
            if let Some(version) = version
                && version != "2012-10-17"
                && version != "2008-10-17"
            {
                reader.error("version", &(&path, member.value.span()), || {
                    Advice::new(format!(
                        "`{}` is not a version of the policy language",
                        clip(&version)
                    ))
                    .hint("write `2012-10-17`")
                });
            }
        }
        name => reader.error("element", &(&path, member.key.span()), || {
            unknown_element(name)
        }),
    }
}

fn unknown_element(name: &str) -> Advice {
    let advice = Advice::new(format!("a policy has no element `{}`", clip(name)));
    match nearest(name, ELEMENTS) {
        _ if name == "x-amazon-apigateway-policy" => {
            advice.hint("give the policy alone, without the API definition around it")
        }
        _ if name == "policy" => {
            advice.hint("a policy in a string is taken; here it is something else")
        }
        Some(element) => advice.hint(format!("did you mean `{element}`?")),
        None => advice.hint("elements are `Version`, `Id` and `Statement`"),
    }
}

fn statements(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut index = 0;
    reader.each(node, path, "`Statement`", |reader, node, path| {
        reader.problems.statement = Some(StatementId { index, sid: None });
        index += 1;
        statements.extend(statement::parse(reader, node, path));
    });
    reader.problems.statement = None;
    statements
}
