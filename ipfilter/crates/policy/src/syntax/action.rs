//! What a statement is about doing.
//!
//! Follows the API Gateway Developer Guide's "Control access for invoking an API" (the actions of
//! `execute-api`) and the IAM User Guide's "IAM JSON policy elements: Action" and "… NotAction". A
//! request from a client asks for `execute-api:Invoke`.

use std::ops::Range;

use super::{
    reader::{Reader, text},
    template::{Style, Template, Value},
};
use crate::text::{
    json::Node,
    problem::{Advice, Path, clip, nearest},
};

/// The actions a statement names, or all but those.
#[derive(Clone, Debug)]
pub(crate) struct Action {
    /// Whether the element is `NotAction`.
    pub(crate) except: bool,
    pub(crate) named: Vec<Named>,
}

/// One action as written.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) written: String,
    pub(crate) span: Range<usize>,
    /// The part after the service, in lower case.
    pattern: Template,
}

const SERVICE: &str = "execute-api";
const ACTIONS: [&str; 3] = ["Invoke", "InvalidateCache", "ManageConnections"];

/// What a call of an API asks for.
pub(crate) const INVOKE: &str = "execute-api:Invoke";

/// What only WebSocket APIs have.
pub(crate) const MANAGE_CONNECTIONS: &str = "execute-api:ManageConnections";

impl Action {
    /// Reads `Action`, or `NotAction` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader,
        node: Node<'_>,
        path: &Path<'_>,
        except: bool,
    ) -> Self {
        let mut named = Vec::new();
        reader.each(node, path, "an action", |reader, node, path| {
            let Some(text) = text(reader, node, path, "an action") else {
                return;
            };
            match name_pattern(&text) {
                Ok(pattern) => named.push(Named {
                    written: text.into_owned(),
                    span: node.span(),
                    pattern,
                }),
                Err(advice) => reader.error("action", &(path, node.span()), || advice),
            }
        });
        Self { except, named }
    }

    /// Whether `action`, such as `execute-api:Invoke`, is among them.
    pub(crate) fn covers(&self, action: &str) -> bool {
        self.named.iter().any(|named| named.covers(action)) != self.except
    }
}

impl Named {
    /// Whether it takes in `action`.
    pub(crate) fn covers(&self, action: &str) -> bool {
        let Some((service, name)) = action.split_once(':') else {
            return false;
        };
        service.eq_ignore_ascii_case(SERVICE)
            && match self.pattern.literal() {
                Some(literal) => literal.eq_ignore_ascii_case(name),
                None => glob(&self.pattern, &name.to_ascii_lowercase()),
            }
    }
}

fn glob(pattern: &Template, name: &str) -> bool {
    pattern.matches(name, str::to_owned, |_| Value::Missing) == true.into()
}

/// The part of an action after the service, in lower case.
fn name_pattern(text: &str) -> Result<Template, Advice> {
    let style = Style {
        wildcards: true,
        variables: false,
    };
    let lower = text.to_ascii_lowercase();
    let (service, name) = match lower.split_once(':') {
        Some(parts) => parts,
        None if lower == "*" => return Template::parse("*", style),
        None => return Err(no_service(text)),
    };
    if service != SERVICE && service != "*" {
        let message = format!("`{}` is not an action of an API", clip(text));
        return Err(Advice::new(message).hint("actions of an API begin with `execute-api:`"));
    }
    let pattern = Template::parse(name, style)?;
    let mut actions = ACTIONS.iter().map(|action| action.to_ascii_lowercase());
    if actions.any(|action| glob(&pattern, &action)) {
        Ok(pattern)
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
