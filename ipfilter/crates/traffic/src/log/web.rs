//! Logs of web servers and load balancers.

use std::borrow::Cow;

use ipfilter_plan::Protocol;

use super::{Record, address, time};

/// nginx's and Apache's "common" and "combined", and API Gateway's CLF:
/// `192.0.2.1 - user [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.1" 200 5 "referer" "agent"`. Apache's "vhost_combined" has
/// the host and port in front. `elsewhere` says that the source is not where it usually is.
pub(super) fn combined(line: &str, elsewhere: bool) -> Result<Record<'_>, &'static str> {
    let (head, rest) = line
        .split_once(" [")
        .ok_or("there is no time in brackets")?;
    let (stamp, rest) = rest.split_once(']').ok_or("there is no time in brackets")?;
    let mut words = head.split(' ').filter(|word| !word.is_empty());
    let first = words.next().unwrap_or("");
    let source = address(first).or_else(|| {
        // Of a virtual host, whose name comes first.
        let host = first
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        words.next().filter(|_| host).and_then(address)
    });
    if source.is_none() && !elsewhere {
        return Err("the line does not begin with an address");
    }
    let time = time::clf(stamp).ok_or("the time in brackets is none")?;
    let mut quoted = rest.split('"');
    quoted.next();
    let (method, path) = request(quoted.next().unwrap_or(""));
    quoted.next();
    let text = |text: Option<&'_ str>| text.is_some_and(|text| text != "-");
    let referer = quoted.next().filter(|it| text(Some(it)));
    quoted.next();
    let user_agent = quoted.next().filter(|it| text(Some(it)));
    Ok(Record {
        source,
        time: Some(time),
        method: method.map(Cow::Borrowed),
        path: path.map(Cow::Borrowed),
        user_agent: user_agent.map(Cow::Borrowed),
        referer: referer.map(Cow::Borrowed),
        ..Record::default()
    })
}

/// A request line's method and target.
fn request(line: &str) -> (Option<&str>, Option<&str>) {
    let mut words = line.split(' ');
    let method = words.next().filter(|it| !it.is_empty() && *it != "-");
    (method, words.next())
}

/// Application Load Balancer ("Access logs for your Application Load Balancer").
pub(super) fn alb(line: &str) -> Result<Record<'_>, &'static str> {
    let mut words = line.split(' ');
    let kind = words.next().unwrap_or("");
    if !["http", "https", "h2", "grpcs", "ws", "wss"].contains(&kind) {
        return Err("the line does not begin with a type such as `https`");
    }
    let stamp = words.next().unwrap_or("");
    let time = stamp.parse().map_err(|_| "the second word is no time")?;
    let source = words
        .nth(1)
        .and_then(address)
        .ok_or("the fourth word is no client")?;
    let mut quoted = line.split('"');
    quoted.next();
    let (method, target) = request(quoted.next().unwrap_or(""));
    quoted.next();
    let user_agent = quoted.next().filter(|it| *it != "-");
    let (port, path) = target.map_or((None, None), url);
    Ok(Record {
        source: Some(source),
        time: Some(time),
        port: port.map(|port| (Some(Protocol::Tcp), port)),
        method: method.map(Cow::Borrowed),
        path: path.map(Cow::Borrowed),
        user_agent: user_agent.map(Cow::Borrowed),
        ..Record::default()
    })
}

/// The port and the path of `https://host:443/path`.
fn url(url: &str) -> (Option<u16>, Option<&str>) {
    let Some((_, rest)) = url.split_once("://") else {
        return (None, Some(url));
    };
    let slash = rest.find('/').unwrap_or(rest.len());
    let host = rest.get(..slash).unwrap_or(rest);
    let port = host
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    (port, rest.get(slash..))
}

/// API Gateway's XML: `<request id="…"> <ip>192.0.2.1</ip> … </request>`.
pub(super) fn gateway_xml(line: &str) -> Result<Record<'_>, &'static str> {
    let element = |name: &str| {
        let start = line.find(&format!("<{name}>"))? + name.len() + 2;
        let rest = line.get(start..)?;
        rest.get(..rest.find('<')?).map(str::trim)
    };
    let source = element("ip")
        .and_then(address)
        .ok_or("there is no address in `<ip>`")?;
    Ok(Record {
        source: Some(source),
        time: element("requestTime").and_then(time::any),
        method: element("httpMethod").map(Cow::Borrowed),
        path: element("resourcePath").map(Cow::Borrowed),
        ..Record::default()
    })
}

/// API Gateway's CSV: `ip,caller,user,requestTime,httpMethod,resourcePath,…`.
pub(super) fn gateway_csv(line: &str, elsewhere: bool) -> Result<Record<'_>, &'static str> {
    let mut fields = line.split(',').map(|field| field.trim_matches('"'));
    let source = fields.next().and_then(address);
    if source.is_none() && !elsewhere {
        return Err("the line does not begin with an address");
    }
    let time = fields.nth(2).and_then(time::any);
    if time.is_none() && !elsewhere {
        return Err("the fourth field is no time");
    }
    Ok(Record {
        source,
        time,
        method: fields.next().map(Cow::Borrowed),
        path: fields.next().map(Cow::Borrowed),
        ..Record::default()
    })
}
