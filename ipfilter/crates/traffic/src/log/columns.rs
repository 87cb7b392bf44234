//! Logs with named columns: CloudFront and VPC Flow Logs.

use std::borrow::Cow;

use ipfilter_plan::Protocol;
use jiff::Timestamp;

use super::{Field, Format, Record, address, time};

/// The columns of a flow log that says nothing else ("Flow log records", version 2).
const USUAL_FLOW: [&str; 14] = [
    "version",
    "account-id",
    "interface-id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
];

pub(super) fn usual_flow() -> Format {
    Format::Flow(USUAL_FLOW.map(ToOwned::to_owned).to_vec())
}

/// The format whose heading a line is.
pub(super) fn heading(line: &str) -> Option<Format> {
    let names = |line: &str| {
        line.split_whitespace()
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    if let Some(fields) = line.strip_prefix("#Fields:") {
        return Some(Format::CloudFront(names(fields)));
    }
    let is_flow = line.split_whitespace().any(|word| word == "srcaddr");
    let all_names = line
        .split_whitespace()
        .all(|word| word.starts_with(|it: char| it.is_ascii_lowercase()) && !word.contains(':'));
    (is_flow && all_names).then(|| Format::Flow(names(line)))
}

struct Columns<'l, 'n> {
    values: Vec<&'l str>,
    names: &'n [String],
}

impl<'l> Columns<'l, '_> {
    fn get(&self, name: &str) -> Option<&'l str> {
        let index = self
            .names
            .iter()
            .position(|it| it.eq_ignore_ascii_case(name))?;
        self.values
            .get(index)
            .copied()
            .filter(|value| *value != "-")
    }
}

/// CloudFront ("Standard logging"): tabs between the columns.
pub(super) fn cloudfront<'l>(
    line: &'l str,
    names: &[String],
    field: Option<&Field>,
) -> Result<Record<'l>, &'static str> {
    let columns = Columns {
        values: line.split('\t').collect(),
        names,
    };
    if columns.values.len() != names.len() {
        return Err("the line has other columns than the heading");
    }
    let source = match field {
        Some(Field::Name(name)) => columns.get(name),
        _ => columns.get("c-ip"),
    };
    let source = source.and_then(address).ok_or("the client is no address")?;
    let date = columns.get("date").zip(columns.get("time"));
    Ok(Record {
        source: Some(source),
        time: date.and_then(|(date, time)| format!("{date}T{time}Z").parse().ok()),
        method: columns.get("cs-method").map(Cow::Borrowed),
        path: columns.get("cs-uri-stem").map(Cow::Borrowed),
        user_agent: columns.get("cs(User-Agent)").map(Cow::Borrowed),
        referer: columns.get("cs(Referer)").map(Cow::Borrowed),
        ..Record::default()
    })
}

/// VPC Flow Logs: a line is a flow of packets in one direction.
pub(super) fn flow<'l>(
    line: &'l str,
    names: &[String],
    field: Option<&Field>,
) -> Result<Record<'l>, &'static str> {
    let columns = Columns {
        values: line.split_whitespace().collect(),
        names,
    };
    if columns.values.len() != names.len() {
        return Err("the line has other columns than a flow log, or than the heading");
    }
    let source = match field {
        Some(Field::Name(name)) => columns.get(name),
        _ => columns.get("srcaddr"),
    };
    let seconds = columns.get("start").and_then(|it| it.parse::<i64>().ok());
    let time = seconds.and_then(|it| Timestamp::from_second(it).ok());
    if matches!(columns.get("log-status"), Some("NODATA" | "SKIPDATA")) {
        return Ok(Record {
            time,
            portless: true,
            ..Record::default()
        });
    }
    let source = source.and_then(address).ok_or("the source is no address")?;
    let protocol = match columns.get("protocol") {
        Some("6") => Some(Protocol::Tcp),
        Some("17") => Some(Protocol::Udp),
        Some(_) => {
            return Ok(Record {
                source: Some(source),
                time,
                portless: true,
                ..Record::default()
            });
        }
        None => None,
    };
    let port = columns.get("dstport").map(str::parse::<u16>);
    let port = port.transpose().map_err(|_| "the port is none")?;
    Ok(Record {
        source: Some(source),
        time: time.or_else(|| columns.get("time").and_then(time::any)),
        port: port.map(|port| (protocol, port)),
        ..Record::default()
    })
}
