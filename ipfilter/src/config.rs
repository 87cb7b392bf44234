//! The configuration file: several interfaces and APIs in one deployment.
//!
//! Knows the file's form and nothing of what becomes of it. Policies are named here, not read.

mod fields;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use self::fields::{ApiName, DenyWord, Fields, ModeWord, Name, Object, Ports, ProtocolList, Rate};
use crate::{
    endpoint::Endpoint,
    files::{self, BODY_LIMIT, CONFIG_LIMIT},
    kernel::Mode,
    plan::{Deny, EVENT_RATE, PortSet, Protocols, REJECT_RATE, Response},
};

/// What a configuration file asks for, its paths made absolute or relative to where we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names of interfaces, or patterns.
    pub interfaces: Vec<String>,
    /// The APIs, at least one.
    pub apis: Vec<ConfigApi>,
    /// The protected addresses; empty for all.
    pub addresses: Vec<IpAddr>,
    /// Where at the interface.
    pub mode: Mode,
    /// The most answers of `reject`, a second and CPU.
    pub reject_rate: u32,
    /// The denied packets that are told of, a second and CPU.
    pub events: u32,
    /// Whether they are logged.
    pub log_denied: bool,
    /// Where metrics are served; none for nowhere.
    pub metrics: Option<Endpoint>,
}

/// One API of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigApi {
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: PortSet,
    /// Its protocols.
    pub protocols: Protocols,
    /// The file with its policy.
    pub policy: PathBuf,
    /// What happens to denied sources.
    pub deny: Deny,
    /// What they are told.
    pub response: Response,
}

/// What is wrong with a configuration file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both counted from 1; none where the file could not be read, or where what a
    /// field names is at fault rather than the file.
    pub place: Option<(usize, usize)>,
    /// The field, such as `apis[0].ports`; empty for the whole file.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if !self.field.is_empty() {
            write!(f, " `{}`:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

impl std::error::Error for ConfigError {}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    interfaces: Vec<Name>,
    apis: Vec<Object<FileApi>>,
    #[serde(default)]
    addresses: Vec<fields::Address>,
    #[serde(default)]
    mode: ModeWord,
    #[serde(default)]
    reject_rate: Option<Rate>,
    #[serde(default)]
    events: Option<Rate>,
    #[serde(default)]
    log_denied: bool,
    #[serde(default)]
    metrics: Option<fields::EndpointWord>,
}

/// An API as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileApi {
    name: ApiName,
    ports: Ports,
    #[serde(default)]
    protocols: ProtocolList,
    policy: Name,
    #[serde(default)]
    deny: DenyWord,
    #[serde(default)]
    respond_body: Option<Name>,
    #[serde(default)]
    respond_type: Option<Name>,
}

impl Fields for File {
    const EXPECTING: &'static str = "an object with the fields `interfaces` and `apis`";
}

impl Fields for FileApi {
    const EXPECTING: &'static str = "an object with the fields `name`, `ports` and `policy`";
}

/// Reads a configuration file, and the bodies of responses that it names.
///
/// # Errors
///
/// The first problem.
pub fn read(path: &Path) -> Result<Config, ConfigError> {
    let text = files::read(path, CONFIG_LIMIT)
        .map_err(|error| problem(path, "", format!("can't read the configuration: {error}")))?;
    let file = parse(path, &text)?;
    build(path, file)
}

fn problem(file: &Path, field: impl Into<String>, message: impl Into<String>) -> ConfigError {
    ConfigError {
        file: file.into(),
        place: None,
        field: field.into(),
        message: message.into(),
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<File, ConfigError> {
    let located = |field: String, error: &serde_json::Error| ConfigError {
        place: Some((error.line(), error.column())),
        ..problem(path, field, fields::message(error))
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let Object(file) = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        // Where the text is no JSON, the path ends in a question mark; the place says it all.
        let known = field != "." && !field.ends_with('?');
        let field = if known { field } else { String::new() };
        located(field, error.inner())
    })?;
    json.end().map_err(|error| located(String::new(), &error))?;
    Ok(file)
}

/// What no field alone can tell, and what lies outside the file.
fn build(path: &Path, file: File) -> Result<Config, ConfigError> {
    if file.interfaces.is_empty() {
        return Err(problem(path, "interfaces", "name at least one interface"));
    }
    if file.apis.is_empty() {
        return Err(problem(path, "apis", "name at least one API"));
    }
    let apis = (0..)
        .zip(file.apis)
        .map(|(index, Object(api))| build_api(path, index, api));
    Ok(Config {
        interfaces: file.interfaces.into_iter().map(|name| name.0).collect(),
        apis: apis.collect::<Result<_, _>>()?,
        addresses: file
            .addresses
            .into_iter()
            .map(|address| address.0)
            .collect(),
        mode: file.mode.0,
        reject_rate: file.reject_rate.map_or(REJECT_RATE, |rate| rate.0),
        events: file.events.map_or(EVENT_RATE, |rate| rate.0),
        log_denied: file.log_denied,
        metrics: file
            .metrics
            .map(|endpoint| endpoint.0.within(path.parent().unwrap_or(Path::new("")))),
    })
}

fn build_api(path: &Path, index: usize, api: FileApi) -> Result<ConfigApi, ConfigError> {
    let field = |name: &str| format!("apis[{index}].{name}");
    let response = respond(path, &api, &field)?;
    Ok(ConfigApi {
        policy: beside(path, &api.policy.0),
        name: api.name.0,
        ports: api.ports.0,
        protocols: api.protocols.0,
        deny: api.deny.0,
        response,
    })
}

fn respond(
    path: &Path,
    api: &FileApi,
    field: &impl Fn(&str) -> String,
) -> Result<Response, ConfigError> {
    let default = Response::default();
    if api.deny.0 != Deny::Respond {
        let asked = [
            ("respond_body", &api.respond_body),
            ("respond_type", &api.respond_type),
        ];
        return match asked.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(problem(
                path,
                field(name),
                "it is sent only by `\"deny\": \"respond\"`: write that, or leave this out",
            )),
            None => Ok(default),
        };
    }
    let body = match &api.respond_body {
        None => default.body().to_vec(),
        Some(body) => {
            let body = beside(path, &body.0);
            files::read(&body, BODY_LIMIT).map_err(|error| {
                let message = format!("can't read `{}`: {error}", body.display());
                problem(path, field("respond_body"), message)
            })?
        }
    };
    let media_type = api.respond_type.as_ref().map(|name| name.0.as_str());
    Response::new(media_type.unwrap_or(default.content_type()), body).map_err(|error| {
        let name = match error {
            crate::plan::ResponseError::TooLong(..) => "respond_body",
            crate::plan::ResponseError::ContentType(_) => "respond_type",
        };
        problem(path, field(name), error.to_string())
    })
}

/// A path as the file has it: relative to the folder that the file is in.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
