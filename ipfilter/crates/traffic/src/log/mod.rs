//! Access logs.

mod columns;
mod json;
mod time;
mod web;

use std::{
    borrow::Cow,
    io::{self, BufRead},
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipfilter_plan::Protocol;
use jiff::Timestamp;

/// The most bytes that a line may have.
const LONGEST: u64 = 1 << 20;

/// The forms of logs that are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// nginx's and Apache's "combined" and "common", and API Gateway's CLF.
    Combined,
    /// An object a line.
    Json,
    /// Application Load Balancer.
    Alb,
    /// CloudFront: the names of the columns, separated by tabs.
    CloudFront(Vec<String>),
    /// VPC Flow Logs: the names of the columns.
    Flow(Vec<String>),
    /// API Gateway, CSV.
    GatewayCsv,
    /// API Gateway, XML.
    GatewayXml,
}

impl Format {
    /// What users call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Combined => "combined access log",
            Self::Json => "JSON lines",
            Self::Alb => "ALB access log",
            Self::CloudFront(_) => "CloudFront access log",
            Self::Flow(_) => "VPC flow log",
            Self::GatewayCsv => "API Gateway CSV log",
            Self::GatewayXml => "API Gateway XML log",
        }
    }
}

/// Where the source is, if not where the format has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The word of a line, counted from 1.
    Word(usize),
    /// A column or a member of JSON by its name; members of members after a dot.
    Name(String),
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<usize>() {
            Ok(0) => Err("words are counted from 1".to_owned()),
            Ok(number) => Ok(Self::Word(number)),
            Err(_) if text.is_empty() => Err("give the number of a word, or a name".to_owned()),
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

/// A request, or a flow of packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record<'l> {
    /// Where it came from; none if that is not an address of a host, as in a flow log's line without data.
    pub source: Option<IpAddr>,
    /// When.
    pub time: Option<Timestamp>,
    /// Which port it went to, and over what, if the log says so.
    pub port: Option<(Option<Protocol>, u16)>,
    /// Whether it is of a protocol without ports.
    pub portless: bool,
    /// The method.
    pub method: Option<Cow<'l, str>>,
    /// The path, with what follows it.
    pub path: Option<Cow<'l, str>>,
    /// The client's `User-Agent`.
    pub user_agent: Option<Cow<'l, str>>,
    /// The `Referer`.
    pub referer: Option<Cow<'l, str>>,
}

/// What a log has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'l> {
    /// A line that was understood.
    Record(Record<'l>),
    /// One that was not: its number, and why.
    Unreadable(u64, &'static str),
}

/// The form that the log beginning with `start` is in, if it is known.
#[must_use]
pub fn detect(start: &str) -> Option<Format> {
    let lines = start
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(200);
    let mut counts: Vec<(Format, usize)> = Vec::new();
    for line in lines {
        // A heading says it all.
        if let Some(format) = columns::heading(line) {
            return Some(format);
        }
        if let Some(format) = of_line(line) {
            match counts.iter_mut().find(|(known, _)| *known == format) {
                Some((_, count)) => *count += 1,
                None => counts.push((format, 1)),
            }
        }
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(format, _)| format)
}

fn of_line(line: &str) -> Option<Format> {
    if line.starts_with('{') {
        return json::parse(line, None).is_ok().then_some(Format::Json);
    }
    if line.starts_with("<request") {
        return Some(Format::GatewayXml);
    }
    let flow = columns::usual_flow();
    let formats = [Format::Alb, Format::Combined, flow, Format::GatewayCsv];
    formats
        .into_iter()
        .find(|format| parse(line, Some(format), None).is_ok())
}

/// Reads a log, and hands over its lines. `format` is none where it is not known; then `field` says where the
/// source is.
///
/// # Errors
///
/// When the log can't be read further; what was read until then was handed over.
pub fn read(
    reader: &mut dyn BufRead,
    format: Option<&Format>,
    field: Option<&Field>,
    mut take: impl FnMut(Item<'_>),
) -> io::Result<()> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if io::Read::take(&mut *reader, LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST {
            skip_line(reader)?;
            take(Item::Unreadable(number, "the line is too long"));
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') || columns::heading(text).is_some() {
            continue;
        }
        take(match parse(text, format, field) {
            Ok(record) => Item::Record(record),
            Err(why) => Item::Unreadable(number, why),
        });
    }
    Ok(())
}

fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        if length == 0 {
            return Ok(());
        }
        reader.consume(length);
        if end.is_some() {
            return Ok(());
        }
    }
}

/// Reads one line.
fn parse<'l>(
    line: &'l str,
    format: Option<&Format>,
    field: Option<&Field>,
) -> Result<Record<'l>, &'static str> {
    let mut record = match format {
        None => Record::default(),
        Some(Format::Json) => return json::parse(line, field),
        Some(Format::Combined) => web::combined(line, field.is_some())?,
        Some(Format::Alb) => web::alb(line)?,
        Some(Format::GatewayXml) => web::gateway_xml(line)?,
        Some(Format::GatewayCsv) => web::gateway_csv(line, field.is_some())?,
        Some(Format::CloudFront(names)) => columns::cloudfront(line, names, field)?,
        Some(Format::Flow(names)) => columns::flow(line, names, field)?,
    };
    if let Some(Field::Word(number)) = field {
        record.source = Some(word(line, *number)?);
    }
    Ok(record)
}

fn word(line: &str, number: usize) -> Result<IpAddr, &'static str> {
    let separators: &[char] = if line.contains('\t') {
        &['\t']
    } else {
        &[' ', ',']
    };
    let mut words = line.split(separators).filter(|word| !word.is_empty());
    let word = words.nth(number - 1).ok_or("the line has fewer words")?;
    address(word).ok_or("that word is no address")
}

/// An address, perhaps in quotes or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim_matches(|it: char| matches!(it, '"' | '\'' | ' '));
    let bare = text.parse().ok();
    bare.or_else(|| text.parse::<SocketAddr>().map(|it| it.ip()).ok())
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests;
