//! Who a statement is about.
//!
//! Follows the IAM User Guide's "AWS JSON policy elements: Principal" and "… NotPrincipal".

use std::collections::BTreeSet;

use super::reader::{Reader, text};
use crate::text::{
    json::{Kind, Node},
    problem::{Advice, Path, clip, nearest},
};

/// The principals a statement names, or all but those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principal {
    /// Whether the element is `NotPrincipal`.
    pub(crate) except: bool,
    /// Whether everyone is named.
    pub(crate) everyone: bool,
    /// The names as written, each after its kind.
    pub(crate) written: Vec<(String, String)>,
    /// The names in one spelling (see [`canonical`]).
    pub(crate) named: BTreeSet<String>,
}

const KINDS: [&str; 4] = ["AWS", "Service", "Federated", "CanonicalUser"];

impl Principal {
    /// Reads `Principal`, or `NotPrincipal` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader,
        node: Node<'_>,
        path: &Path<'_>,
        except: bool,
    ) -> Self {
        let mut principal = Self {
            except,
            ..Self::default()
        };
        match node.kind() {
            Kind::String => principal.read_alone(reader, node, path),
            _ => principal.read_kinds(reader, node, path),
        }
        principal
    }

    fn read_alone(&mut self, reader: &mut Reader, node: Node<'_>, path: &Path<'_>) {
        match text(reader, node, path, "a principal") {
            Some(text) if text == "*" => self.everyone = true,
            Some(text) if text.is_empty() => {
                reader.error("principal", &(path, node.span()), lost_asterisk);
            }
            Some(text) => reader.error("principal", &(path, node.span()), || {
                Advice::new(format!(
                    "only `*` is a principal by itself, not `{}`",
                    clip(&text)
                ))
                .hint(format!("write {{\"AWS\": \"{}\"}}", clip(&text)))
            }),
            None => {}
        }
    }

    fn read_kinds(&mut self, reader: &mut Reader, node: Node<'_>, path: &Path<'_>) {
        let members = reader.object(node, path, "a principal that is not \"*\"");
        for member in members.unwrap_or_default() {
            let path = path.name(&member.name);
            if !KINDS.contains(&member.name.as_ref()) {
                reader.error("principal", &(&path, member.key.span()), || {
                    unknown_kind(&member.name)
                });
                continue;
            }
            let aws = member.name == "AWS";
            reader.each(member.value, &path, "a principal", |reader, node, path| {
                let Some(text) = text(reader, node, path, "a principal") else {
                    return;
                };
                self.written
                    .push((member.name.to_string(), text.to_string()));
                match text.as_ref() {
                    "*" if aws => self.everyone = true,
                    name if !aws && !name.is_empty() => {
                        self.named.insert(other(&member.name, name));
                    }
                    name => match canonical(name) {
                        Some(name) => drop(self.named.insert(name)),
                        None => reader.error("principal", &(path, node.span()), || bad_name(name)),
                    },
                }
            });
        }
    }
}

fn unknown_kind(name: &str) -> Advice {
    let advice = Advice::new(format!("unknown kind of principal `{}`", clip(name)));
    match nearest(name, KINDS) {
        Some(kind) => advice.hint(format!("did you mean `{kind}`?")),
        None => advice.hint("kinds are `AWS`, `Service`, `Federated` and `CanonicalUser`"),
    }
}

/// Markdown takes a lone asterisk for markup.
fn lost_asterisk() -> Advice {
    Advice::new("the principal is empty: its asterisk got lost, as it does in Markdown")
        .hint("write \"Principal\": \"*\" for everyone")
}

/// An account, user, role or session in one spelling; `None` when it is none of them.
///
/// An account is its number or its root user's ARN. A role's name is unique in its account, so its path
/// does not matter.
fn canonical(name: &str) -> Option<String> {
    if is_account(name) {
        return Some(account(name));
    }
    let unique_id = (name.starts_with("AIDA") || name.starts_with("AROA"))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if unique_id {
        return Some(name.to_owned());
    }
    let fields: Vec<&str> = name.splitn(6, ':').collect();
    let ["arn", _, service @ ("iam" | "sts"), _, number, resource] = fields.as_slice() else {
        return None;
    };
    if resource.is_empty() || name.contains(['*', '?', '$']) {
        return None;
    }
    Some(match (*service, resource.split_once('/')) {
        ("iam", None) if *resource == "root" => account(number),
        ("iam", Some(("role", path))) => role(number, path),
        _ => name.to_owned(),
    })
}

/// Whether the text is an account's number.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The one spelling of an account.
pub(crate) fn account(number: &str) -> String {
    format!("account {number}")
}

/// The one spelling of a role, whose name may have its path before it.
pub(crate) fn role(account: &str, name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    format!("role {account} {name}")
}

/// The one spelling of a principal that is not AWS's.
pub(crate) fn other(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

fn bad_name(name: &str) -> Advice {
    if name.is_empty() {
        return lost_asterisk();
    }
    let advice = Advice::new(format!("`{}` is not a principal", clip(name)));
    if name.contains(['*', '?']) {
        return advice
            .hint("a wildcard cannot be part of a principal: use \"*\" and a condition on `aws:PrincipalArn`");
    }
    advice.hint(
        "write an account's twelve digits or an ARN such as `arn:aws:iam::123456789012:user/Alice`",
    )
}
