//! A packet that did not get through, or a request that was denied, as `events` prints it and the log has it.

use std::{borrow::Cow, fmt, net::IpAddr};

use ipfilter_ebpf::wire::Protocol;
use ipfilter_feed::Denied;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::kernel::{Denial, monotonic};

/// A packet that did not get through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeniedEvent {
    /// When it came.
    pub time: Timestamp,
    /// The interface's name, or its number after a `#`.
    pub interface: String,
    /// The API's name; none for packets that reached no API's port.
    pub api: Option<String>,
    /// The verdict.
    pub verdict: Cow<'static, str>,
    /// Why.
    pub reason: Cow<'static, str>,
    /// `tcp` or `udp`; none where the ports are not known.
    pub protocol: Option<Cow<'static, str>>,
    /// Its source address; none if no IP header was found.
    pub source: Option<IpAddr>,
    /// The source port.
    pub source_port: Option<u16>,
    /// The destination port.
    pub port: Option<u16>,
}

/// A request that an authorization service denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestEvent {
    /// When it came.
    pub time: Timestamp,
    /// The API's name; none if the request did not say which one it is for.
    pub api: Option<String>,
    /// The verdict: `deny`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// The statement that denies it, if one does.
    pub statement: Option<String>,
    /// The client; none if the proxy did not say who it is.
    pub source: Option<IpAddr>,
    /// The method.
    pub method: Option<String>,
    /// The path, without its query.
    pub path: Option<String>,
}

impl From<Denied> for RequestEvent {
    fn from(denied: Denied) -> Self {
        Self {
            time: denied.time,
            api: denied.api,
            verdict: "deny",
            reason: denied.reason,
            statement: denied.statement,
            source: denied.source,
            method: denied.method,
            path: denied.path,
        }
    }
}

impl RequestEvent {
    /// The line without the time, for logs that have their own.
    #[must_use]
    pub fn untimed(&self) -> impl fmt::Display {
        UntimedRequest(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verdict, reason, ..
        } = self;
        let api = self.api.as_deref().unwrap_or("-");
        write!(f, "request {api} {verdict} {reason}")?;
        if let Some(statement) = &self.statement {
            write!(f, " by {statement}")?;
        }
        match self.source {
            Some(source) => write!(f, " from {source}")?,
            None => f.write_str(" from an unknown client")?,
        }
        if let (Some(method), Some(path)) = (&self.method, &self.path) {
            write!(f, ": {method} {path}")?;
        }
        Ok(())
    }
}

/// The line without the time.
struct UntimedRequest<'a>(&'a RequestEvent);

impl fmt::Display for UntimedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

impl fmt::Display for RequestEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ", self.time)?;
        self.write(f)
    }
}

/// Denied packets or requests that were not reported one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreported {
    /// Until when.
    pub time: Timestamp,
    /// How many.
    pub unreported: u64,
}

impl DeniedEvent {
    /// Gives interfaces and APIs their names.
    #[must_use]
    pub fn new(denial: &Denial, interface: Option<&str>, api: Option<&str>) -> Self {
        let protocol = denial.protocol.map(|protocol| match protocol {
            Protocol::Tcp => Cow::Borrowed("tcp"),
            Protocol::Udp => Cow::Borrowed("udp"),
        });
        Self {
            time: wall(denial.time),
            interface: interface
                .map_or_else(|| format!("#{}", denial.interface), ToOwned::to_owned),
            api: denial
                .api
                .map(|index| api.map_or_else(|| format!("#{index}"), ToOwned::to_owned)),
            verdict: denial.reason.outcome().name().into(),
            reason: denial.reason.name().into(),
            source: denial.source,
            source_port: denial.protocol.map(|_| denial.source_port),
            port: denial.protocol.map(|_| denial.port),
            protocol,
        }
    }
}

/// The time of day of an instant of the monotonic clock, by how long ago it is.
pub(crate) fn wall(time: u64) -> Timestamp {
    let ago = i64::try_from(monotonic().saturating_sub(time)).unwrap_or(i64::MAX);
    let now = Timestamp::now();
    now.checked_sub(SignedDuration::from_nanos(ago))
        .unwrap_or(now)
}

impl DeniedEvent {
    /// The line without the time, for logs that have their own.
    #[must_use]
    pub fn untimed(&self) -> impl fmt::Display {
        Untimed(self)
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            interface,
            verdict,
            reason,
            ..
        } = self;
        let api = self.api.as_deref().unwrap_or("-");
        write!(f, "{interface} {api} {verdict} {reason}")?;
        match (self.source, &self.protocol) {
            (None, _) => write!(f, " from an unknown source"),
            (Some(source), None) => write!(f, " from {source}"),
            (Some(source), Some(protocol)) => write!(
                f,
                " {protocol} from {} to port {}",
                Endpoint(source, self.source_port.unwrap_or(0)),
                self.port.unwrap_or(0)
            ),
        }
    }
}

impl fmt::Display for DeniedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ", self.time)?;
        self.write(f)
    }
}

/// The line without the time.
struct Untimed<'a>(&'a DeniedEvent);

impl fmt::Display for Untimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f)
    }
}

/// An address and a port, in brackets where they would run together.
struct Endpoint(IpAddr, u16);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::net::SocketAddr::new(self.0, self.1).fmt(f)
    }
}

impl fmt::Display for Unreported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, unreported } = self;
        write!(f, "{time:.3} and {unreported} more that are not shown")
    }
}

#[cfg(test)]
mod tests {
    use ipfilter_ebpf::abi::Reason;

    use super::*;

    fn event(denial: &Denial) -> String {
        let mut event = DeniedEvent::new(denial, Some("eth0"), Some("petstore"));
        event.time = Timestamp::UNIX_EPOCH;
        event.to_string()
    }

    #[test]
    fn lines_tell_what_is_known_of_requests() {
        let mut event = RequestEvent::from(Denied {
            time: Timestamp::UNIX_EPOCH,
            api: Some("petstore".to_owned()),
            reason: "explicit_deny".to_owned(),
            statement: Some("Admin".to_owned()),
            source: "203.0.113.9".parse().ok(),
            method: Some("GET".to_owned()),
            path: Some("/admin".to_owned()),
        });
        let line = "1970-01-01T00:00:00.000Z request petstore deny explicit_deny by Admin from 203.0.113.9: GET /admin";
        assert_eq!(event.to_string(), line);
        event = RequestEvent {
            api: None,
            reason: "no_client".to_owned(),
            statement: None,
            source: None,
            path: None,
            ..event
        };
        let line = "request - deny no_client from an unknown client";
        assert_eq!(event.untimed().to_string(), line);
    }

    #[test]
    fn lines_tell_what_is_known() {
        let denial = Denial {
            time: 0,
            interface: 2,
            api: Some(0),
            reason: Reason::Denied,
            protocol: Some(Protocol::Tcp),
            source: "203.0.113.9".parse().ok(),
            source_port: 4000,
            port: 443,
        };
        let line = "1970-01-01T00:00:00.000Z eth0 petstore drop denied tcp from 203.0.113.9:4000 to port 443";
        assert_eq!(event(&denial), line);
        let malformed = Denial {
            api: None,
            reason: Reason::Malformed,
            protocol: None,
            source: None,
            ..denial
        };
        let line = "1970-01-01T00:00:00.000Z eth0 - drop malformed from an unknown source";
        assert_eq!(event(&malformed), line);
        let six = Denial {
            source: "2001:db8::9".parse().ok(),
            reason: Reason::Reset,
            ..denial
        };
        assert!(event(&six).ends_with("reject reset tcp from [2001:db8::9]:4000 to port 443"));
    }
}
