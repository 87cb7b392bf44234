//! Why a request is not judged at all, and therefore denied.

use std::fmt;

use crate::client::NoClient;

/// Why a request is not judged at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The caller is not a trusted proxy.
    Untrusted,
    /// It does not say which client the request is from.
    Client(NoClient),
    /// This header is there several times.
    Repeated(&'static str),
    /// This header can't be read.
    Unreadable(&'static str),
    /// Two headers say different things of the same.
    Disagreement(&'static str),
    /// Its path can be read in too many ways.
    Path,
    /// No telling which API it is for.
    Api,
    /// It is in no form that is understood.
    Malformed,
}

impl Refusal {
    /// What counters call it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Client(NoClient::Disagreement) | Self::Disagreement(_) => "disagreement",
            Self::Client(_) => "no_client",
            Self::Repeated(_) => "repeated_header",
            Self::Unreadable(_) => "unreadable_header",
            Self::Path => "ambiguous_path",
            Self::Api => "no_api",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => f.write_str(
                "the caller is not a trusted proxy: add its address to `trusted_proxies`, or let it ask \
                 over a Unix socket",
            ),
            Self::Client(NoClient::Missing) => f.write_str(
                "the proxy does not say which client the request is from: have it set \
                 `X-Forwarded-For`",
            ),
            Self::Client(NoClient::Unreadable) => {
                f.write_str("the last untrusted hop of the client's address is not an IP address")
            }
            Self::Client(NoClient::TooManyHops) => f.write_str("too many trusted hops"),
            Self::Client(NoClient::Disagreement) => f.write_str(
                "`X-Forwarded-For`, `Forwarded` and `X-Real-IP` name different clients: have the proxy \
                 set one of them and remove the others",
            ),
            Self::Repeated(header) => write!(f, "`{header}` is there several times"),
            Self::Unreadable(header) => write!(f, "`{header}` can't be read"),
            Self::Disagreement(what) => write!(
                f,
                "`X-Forwarded-…` and `X-Original-…` disagree about the {what}: have the proxy set one \
                 of them and remove the other"
            ),
            Self::Path => f.write_str("the path can be read in too many ways"),
            Self::Api => f.write_str(
                "it does not say which API it is for: give each API its `hosts`, ask at `/NAME`, or \
                 set `X-Ipfilter-Api`",
            ),
            Self::Malformed => f.write_str("the request is in no form that is understood"),
        }
    }
}
