//! The document around the statements.
//!
//! Follows the IAM User Guide's "Grammar of the IAM JSON policy language". What
//! `aws apigateway get-rest-api` prints is taken too: an object whose `policy` is the document as a
//! string, escaped once or twice.

use ipfilter_document::reader::BYTE_ORDER_MARK;

use super::{
    json::{self, Kind, Node},
    problem::{Advice, Path, StatementId, clip, nearest},
    reader::{Member, Reader},
    source::{Document, SIZE_LIMIT, Source},
    statement::{self, Statement},
};

/// More escapes than any tool adds.
const DEEPEST: usize = 4;

/// API Gateway's default quota for a resource policy, in characters (API Gateway Developer Guide,
/// "Quotas for configuring and running a REST API in API Gateway").
const QUOTA: usize = 8192;

/// The policy text in `source`: all of it, or a string in it. `None` when it cannot be read.
pub(crate) fn open<'s>(reader: &mut Reader<'_>, source: &'s Source) -> Option<Document<'s>> {
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
    Some(unwrap(Document::plain(text)))
}

/// Undoes the escapes of a policy that stands in a string.
fn unwrap(mut document: Document<'_>) -> Document<'_> {
    while document.depth() < DEEPEST {
        let Some((body, start)) = escaped_policy(&document.text) else {
            break;
        };
        let Ok(decoded) = serde_json::from_str(&format!("\"{body}\"")) else {
            break;
        };
        let body = body.to_owned();
        document = document.unwrap_string(&body, start, decoded);
    }
    document
}

/// The body of the string that holds the policy, and where it begins.
fn escaped_policy(text: &str) -> Option<(&str, usize)> {
    let trimmed = text.trim_start_matches(BYTE_ORDER_MARK).trim();
    if trimmed
        .strip_prefix('{')
        .is_some_and(|rest| rest.trim_start().starts_with("\\\""))
    {
        // A string's body without its quotes.
        return Some((trimmed, text.find(trimmed)?));
    }
    let body = text.trim_start_matches(BYTE_ORDER_MARK);
    let skipped = text.len() - body.len();
    let node = if trimmed.starts_with('{') {
        policy_member(Node::unread(body))?
    } else if trimmed.starts_with('"') {
        json::parse(body).ok()?
    } else {
        return None;
    };
    let policy = node.string().ok()??;
    let is_object = policy.trim_start().starts_with(['{', '"']);
    is_object.then(|| (node.body(), skipped + node.span().start + 1))
}

/// The one member `policy` of an object that is no policy itself.
fn policy_member(root: Node<'_>) -> Option<Node<'_>> {
    let mut found = None;
    for (key, value) in root.members() {
        match key.string().ok().flatten()?.as_ref() {
            "Statement" => return None,
            "policy" if found.is_some() => return None,
            "policy" => found = Some(value),
            _ => {}
        }
    }
    found
}

/// Reads a policy's statements. The result is whole only if no error was noted.
pub(crate) fn parse(reader: &mut Reader<'_>, document: &Document<'_>) -> Vec<Statement> {
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
    match members.iter().find(|member| member.name == "Statement") {
        Some(member) => statements(reader, member.value, &Path::Root.name("Statement")),
        // A name that is not known is told already; it may well be a misspelt one.
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

fn check_element(reader: &mut Reader<'_>, member: &Member<'_>) {
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

fn statements(reader: &mut Reader<'_>, node: Node<'_>, path: &Path<'_>) -> Vec<Statement> {
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
