//! What a statement is about doing.
//!
//! Follows the API Gateway Developer Guide's "Control access for invoking an API" (the actions of
//! `execute-api`) and the IAM User Guide's "IAM JSON policy elements: Action" and "… NotAction". A
//! request from a client asks for `execute-api:Invoke`.

use super::{
    json::Node,
    pattern,
    problem::{Advice, Path, clip, nearest},
    reader::Reader,
};

/// Whether a statement's actions take in calling the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) invoke: bool,
}

const SERVICE: &str = "execute-api";
const INVOKE: &str = "invoke";
const ACTIONS: [&str; 3] = ["Invoke", "InvalidateCache", "ManageConnections"];

impl Action {
    /// Reads `Action`, or `NotAction` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader<'_>,
        node: Node<'_>,
        path: &Path<'_>,
        except: bool,
    ) -> Self {
        let mut invoke = false;
        reader.each(node, path, "an action", |reader, node, path| {
            let Some(text) = reader.text(node, path, "an action") else {
                return;
            };
            match name_pattern(&text) {
                Ok(name) => invoke |= pattern::matches(&name, INVOKE),
                Err(advice) => reader.error("action", &(path, node.span()), || advice),
            }
        });
        Self {
            invoke: invoke != except,
        }
    }
}

/// The part of an action after the service, in lower case.
fn name_pattern(text: &str) -> Result<String, Advice> {
    let lower = text.to_ascii_lowercase();
    let (service, name) = match lower.split_once(':') {
        Some(parts) => parts,
        None if lower == "*" => return Ok(lower),
        None => return Err(no_service(text)),
    };
    if service != SERVICE && service != "*" {
        let message = format!("`{}` is not an action of an API", clip(text));
        return Err(Advice::new(message).hint("actions of an API begin with `execute-api:`"));
    }
    let known = ACTIONS
        .iter()
        .any(|action| pattern::matches(name, &action.to_ascii_lowercase()));
    if known {
        Ok(name.to_owned())
    } else {
        Err(unknown(text, name))
    }
}

fn no_service(text: &str) -> Advice {
    let advice = Advice::new(format!(
        "`{}` is not an action: it names no service",
        clip(text)
    ));
    match nearest(text, ACTIONS) {
        Some(name) => advice.hint(format!("write `{SERVICE}:{name}`")),
        None => advice.hint("write `execute-api:Invoke`"),
    }
}

fn unknown(text: &str, name: &str) -> Advice {
    let advice = Advice::new(format!("`{}` matches no action of an API", clip(text)));
    match nearest(name, ACTIONS) {
        Some(name) => advice.hint(format!("did you mean `{SERVICE}:{name}`?")),
        None => advice.hint("write `execute-api:Invoke`"),
    }
}
