//! Reading a configuration file: every problem of it at once, each with its place.

use std::{collections::HashSet, io, ops::Range, path::Path as FilePath};

use ipfilter_document::{
    json::{Kind, Node},
    problem::{Advice, Findings, Path, Problem},
    reader::{Member, Reader},
    source::Source,
};
use ipfilter_ebpf::abi::MAX_APIS;
use ipfilter_plan::{self as plan, Deny, Response, ResponseError};

use super::{
    ApiConfig, Config,
    authorize::{missing, unknown},
    table::{Field, Settings},
};
use crate::{
    files::{self, BODY_LIMIT, CONFIG_LIMIT},
    fleet::Variables,
    folder::Folder,
};

/// The longest name of an API.
const LONGEST_NAME: usize = 64;

/// A configuration file as it was read.
#[derive(Debug)]
pub struct Reading {
    /// Its text.
    pub source: Source,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
    /// The APIs of which all was understood.
    pub apis: Vec<ReadApi>,
    /// What it says, as far as that was understood.
    draft: Config,
    errors: usize,
}

/// An API of a file.
#[derive(Debug)]
pub struct ReadApi {
    /// Its settings.
    pub api: ApiConfig,
    /// Where its policy is named: the path, and the bytes of the file.
    pub policy: (String, Range<usize>),
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Unusable {
    /// The file is wrong.
    Invalid(Findings),
    /// The file can't be read, or what the command line asks for makes no sense.
    Other(String),
}

impl Reading {
    /// Whether it can be used.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.errors == 0
    }

    /// What it says, as far as that was understood.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.draft
    }

    pub(super) fn into_config(self) -> Result<Config, Unusable> {
        if self.is_valid() {
            return Ok(self.draft);
        }
        Err(Unusable::Invalid(Findings {
            source: self.source,
            problems: self.problems,
        }))
    }
}

/// Where a configuration comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'o> {
    /// Its path; in a bundle, its name.
    pub(super) path: &'o FilePath,
    /// Where the files are that it names.
    pub(super) folder: Folder<'o>,
    /// What its variables stand for.
    pub(super) variables: Variables<'o>,
    /// Whether it is published for a group of hosts.
    pub(super) is_published: bool,
}

/// Reads a configuration file, and the bodies of responses that it names, for no host: what variables stand for is
/// open.
///
/// # Errors
///
/// When the file itself can't be read.
pub fn read(path: &FilePath) -> io::Result<Reading> {
    read_for(path, Variables::Any)
}

/// The same, where variables stand for this.
pub(super) fn read_for(path: &FilePath, variables: Variables<'_>) -> io::Result<Reading> {
    let bytes = files::read(path, CONFIG_LIMIT)?;
    let origin = Origin {
        path,
        folder: Folder::Disk,
        variables,
        is_published: false,
    };
    Ok(parse(origin, Source::new(files::shown(path), bytes)))
}

/// Understands the text of a configuration.
pub(super) fn parse(origin: Origin<'_>, source: Source) -> Reading {
    let mut reader = Reader::new(());
    let mut apis = Vec::new();
    let root = reader.check_text(&source).then(|| {
        reader.root(
            source.text(),
            "a configuration is a JSON object with `interfaces` and `apis`",
            "write {\"interfaces\": […], \"apis\": […]}",
        )
    });
    let draft = root
        .flatten()
        .map(|root| read_config(&mut reader, origin, root, &mut apis));
    let whole = apis.iter().enumerate().filter(|(_, api)| api.is_whole);
    let apis = whole
        .map(|(index, api)| ReadApi {
            policy: (format!("$.apis[{index}].policy"), api.span("policy")),
            api: api.api.clone(),
        })
        .collect();
    let errors = reader.problems.errors();
    let problems = reader.problems.place(&source);
    Reading {
        draft: draft.unwrap_or_default(),
        errors,
        problems,
        apis,
        source,
    }
}

/// An API, and where its fields are.
struct ApiNode<'t> {
    api: ApiConfig,
    node: Node<'t>,
    members: Vec<Member<'t>>,
    /// Whether nothing is wrong with it.
    is_whole: bool,
}

impl ApiNode<'_> {
    /// Where a field is; the object's beginning where it is not.
    fn span(&self, field: &str) -> Range<usize> {
        let found = self.members.iter().find(|member| member.name == field);
        let start = self.node.span().start;
        found.map_or(start..start + 1, |member| member.value.span())
    }
}

fn read_config<'t>(
    reader: &mut Reader,
    origin: Origin<'_>,
    root: Node<'t>,
    apis: &mut Vec<ApiNode<'t>>,
) -> Config {
    let mut config = Config {
        file: Some(origin.path.into()),
        ..Config::default()
    };
    let path = Path::Root;
    let Some(members) = reader.object(root, &path, "a configuration") else {
        return config;
    };
    for member in &members {
        let path = path.name(&member.name);
        if member.name == "apis" {
            *apis = read_apis(reader, origin, member.value, &path);
        } else if member.name == "fleet" && origin.is_published {
            of_one_host(reader, member, &path);
        } else if !take(&mut config, reader, origin, (member, &path)) {
            unknown(reader, member, &path, &names(&Config::fields(), &["apis"]));
        } else if member.name == "interfaces" && member.value.elements().is_empty() {
            empty(reader, member, &path, "name at least one interface");
        }
    }
    let has = |name: &str| members.iter().any(|member| member.name == name);
    if !has("fleet") || has("interfaces") || has("apis") {
        require(reader, root, &path, &members, &["interfaces", "apis"]);
    }
    let folder = origin.path.parent().unwrap_or(FilePath::new(""));
    config.service.metrics = config.service.metrics.take().map(|at| at.within(folder));
    if let Some(authorize) = &mut config.authorize {
        authorize.within(folder);
    }
    config.apis = apis.iter().map(|api| api.api.clone()).collect();
    config
}

/// Takes a setting, with what variables stand for in its place.
fn take(
    config: &mut Config,
    reader: &mut Reader,
    origin: Origin<'_>,
    (member, path): (&Member<'_>, &Path<'_>),
) -> bool {
    let (at, variables) = ((member, path), origin.variables);
    match member.name.as_ref() {
        "interfaces" => {
            let known = (
                variables.fleet().map(|fleet| &fleet.interfaces),
                "interfaces",
            );
            let read = variables.list(reader, at, known, |name| Some(name.to_owned()));
            config.interfaces = read.unwrap_or_default();
        }
        "addresses" => {
            let known = (variables.fleet().map(|fleet| &fleet.vars), "vars");
            let read = variables.list(reader, at, known, |_| None);
            config.addresses = read.unwrap_or_default();
        }
        _ => return config.take(reader, member, path),
    }
    true
}

/// Refuses what a bundle says about one host.
fn of_one_host(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>) {
    reader.error("fleet", &(path, member.key.span()), || {
        Advice::new("a configuration that is published for a group has no `fleet`")
            .hint("write it into the configuration of each host, and remove it here")
    });
}

fn read_apis<'t>(
    reader: &mut Reader,
    origin: Origin<'_>,
    node: Node<'t>,
    path: &Path<'_>,
) -> Vec<ApiNode<'t>> {
    let elements = node.elements();
    if node.kind() != Kind::List || elements.is_empty() {
        reader.error("kind", &(path, node.span()), || {
            Advice::new("expected a list of at least one API")
                .hint("write [{\"name\": …, \"ports\": […], \"policy\": …}]")
        });
        return Vec::new();
    }
    if elements.len() > MAX_APIS {
        reader.error("many", &(path, node.span()), || {
            Advice::new(format!(
                "there are {} APIs; one filter protects at most {MAX_APIS}",
                elements.len()
            ))
        });
        return Vec::new();
    }
    let mut apis = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        let path = path.index(index);
        let Some(api) = read_api(reader, origin, element, &path) else {
            continue;
        };
        check_beside(reader, &apis, &api, &path);
        apis.push(api);
    }
    apis
}

fn read_api<'t>(
    reader: &mut Reader,
    origin: Origin<'_>,
    node: Node<'t>,
    path: &Path<'_>,
) -> Option<ApiNode<'t>> {
    let before = reader.problems.errors();
    let members = reader.object(node, path, "an API")?;
    let mut api = ApiConfig::default();
    for member in &members {
        let path = path.name(&member.name);
        if !api.take(reader, member, &path) {
            unknown(reader, member, &path, &names(&ApiConfig::fields(), &[]));
            continue;
        }
        match member.name.as_ref() {
            "name" if !api.name.is_empty() && !is_name(&api.name) => {
                reader.error("value", &(&path, member.value.span()), || {
                    Advice::new("this is not a name for an API").hint(format!(
                        "a name is 1 to {LONGEST_NAME} letters, digits, hyphens, underscores and dots"
                    ))
                });
            }
            "ports" if member.value.elements().is_empty() => {
                empty(reader, member, &path, "write at least one port");
            }
            _ => {}
        }
    }
    require(reader, node, path, &members, &["name", "ports", "policy"]);
    let folder = origin.path.parent().unwrap_or(FilePath::new(""));
    api.policy = folder.join(&api.policy);
    api.respond_body = api.respond_body.map(|body| folder.join(body));
    let mut read = ApiNode {
        api,
        node,
        members,
        is_whole: false,
    };
    if let Err((field, message)) = read.api.load_response(origin.folder) {
        let at = (&path.name(field), read.span(field));
        reader.error("respond", &at, || Advice::new(message));
    }
    read.is_whole = reader.problems.errors() == before;
    Some(read)
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(legal)
}

/// Notes what `api` claims that an API before it has.
fn check_beside(reader: &mut Reader, before: &[ApiNode<'_>], api: &ApiNode<'_>, path: &Path<'_>) {
    let mut told = HashSet::new();
    for other in before {
        let name = &api.api.name;
        if !name.is_empty() && other.api.name == *name && told.insert("name") {
            let at = (&path.name("name"), api.span("name"));
            reader.error("taken", &at, || {
                Advice::new(format!("another API is called `{name}` already"))
                    .hint("name each API differently")
            });
        }
        let (Some(first), Some(second)) = (other.api.port_set(), api.api.port_set()) else {
            continue;
        };
        let clash = plan::clash([(&first, other.api.protocols), (&second, api.api.protocols)]);
        if let Some((protocol, port)) = clash {
            let at = (&path.name("ports"), api.span("ports"));
            reader.error("taken", &at, || {
                Advice::new(format!(
                    "{protocol} port {port} belongs to the API `{}` already",
                    other.api.name
                ))
                .hint("a port belongs to one API only")
            });
        }
    }
}

fn require(
    reader: &mut Reader,
    node: Node<'_>,
    path: &Path<'_>,
    members: &[Member<'_>],
    fields: &[&str],
) {
    for field in fields {
        if !members.iter().any(|member| member.name == *field) {
            missing(reader, node, path, field);
        }
    }
}

/// Notes an empty list, unless it is none at all, which is noted already.
fn empty(reader: &mut Reader, member: &Member<'_>, path: &Path<'_>, hint: &str) {
    if member.value.kind() == Kind::List {
        reader.error("empty", &(path, member.value.span()), || {
            Advice::new("the list is empty").hint(hint)
        });
    }
}

fn names<'f>(fields: &'f [Field], more: &[&'f str]) -> Vec<&'f str> {
    let names = fields.iter().map(|field| field.name);
    names.chain(more.iter().copied()).collect()
}

impl ApiConfig {
    /// Reads what `respond` says. An error names the setting at fault.
    pub(super) fn load_response(
        &mut self,
        folder: Folder<'_>,
    ) -> Result<(), (&'static str, String)> {
        if self.deny != Deny::Respond {
            let unused = [
                ("respond_body", self.respond_body.is_some()),
                ("respond_type", self.respond_type.is_some()),
            ];
            return match unused.into_iter().find(|(_, is_given)| *is_given) {
                Some((name, _)) => Err((
                    name,
                    "only `respond` sends a body: let `deny` be `respond`, or remove this".into(),
                )),
                None => Ok(()),
            };
        }
        let default = Response::default();
        let body = match &self.respond_body {
            None => default.body().to_vec(),
            Some(path) => folder.read(path, BODY_LIMIT).map_err(|error| {
                let path = path.display();
                ("respond_body", format!("can't read `{path}`: {error}"))
            })?,
        };
        let media_type = self.respond_type.as_deref();
        let response = Response::new(media_type.unwrap_or(default.content_type()), body);
        self.response = response.map_err(|error| {
            let name = match error {
                ResponseError::TooLong(..) => "respond_body",
                ResponseError::ContentType(_) => "respond_type",
            };
            (name, error.to_string())
        })?;
        Ok(())
    }
}
