//! What reads a policy's values.

use std::borrow::Cow;

pub(crate) use ipfilter_document::reader::Member;

use crate::text::{
    json::{Kind, Node},
    problem::{Advice, Path, clip},
};

/// Notes every mistake on the way.
pub(crate) type Reader = ipfilter_document::reader::Reader<Dialect>;

/// What else is known while a policy is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dialect {
    /// Whether the document's version has policy variables.
    pub(crate) variables: bool,
}

/// A string; else says that `what` is one, or that a template was not deployed.
pub(crate) fn text<'t>(
    reader: &mut Reader,
    node: Node<'t>,
    path: &Path<'_>,
    what: &str,
) -> Option<Cow<'t, str>> {
    match intrinsic(node) {
        Some(function) => {
            let at = (path, node.span());
            reader.error("kind", &at, || not_deployed(what, &function));
            None
        }
        None => reader.text(node, path, what),
    }
}

/// The CloudFormation function that a value calls, if it calls one.
pub(crate) fn intrinsic(node: Node<'_>) -> Option<Cow<'_, str>> {
    if node.kind() != Kind::Object {
        return None;
    }
    let (key, _) = node.members().into_iter().next()?;
    let name = key.string().ok().flatten()?;
    (name == "Ref" || name.starts_with("Fn::")).then_some(name)
}

/// What to say of a value that CloudFormation has not put in place.
pub(crate) fn not_deployed(what: &str, function: &str) -> Advice {
    Advice::new(format!(
        "{what} is CloudFormation's `{}`: the template was not deployed",
        clip(function)
    ))
    .hint("deploy it, then give what `aws apigateway get-rest-api --rest-api-id API_ID` prints")
}
