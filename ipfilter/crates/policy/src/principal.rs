//! Who a statement is about.
//!
//! Follows the IAM User Guide's "AWS JSON policy elements: Principal" and "… NotPrincipal".

use std::collections::BTreeSet;

use super::{
    json::{Kind, Node},
    pattern,
    problem::{Advice, Path, clip, nearest},
    reader::Reader,
    verdict::Verdict,
};

/// The principals a statement names, or all but those.
#[derive(Clone, Debug, Default)]
pub(crate) struct Principal {
    /// Whether the element is `NotPrincipal`.
    pub(crate) except: bool,
    /// Whether everyone is named.
    pub(crate) everyone: bool,
    /// The names, each with its kind.
    pub(crate) named: BTreeSet<String>,
}

const KINDS: [&str; 4] = ["AWS", "Service", "Federated", "CanonicalUser"];

impl Principal {
    /// Reads `Principal`, or `NotPrincipal` when `except`.
    pub(crate) fn parse(
        reader: &mut Reader<'_>,
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

    /// Whether requests are made by one of them. Who makes a request is not seen here.
    pub(crate) fn verdict(&self) -> Verdict {
        let named = if self.everyone {
            Verdict::Yes
        } else {
            Verdict::Maybe
        };
        named.negate_if(self.except)
    }

    fn read_alone(&mut self, reader: &mut Reader<'_>, node: Node<'_>, path: &Path<'_>) {
        match reader.text(node, path, "a principal") {
            Some(text) if text == "*" => self.everyone = true,
            Some(text) => reader.error("principal", &(path, node.span()), || {
                Advice::new(format!(
                    "only `*` may stand alone as a principal, not `{}`",
                    clip(&text)
                ))
                .hint(format!("write {{\"AWS\": \"{}\"}}", clip(&text)))
            }),
            None => {}
        }
    }

    fn read_kinds(&mut self, reader: &mut Reader<'_>, node: Node<'_>, path: &Path<'_>) {
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
                let Some(text) = reader.text(node, path, "a principal") else {
                    return;
                };
                match text.as_ref() {
                    "*" if aws => self.everyone = true,
                    name if !aws && !name.is_empty() => {
                        self.named.insert(format!("{}:{name}", member.name));
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

/// An account, user, role or session in one spelling; `None` when it is none of them.
fn canonical(name: &str) -> Option<String> {
    if name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("arn:aws:iam::{name}:root"));
    }
    let unique_id = (name.starts_with("AIDA") || name.starts_with("AROA"))
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let arn = name.starts_with("arn:")
        && matches!(name.split(':').nth(2), Some("iam" | "sts"))
        && name
            .split(':')
            .nth(5)
            .is_some_and(|resource| !resource.is_empty())
        && !pattern::is_open(name);
    (unique_id || arn).then(|| name.to_owned())
}

fn bad_name(name: &str) -> Advice {
    let advice = Advice::new(format!("`{}` is not a principal", clip(name)));
    if name.contains(['*', '?']) {
        return advice
            .hint("a wildcard cannot be part of a principal: use \"*\" and a condition on `aws:PrincipalArn`");
    }
    advice.hint(
        "write an account's twelve digits or an ARN such as `arn:aws:iam::123456789012:user/Alice`",
    )
}
