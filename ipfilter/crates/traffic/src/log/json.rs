//! An object a line: nginx's, Caddy's, Traefik's, API Gateway's and many others'.

use std::borrow::Cow;

use ipfilter_plan::Protocol;
use serde_json::Value;

use super::{Field, Record, address, time};

/// Where the source is, the likeliest first.
const SOURCES: [&str; 24] = [
    "sourceIp",
    "source_ip",
    "sourceIP",
    "ip",
    "remote_addr",
    "remote_ip",
    "remoteIp",
    "client_ip",
    "clientIp",
    "clientIP",
    "ClientHost",
    "c-ip",
    "src_ip",
    "srcaddr",
    "source",
    "client",
    "ClientAddr",
    "remoteAddr",
    "request.remote_ip",
    "request.client_ip",
    "identity.sourceIp",
    "httpRequest.clientIp",
    "httpRequest.remoteIp",
    "source.ip",
];

const TIMES: [&str; 14] = [
    "requestTimeEpoch",
    "requestTime",
    "time_iso8601",
    "@timestamp",
    "timestamp",
    "time",
    "ts",
    "time_local",
    "StartUTC",
    "date",
    "msec",
    "start",
    "eventTime",
    "datetime",
];

const PORTS: [&str; 6] = [
    "server_port",
    "dstport",
    "dst_port",
    "destination.port",
    "port",
    "local_port",
];

const METHODS: [&str; 9] = [
    "httpMethod",
    "method",
    "request_method",
    "requestMethod",
    "RequestMethod",
    "cs-method",
    "request.method",
    "httpRequest.httpMethod",
    "httpRequest.requestMethod",
];

const PATHS: [&str; 11] = [
    "path",
    "uri",
    "request_uri",
    "requestPath",
    "RequestPath",
    "resourcePath",
    "cs-uri-stem",
    "request.uri",
    "request.path",
    "httpRequest.uri",
    "url",
];

const USER_AGENTS: [&str; 8] = [
    "userAgent",
    "user_agent",
    "http_user_agent",
    "identity.userAgent",
    "request_User-Agent",
    "httpRequest.userAgent",
    "user_agent.original",
    "request.headers.User-Agent",
];

const REFERERS: [&str; 5] = [
    "referer",
    "http_referer",
    "request_Referer",
    "httpRequest.referer",
    "request.headers.Referer",
];

/// Reads one object. `field` says where the source is, if not in one of the usual places.
pub(super) fn parse(line: &str, field: Option<&Field>) -> Result<Record<'static>, &'static str> {
    let object: Value = serde_json::from_str(line).map_err(|_| "this is not JSON")?;
    if !object.is_object() {
        return Err("this is not an object");
    }
    let source = match field {
        Some(Field::Name(name)) => find(&object, name).ok_or("the object has no such member")?,
        Some(Field::Word(_)) => return Err("members of JSON have names, not numbers"),
        None => {
            let found = SOURCES.iter().filter_map(|name| find(&object, name));
            let mut found = found.filter(|it| it.as_str().and_then(address).is_some());
            found.next().ok_or("no member is the address of a client")?
        }
    };
    let source = source
        .as_str()
        .and_then(address)
        .ok_or("the source is no address")?;
    let time = TIMES.iter().find_map(|name| match find(&object, name)? {
        Value::Number(number) => time::epoch(number.as_f64()?),
        Value::String(text) => time::any(text),
        _ => None,
    });
    let port = PORTS.iter().find_map(|name| match find(&object, name)? {
        Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    });
    let protocol = match find(&object, "protocol") {
        Some(Value::String(text)) if text == "udp" => Some(Protocol::Udp),
        _ => None,
    };
    let text = |names: &[&str]| names.iter().find_map(|name| text(find(&object, name)?));
    // A request line, as nginx's `$request`.
    let line = text(&["request"]);
    let mut words = line.iter().flat_map(|line| line.split(' '));
    let (method, path) = (words.next(), words.next());
    let owned = |word: Option<&str>| word.map(|word| Cow::Owned(word.to_owned()));
    Ok(Record {
        source: Some(source),
        time,
        port: port.map(|port| (protocol, port)),
        portless: false,
        method: text(&METHODS).or_else(|| owned(method)),
        path: text(&PATHS).or_else(|| owned(path)),
        user_agent: text(&USER_AGENTS),
        referer: text(&REFERERS),
    })
}

/// A text that says something; of several, as Caddy has the values of headers, the first.
fn text(value: &Value) -> Option<Cow<'static, str>> {
    let value = value
        .as_array()
        .map_or(Some(value), |values| values.first())?;
    let text = value
        .as_str()
        .filter(|text| !text.is_empty() && *text != "-")?;
    Some(Cow::Owned(text.to_owned()))
}

/// The member of that name; after a dot, a member of it.
fn find<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    if let Some(value) = object.get(name) {
        return Some(value);
    }
    let mut value = object;
    for part in name.split('.') {
        value = value.get(part)?;
    }
    Some(value)
}
