//! The section on the fleet that a host belongs to: whom it follows and trusts, and what only this host knows.

use std::{collections::BTreeMap, fmt, net::IpAddr, str::FromStr};

use ipfilter_bundle::{Group, PublicKey};
use ipfilter_document::{
    json::Node,
    problem::{Advice, Path, clip},
    reader::{Member, Reader},
};
use serde::{Deserialize, Serialize};

use super::{
    User,
    authorize::{map, missing, unknown},
    value::{self, Value},
};

/// What begins a variable where interfaces and addresses are listed.
pub(crate) const VARIABLE: char = '$';

/// The scheme of a group's address.
const SCHEME: &str = "etcd://";

/// The fleet that a host belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// Where its group is published.
    pub follow: Follow,
    /// The keys of which one must have signed what is to be in force; any, or none, if there are none.
    pub trusted_keys: Vec<PublicKey>,
    /// The interfaces of this host, by the names that the group's configuration has for them.
    pub interfaces: BTreeMap<String, Vec<String>>,
    /// The addresses of this host, likewise.
    pub vars: BTreeMap<String, Vec<IpAddr>>,
    /// The user that the agent runs as, who may offer releases.
    pub user: User,
}

/// Where a group is published: `etcd://HOST[:PORT],…/GROUP`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Follow {
    url: String,
    group: Group,
}

impl Follow {
    /// The group.
    #[must_use]
    pub fn group(&self) -> &Group {
        &self.group
    }
}

impl fmt::Display for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl From<Follow> for String {
    fn from(follow: Follow) -> Self {
        follow.url
    }
}

impl TryFrom<String> for Follow {
    type Error = String;

    fn try_from(url: String) -> Result<Self, String> {
        url.parse()
    }
}

impl FromStr for Follow {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not where a group is published: write one such as `etcd://10.0.0.1,10.0.0.2/web`",
                clip(url)
            )
        };
        let (members, group) = url
            .strip_prefix(SCHEME)
            .and_then(|rest| rest.split_once('/'))
            .ok_or_else(wrong)?;
        if members.contains('@') {
            return Err("a user does not belong into the address".to_owned());
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        let is_host = |host: &str| !host.is_empty() && host.chars().all(legal);
        if !members.split(',').all(is_host) {
            return Err(wrong());
        }
        let group = group
            .parse()
            .map_err(|error| format!("`{}`: {error}", clip(group)))?;
        Ok(Self {
            url: url.to_owned(),
            group,
        })
    }
}

const FIELDS: [&str; 5] = ["follow", "trusted_keys", "interfaces", "vars", "user"];

impl Value for Follow {
    fn takes() -> String {
        "a group such as \"etcd://10.0.0.1,10.0.0.2/web\"".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        value::text(reader, node, path, Self::from_str)
    }
}

impl Value for PublicKey {
    fn takes() -> String {
        "a public key such as \"ed25519:…\"".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        value::text(reader, node, path, Self::from_str)
    }
}

impl Value for Fleet {
    fn takes() -> String {
        "an object such as {\"follow\": \"etcd://10.0.0.1/web\"}".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        let members = reader.object(node, path, "`fleet`")?;
        let before = reader.problems.errors();
        let mut follow = None;
        let (mut keys, mut interfaces, mut vars) =
            <(Vec<_>, BTreeMap<_, _>, BTreeMap<_, _>)>::default();
        let mut user = User::Named("ipfilter-fleet".to_owned());
        for member in &members {
            let path = path.name(&member.name);
            match member.name.as_ref() {
                "follow" => follow = Follow::read(reader, member.value, &path),
                "trusted_keys" => {
                    keys = Value::read(reader, member.value, &path).unwrap_or_default();
                }
                "interfaces" => interfaces = map(reader, member.value, &path, variable),
                "vars" => vars = map(reader, member.value, &path, variable),
                "user" => user = User::read(reader, member.value, &path).unwrap_or(user),
                _ => unknown(reader, member, &path, &FIELDS),
            }
        }
        if !members.iter().any(|member| member.name == "follow") {
            missing(reader, node, path, "follow");
        }
        if reader.problems.errors() > before {
            return None;
        }
        Some(Self {
            follow: follow?,
            trusted_keys: keys,
            interfaces,
            vars,
            user,
        })
    }
}

/// What a variable stands for: at least one value.
fn variable<T: Value>(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) -> Option<Vec<T>> {
    if !is_variable(&member.name) {
        reader.error("value", &(path, member.key.span()), || {
            Advice::new(format!("`{}` is not a variable's name", clip(&member.name)))
                .hint("a name is 1 to 64 letters, digits, hyphens and underscores")
        });
    }
    let values: Vec<T> = Value::read(reader, member.value, path)?;
    if values.is_empty() {
        reader.error("empty", &(path, member.value.span()), || {
            Advice::new("the list is empty").hint("write at least one value")
        });
    }
    Some(values)
}

fn is_variable(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=64).contains(&name.len()) && name.chars().all(legal)
}

/// What variables stand for where a configuration is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Variables<'f> {
    /// Nothing: it is a host's own configuration, which says what it means.
    None,
    /// Something else on each host.
    Any,
    /// What this host says.
    Of(&'f Fleet),
}

impl<'f> Variables<'f> {
    /// The host's own settings.
    pub(crate) fn fleet(self) -> Option<&'f Fleet> {
        match self {
            Self::Of(fleet) => Some(fleet),
            Self::None | Self::Any => None,
        }
    }

    /// The list `member` with what its variables stand for, which are `known` by the host's setting `field`. `written` makes of a variable what stands
    /// for it where it may be anything.
    pub(crate) fn list<T: Value + Clone>(
        self,
        reader: &mut Reader,
        (member, path): (&Member<'_>, &Path<'_>),
        (known, field): (Option<&BTreeMap<String, Vec<T>>>, &str),
        written: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = member.value.elements();
        let is_variable = |node: &Node<'_>| node.text().starts_with("\"$");
        if !elements.iter().any(is_variable) {
            return Value::read(reader, member.value, path);
        }
        let mut all = Vec::new();
        for (index, element) in elements.into_iter().enumerate() {
            let path = path.index(index);
            if !is_variable(&element) {
                all.push(T::read(reader, element, &path)?);
                continue;
            }
            let text = reader.text(element, &path, "this value")?;
            let name = text.trim_start_matches(VARIABLE);
            let mut refuse = |what: String, hint: String| {
                reader.error("variable", &(&path, element.span()), || {
                    Advice::new(what).hint(hint)
                });
            };
            match self {
                Self::None => refuse(
                    format!(
                        "`{}` is a variable, and this configuration is of one host",
                        clip(&text)
                    ),
                    "write what it stands for: only the hosts of a fleet have variables".to_owned(),
                ),
                Self::Any => {
                    all.extend(written(&text));
                    reader.warn("variable", &(&path, element.span()), || {
                        Advice::new(format!(
                            "what `{}` stands for is known to the hosts of a fleet only",
                            clip(&text)
                        ))
                        .hint("`ipfilter publish` takes it, `run` and `deploy` don't")
                    });
                }
                Self::Of(_) => match known.and_then(|known| known.get(name)) {
                    Some(values) => all.extend(values.iter().cloned()),
                    None => refuse(
                        format!("this host does not say what `{}` stands for", clip(&text)),
                        format!("name it under `fleet.{field}` in this host's configuration"),
                    ),
                },
            }
        }
        Some(all)
    }
}
