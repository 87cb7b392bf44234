//! A whole request.

use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

use ipfilter_addresses::AddressSet;
use jiff::Timestamp;
use serde::Deserialize;

use super::view::{Attribute, Caller, ClockText, View};
use crate::{
    class::Class,
    syntax::{
        action::INVOKE,
        key::{CallerPart, Key, Offer, Origin},
        principal::{account, other, role},
    },
    verdict::Verdict,
};

/// An HTTP request to an API. What is left out is absent, not unknown.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The client's address.
    pub source: IpAddr,
    /// The method, such as `GET`.
    pub method: String,
    /// The API's stage.
    #[serde(default)]
    pub stage: String,
    /// The path, taken as it is: nothing in it is decoded or resolved.
    #[serde(default)]
    pub path: String,
    /// The headers; case does not matter in their names.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Whether the request is encrypted.
    #[serde(default)]
    pub secure: Option<bool>,
    /// When it arrives.
    #[serde(default)]
    pub time: Option<Timestamp>,
    /// Who makes it: an ARN, or a service's name. Only IAM authorization knows.
    #[serde(default)]
    pub principal: Option<String>,
    /// The VPC that a private source is in.
    #[serde(default)]
    pub vpc: Option<String>,
    /// The VPC endpoint that a private source comes through.
    #[serde(default)]
    pub vpce: Option<String>,
    /// Condition keys that the authenticator of the caller gives; they take precedence over derived ones.
    #[serde(default)]
    pub context: Context,
    /// What is asked for, if it is not `execute-api:Invoke`.
    #[serde(default)]
    pub action: Option<String>,
}

/// The values of condition keys, each by its name; case does not matter in names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Context {
    values: BTreeMap<String, OneOrMany>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a condition key has a string or a list of strings"
)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Context {
    /// Sets the values of a key.
    pub fn set(&mut self, key: &str, values: Vec<String>) {
        let held = self
            .values
            .keys()
            .find(|held| held.eq_ignore_ascii_case(key))
            .cloned();
        let key = held.unwrap_or_else(|| key.to_owned());
        self.values.insert(key, OneOrMany::Many(values));
    }

    fn get(&self, key: &str) -> Option<Attribute<'_>> {
        let mut values = self.values.iter();
        let (_, values) = values.find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        Some(match values {
            OneOrMany::One(value) => Attribute::One(Cow::Borrowed(value)),
            OneOrMany::Many(values) => Attribute::Many(values),
        })
    }
}

impl Request {
    /// A request from `source` with this method, and nothing else known of it.
    #[must_use]
    pub fn new(source: IpAddr, method: impl Into<String>) -> Self {
        Self {
            source,
            method: method.into(),
            stage: String::new(),
            path: String::new(),
            headers: BTreeMap::new(),
            secure: None,
            time: None,
            principal: None,
            vpc: None,
            vpce: None,
            context: Context::default(),
            action: None,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(header, _)| header.eq_ignore_ascii_case(name))?;
        Some(value)
    }
}

/// A request as the rules see it.
pub(crate) struct AskedRequest<'r> {
    request: &'r Request,
    class: Class,
    iam: bool,
    principal: Principal<'r>,
    caller: Caller,
    call: String,
}

impl<'r> AskedRequest<'r> {
    /// `iam` says whether IAM authorizes callers: otherwise every caller is anonymous.
    pub(crate) fn new(request: &'r Request, class: Class, iam: bool) -> Self {
        let named = request.principal.as_deref().filter(|_| iam);
        let principal = named.map_or(Principal::Anonymous, Principal::of);
        let path = request.path.strip_prefix('/').unwrap_or(&request.path);
        let mut caller = principal.caller();
        let unique = request.context.get("aws:userid").filter(|_| iam);
        if let Some(Attribute::One(id)) = unique {
            // A role's sessions have their name behind its id.
            let id = id.split(':').next().unwrap_or_default().to_owned();
            caller.all.push(id);
        }
        Self {
            request,
            class,
            iam,
            principal,
            caller,
            call: format!("/{}/{}/{path}", request.stage, request.method),
        }
    }

    /// The account of the caller, if it has one.
    pub(crate) fn account(&self) -> Option<&'r str> {
        self.principal.account()
    }

    fn derived(&self, key: &Key) -> Option<Attribute<'_>> {
        let request = self.request;
        let private = self.class == Class::Vpc;
        let text = |text: &'r str| Attribute::One(Cow::Borrowed(text));
        match key.origin {
            Origin::Source(class) => {
                (class == self.class).then_some(Attribute::Source(Some(request.source)))
            }
            Origin::Clock => Some(Attribute::Clock(request.time?, ClockText::Date)),
            Origin::Epoch => Some(Attribute::Clock(request.time?, ClockText::Seconds)),
            Origin::Vpc => request.vpc.as_deref().filter(|_| private).map(text),
            Origin::Endpoint => request.vpce.as_deref().filter(|_| private).map(text),
            Origin::Header(name) => request.header(name).map(text),
            Origin::Secure => request
                .secure
                .map(|secure| text(if secure { "true" } else { "false" })),
            Origin::Caller(part) => self.principal.part(part).map(Attribute::One),
            Origin::PrivateContext | Origin::Context => None,
        }
    }
}

impl View for AskedRequest<'_> {
    type Answer = Verdict;

    fn attribute(&self, key: &Key) -> Attribute<'_> {
        if key.offer == Offer::Iam && !self.iam {
            return Attribute::Absent;
        }
        let given = self.request.context.get(&key.name);
        given
            .or_else(|| self.derived(key))
            .unwrap_or(Attribute::Absent)
    }

    fn source_in(&self, set: &AddressSet) -> Verdict {
        set.contains(self.request.source).into()
    }

    fn caller(&self) -> Option<&Caller> {
        Some(&self.caller)
    }

    fn call(&self) -> Option<&str> {
        Some(&self.call)
    }

    fn action(&self) -> &str {
        self.request.action.as_deref().unwrap_or(INVOKE)
    }
}

/// Who makes a request.
#[derive(Clone, Copy)]
enum Principal<'r> {
    Anonymous,
    Service(&'r str),
    Aws(Arn<'r>),
}

#[derive(Clone, Copy)]
struct Arn<'r> {
    written: &'r str,
    partition: &'r str,
    account: &'r str,
    kind: Kind<'r>,
}

#[derive(Clone, Copy)]
enum Kind<'r> {
    Root,
    User(&'r str),
    Role(&'r str),
    Session(&'r str),
    Federated(&'r str),
    Other,
}

impl<'r> Principal<'r> {
    fn of(text: &'r str) -> Self {
        let fields: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, _, account, resource] = fields.as_slice() else {
            return Self::Service(text);
        };
        let kind = match (*service, resource.split_once('/')) {
            ("iam", None) if *resource == "root" => Kind::Root,
            ("iam", Some(("user", path))) => Kind::User(last(path)),
            ("iam", Some(("role", path))) => Kind::Role(last(path)),
            ("sts", Some(("assumed-role", rest))) => {
                Kind::Session(rest.split('/').next().unwrap_or_default())
            }
            ("sts", Some(("federated-user", name))) => Kind::Federated(name),
            _ => Kind::Other,
        };
        Self::Aws(Arn {
            written: text,
            partition,
            account,
            kind,
        })
    }

    fn account(self) -> Option<&'r str> {
        match self {
            Self::Aws(arn) => Some(arn.account),
            Self::Anonymous | Self::Service(_) => None,
        }
    }

    fn caller(self) -> Caller {
        let own = match self {
            Self::Anonymous => Vec::new(),
            Self::Service(name) => vec![other("Service", name)],
            Self::Aws(arn) => match arn.kind {
                Kind::Root => vec![account(arn.account)],
                Kind::Role(name) => vec![role(arn.account, name)],
                _ => vec![arn.written.to_owned()],
            },
        };
        let mut all = own.clone();
        if let Self::Aws(arn) = self {
            all.push(account(arn.account));
            if let Kind::Session(name) = arn.kind {
                all.push(role(arn.account, name));
            }
        }
        Caller { own, all }
    }

    fn part(self, part: CallerPart) -> Option<Cow<'r, str>> {
        let Self::Aws(arn) = self else { return None };
        Some(match (part, arn.kind) {
            (CallerPart::Arn, Kind::Session(name)) => {
                let Arn {
                    partition, account, ..
                } = arn;
                Cow::Owned(format!("arn:{partition}:iam::{account}:role/{name}"))
            }
            (CallerPart::Arn, _) => Cow::Borrowed(arn.written),
            (CallerPart::Account, _) | (CallerPart::UserId, Kind::Root) => {
                Cow::Borrowed(arn.account)
            }
            (CallerPart::Type, Kind::Root) => Cow::Borrowed("Account"),
            (CallerPart::Type, Kind::User(_)) => Cow::Borrowed("User"),
            (CallerPart::Type, Kind::Role(_) | Kind::Session(_)) => Cow::Borrowed("AssumedRole"),
            (CallerPart::Type, Kind::Federated(_)) => Cow::Borrowed("FederatedUser"),
            (CallerPart::UserName, Kind::User(name)) => Cow::Borrowed(name),
            (CallerPart::UserId, Kind::Federated(name)) => {
                Cow::Owned(format!("{}:{name}", arn.account))
            }
            _ => return None,
        })
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
