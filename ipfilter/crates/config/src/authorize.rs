//! The section on the authorization service, which answers for whole requests behind the interface.

use std::{collections::BTreeMap, path::Path as FilePath};

use ipfilter_document::{
    json::{Kind, Node},
    problem::{Advice, Path, clip, nearest},
    reader::{Member, Reader},
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::value::{self, Value};
use crate::endpoint::Endpoint;

/// How the authorization service is reached, and what it believes of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorize {
    /// Where it listens.
    pub listen: Endpoint,
    /// The proxies whose headers it believes.
    pub trusted_proxies: Vec<IpNet>,
    /// The stage that requests are for.
    pub stage: Stage,
    /// VPC endpoints, by their ids.
    pub endpoints: BTreeMap<String, VpcEndpoint>,
    /// The header that names the caller's principal.
    pub principal_header: Option<String>,
    /// The headers that hold condition keys, by key.
    pub context_headers: BTreeMap<String, String>,
    /// The user that it runs as, who may read the policies from the filter's process.
    #[serde(default)]
    pub user: User,
}

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum User {
    /// By name.
    Named(String),
    /// By number.
    Id(u32),
}

impl Default for User {
    fn default() -> Self {
        Self::Named("ipfilter-authorize".to_owned())
    }
}

/// The stage of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Always this one.
    Named(String),
    /// The first segment of the path.
    FromPath,
}

/// A VPC endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpcEndpoint {
    /// The VPC it is in.
    pub vpc: Option<String>,
    /// The sources that arrive through it.
    pub sources: Vec<IpNet>,
}

const FIELDS: [&str; 7] = [
    "listen",
    "trusted_proxies",
    "stage",
    "endpoints",
    "principal_header",
    "context_headers",
    "user",
];

/// Keys that the service finds out itself: no header may say otherwise.
const OWN_KEYS: [&str; 7] = [
    "aws:SourceIp",
    "aws:VpcSourceIp",
    "aws:SourceVpc",
    "aws:SourceVpce",
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:SecureTransport",
];

impl Authorize {
    /// The same, with a path that is relative taken from `folder`.
    pub(super) fn within(&mut self, folder: &FilePath) {
        self.listen = self.listen.clone().within(folder);
    }
}

impl Value for Authorize {
    fn takes() -> String {
        "an object such as {\"listen\": \"unix:/run/ipfilter/authorize.sock\"}".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        let members = reader.object(node, path, "`authorize`")?;
        let before = reader.problems.errors();
        let mut listen = None;
        let mut read = Self {
            listen: Endpoint::Unix("".into()),
            trusted_proxies: Vec::new(),
            stage: Stage::FromPath,
            endpoints: BTreeMap::new(),
            principal_header: None,
            context_headers: BTreeMap::new(),
            user: User::default(),
        };
        let mut stage = None;
        for member in &members {
            let path = path.name(&member.name);
            match member.name.as_ref() {
                "listen" => listen = Endpoint::read(reader, member.value, &path),
                "trusted_proxies" => {
                    read.trusted_proxies =
                        Value::read(reader, member.value, &path).unwrap_or_default();
                }
                "stage" => stage = Stage::read(reader, member.value, &path),
                "endpoints" => {
                    read.endpoints = map(reader, member.value, &path, endpoint);
                }
                "principal_header" => {
                    read.principal_header = header(reader, member.value, &path);
                }
                "context_headers" => {
                    read.context_headers =
                        map(reader, member.value, &path, |reader, member, path| {
                            check_key(reader, member, path);
                            header(reader, member.value, path)
                        });
                }
                "user" => {
                    read.user = User::read(reader, member.value, &path).unwrap_or_default();
                }
                _ => unknown(reader, member, &path, &FIELDS),
            }
        }
        for name in ["listen", "stage"] {
            if !members.iter().any(|member| member.name == name) {
                missing(reader, node, path, name);
            }
        }
        let (listen, stage) = (listen?, stage?);
        (reader.problems.errors() == before).then_some(Self {
            listen,
            stage,
            ..read
        })
    }
}

impl Value for Stage {
    fn takes() -> String {
        "a stage's name such as \"prod\", or {\"from\": \"path\"}".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        if node.kind() != Kind::Object {
            return value::text(reader, node, path, |text| {
                let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '$');
                if text.is_empty() || !text.chars().all(legal) {
                    return Err(format!("`{}` is not a stage's name", clip(text)));
                }
                Ok(Self::Named(text.to_owned()))
            });
        }
        for member in reader.object(node, path, "this")? {
            let path = path.name(&member.name);
            if member.name != "from" {
                unknown(reader, &member, &path, &["from"]);
                return None;
            }
            let from = String::read(reader, member.value, &path)?;
            if from != "path" {
                reader.error("value", &(&path, member.value.span()), || {
                    Advice::new(format!("`{}` is not where a stage is found", clip(&from)))
                        .hint("write `path`: the path's first segment is the stage")
                });
                return None;
            }
        }
        Some(Self::FromPath)
    }
}

impl Value for User {
    fn takes() -> String {
        "a user's name, or its number".to_owned()
    }

    fn read(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<Self> {
        if node.kind() == Kind::Number {
            return u32::read(reader, node, path).map(Self::Id);
        }
        value::text(reader, node, path, |text| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if text.is_empty() || text.starts_with('-') || !text.chars().all(legal) {
                return Err(format!("`{}` is not a user's name", clip(text)));
            }
            Ok(Self::Named(text.to_owned()))
        })
    }
}

/// One VPC endpoint by its id.
fn endpoint(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) -> Option<VpcEndpoint> {
    if !member.name.starts_with("vpce-") {
        reader.error("value", &(path, member.key.span()), || {
            Advice::new(format!(
                "`{}` is not a VPC endpoint's id",
                clip(&member.name)
            ))
            .hint("ids begin with `vpce-`")
        });
    }
    let mut read = VpcEndpoint::default();
    for field in reader.object(member.value, path, "a VPC endpoint")? {
        let path = path.name(&field.name);
        match field.name.as_ref() {
            "vpc" => {
                read.vpc = value::text(reader, field.value, &path, |text| {
                    if text.starts_with("vpc-") {
                        Ok(text.to_owned())
                    } else {
                        Err(format!(
                            "`{}` is not a VPC's id: ids begin with `vpc-`",
                            clip(text)
                        ))
                    }
                });
            }
            "sources" => {
                read.sources = Value::read(reader, field.value, &path).unwrap_or_default();
            }
            _ => unknown(reader, &field, &path, &["vpc", "sources"]),
        }
    }
    Some(read)
}

/// The members of an object, each read by `read`.
pub(super) fn map<T>(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
    mut read: impl FnMut(&mut Reader, &Member<'_>, &Path<'_>) -> Option<T>,
) -> BTreeMap<String, T> {
    let members = reader.object(node, path, "this").unwrap_or_default();
    let entries = members.iter().filter_map(|member| {
        let value = read(reader, member, &path.name(&member.name))?;
        Some((member.name.clone().into_owned(), value))
    });
    entries.collect()
}

/// The name of a header (RFC 9110, section 5.6.2).
fn header(reader: &mut Reader, node: Node<'_>, path: &Path<'_>) -> Option<String> {
    value::text(reader, node, path, |text| {
        let legal = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if text.is_empty() || !text.chars().all(legal) {
            return Err(format!("`{}` is not the name of a header", clip(text)));
        }
        Ok(text.to_owned())
    })
}

/// Refuses what is no condition key, or one that headers must not set.
fn check_key(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) {
    let name = &member.name;
    let own = OWN_KEYS.iter().find(|key| key.eq_ignore_ascii_case(name));
    if let Some(key) = own {
        reader.error("value", &(path, member.key.span()), || {
            Advice::new(format!("no header may set `{key}`"))
                .hint("the service finds it out itself: remove it")
        });
    } else if !name.contains(':') {
        reader.error("value", &(path, member.key.span()), || {
            Advice::new(format!("`{}` is not a condition key", clip(name)))
                .hint("write one such as `aws:PrincipalOrgID`")
        });
    }
}

/// Notes a member whose name is none of `fields`.
pub(super) fn unknown(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>, fields: &[&str]) {
    reader.error("field", &(path, member.key.span()), || {
        let advice = Advice::new(format!("there is no field `{}` here", clip(&member.name)));
        match nearest(&member.name, fields.iter().copied()) {
            Some(name) => advice.hint(format!("did you mean `{name}`?")),
            None => advice.hint(format!("fields are {}", listed(fields))),
        }
    });
}

/// Notes that the object `node` lacks a member.
pub(super) fn missing(reader: &mut Reader, node: Node<'_>, path: &Path<'_>, name: &str) {
    let start = node.span().start;
    reader.error("missing", &(path, start..start + 1), || {
        Advice::new(format!("the field `{name}` is missing"))
    });
}

fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
