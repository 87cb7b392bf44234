//! What a proxy asks, whatever protocol it speaks.

use std::net::IpAddr;

use crate::{
    client::{Hops, Trusted},
    refusal::Refusal,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A program of this host that may open the Unix socket: trusted.
    Local,
    /// The peer at this address.
    Remote(IpAddr),
}

impl Peer {
    pub(crate) fn is_trusted(self, trusted: &Trusted) -> bool {
        match self {
            Self::Local => true,
            Self::Remote(address) => trusted.contains(address.to_canonical()),
        }
    }
}

/// The headers of what a proxy asks, each by its name in lower case.
pub(crate) trait Headers {
    /// All values of a header; none if one of them can't be read.
    fn all(&self, name: &str) -> Option<Vec<&str>>;
}

/// A request that a client has made of an API, as a trusted proxy tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Question<'a> {
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    /// Without its query.
    pub(crate) path: &'a str,
    /// Without its port; case does not matter.
    pub(crate) host: Option<&'a str>,
    pub(crate) secure: bool,
    /// Which API the proxy says it is for.
    pub(crate) api: Option<&'a str>,
}

/// What a request says apart from its headers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line<'a> {
    pub(crate) method: &'a str,
    /// Path and query, or a whole URL.
    pub(crate) target: &'a str,
    /// The client, where that is known apart from headers.
    pub(crate) last: Option<IpAddr>,
    /// Whether the client's connection is encrypted, where that is known apart from headers.
    pub(crate) secure: Option<bool>,
    /// Which API it is for, where the proxy says so apart from headers.
    pub(crate) api: Option<&'a str>,
    /// Whether line and headers are the client's own, apart from the hops: then no header says what was
    /// asked for, in which way, or of which API.
    pub(crate) is_clients: bool,
}

impl<'a> Question<'a> {
    /// What a trusted proxy asks by these headers, and where they are silent by the line.
    pub(crate) fn new(
        trusted: &Trusted,
        headers: &'a impl Headers,
        line: Line<'a>,
    ) -> Result<Self, Refusal> {
        let all = |name: &'static str| headers.all(name).ok_or(Refusal::Unreadable(name));
        let one = |name: &'static str| match all(name)?.as_slice() {
            [] | [""] => Ok(None),
            [value] => Ok(Some(*value)),
            _ => Err(Refusal::Repeated(name)),
        };
        let told = |name: &'static str| if line.is_clients { Ok(None) } else { one(name) };
        // The last hop is known apart from headers: those that no proxy adds to are the client's.
        let own = |name: &'static str| {
            if line.is_clients {
                Ok(Vec::new())
            } else {
                all(name)
            }
        };
        let hops = Hops {
            x_forwarded_for: all("x-forwarded-for")?,
            forwarded: own("forwarded")?,
            x_real_ip: own("x-real-ip")?,
            last: line.last,
        };
        let client = trusted.client(&hops).map_err(Refusal::Client)?;
        let method = agreed(
            "method",
            [told("x-forwarded-method")?, told("x-original-method")?],
        )?;
        let url = told("x-original-url")?.map(Target::of);
        let targets = [
            told("x-forwarded-uri")?.map(Target::of),
            told("x-original-uri")?.map(Target::of),
            url,
        ];
        let path = agreed(
            "path",
            targets.map(|target| target.map(|target| target.path)),
        )?;
        let asked = Target::of(line.target);
        // Where headers name the request, the line is free to name the API.
        let api = match told("x-ipfilter-api")?.or(line.api) {
            Some(name) => Some(name),
            None if path.is_some() => asked.path.strip_prefix('/').filter(|name| !name.is_empty()),
            None => None,
        };
        let host = match told("x-forwarded-host")? {
            Some(host) => Some(host),
            None => url.and_then(|url| url.authority).or(asked.authority),
        };
        let host = match host {
            Some(host) => Some(host),
            None => one("host")?,
        };
        let scheme = match told("x-forwarded-proto")? {
            Some(scheme) => Some(scheme),
            None => url.and_then(|url| url.scheme).or(asked.scheme),
        };
        let secure = match scheme {
            Some(scheme) => secure(scheme).ok_or(Refusal::Unreadable("x-forwarded-proto"))?,
            None => line.secure.unwrap_or(false),
        };
        Ok(Self {
            client,
            method: method.unwrap_or(line.method),
            path: path.unwrap_or(asked.path),
            host: host.map(without_port),
            secure,
            api,
        })
    }
}

/// The one value that is there; they must be the same.
fn agreed<'a, const N: usize>(
    what: &'static str,
    values: [Option<&'a str>; N],
) -> Result<Option<&'a str>, Refusal> {
    let mut values = values.into_iter().flatten();
    let first = values.next();
    if values.any(|other| Some(other) != first) {
        return Err(Refusal::Disagreement(what));
    }
    Ok(first)
}

fn secure(scheme: &str) -> Option<bool> {
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(true),
        "http" | "ws" => Some(false),
        _ => None,
    }
}

/// RFC 3986, section 3.2.2: an IPv6 address is in brackets.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a request is for: in origin form or a whole URL (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
}

impl<'a> Target<'a> {
    fn of(text: &'a str) -> Self {
        let path = |text: &'a str| text.split(['?', '#']).next().unwrap_or_default();
        let whole = text.split_once("://").filter(|(scheme, _)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        let Some((scheme, rest)) = whole else {
            return Self {
                scheme: None,
                authority: None,
                path: path(text),
            };
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        Self {
            scheme: Some(scheme),
            authority: Some(authority),
            path: match path(rest) {
                "" => "/",
                path => path,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given(Vec<(&'static str, &'static str)>);

    impl Headers for Given {
        fn all(&self, name: &str) -> Option<Vec<&str>> {
            let values = self.0.iter().filter(|(given, _)| *given == name);
            Some(values.map(|(_, value)| *value).collect())
        }
    }

    fn ask(headers: &[(&'static str, &'static str)]) -> Result<Question<'static>, Refusal> {
        let mut all = vec![("x-forwarded-for", "192.0.2.1")];
        all.extend_from_slice(headers);
        let line = Line {
            method: "GET",
            target: "/line?x=1",
            ..Line::default()
        };
        Question::new(&Trusted::default(), Box::leak(Box::new(Given(all))), line)
    }

    #[test]
    fn headers_come_before_the_line() {
        for (headers, method, path, host, secure) in [
            (&[][..], "GET", "/line", None, false),
            (
                &[("host", "A.example:8080")],
                "GET",
                "/line",
                Some("A.example"),
                false,
            ),
            (
                &[
                    ("x-forwarded-method", "POST"),
                    ("x-forwarded-uri", "/pets/7?a=b"),
                    ("x-forwarded-host", "api.example"),
                    ("x-forwarded-proto", "https"),
                    ("host", "127.0.0.1"),
                ],
                "POST",
                "/pets/7",
                Some("api.example"),
                true,
            ),
            (
                &[("x-original-method", "PUT"), ("x-original-uri", "/a%2fb#c")],
                "PUT",
                "/a%2fb",
                None,
                false,
            ),
            (
                &[("x-original-url", "https://[2001:db8::1]:443/x?y")],
                "GET",
                "/x",
                Some("[2001:db8::1]"),
                true,
            ),
            (
                &[("x-original-url", "http://h.example")],
                "GET",
                "/",
                Some("h.example"),
                false,
            ),
        ] {
            let question = ask(headers).unwrap();
            assert_eq!(question.method, method, "{headers:?}");
            assert_eq!(question.path, path, "{headers:?}");
            assert_eq!(question.host, host, "{headers:?}");
            assert_eq!(question.secure, secure, "{headers:?}");
        }
    }

    #[test]
    fn what_a_client_could_have_added_is_never_preferred() {
        for (headers, refusal) in [
            (
                &[("x-forwarded-uri", "/public"), ("x-original-uri", "/admin")][..],
                Refusal::Disagreement("path"),
            ),
            (
                &[("x-forwarded-method", "GET"), ("x-original-method", "PUT")],
                Refusal::Disagreement("method"),
            ),
            (
                &[("x-forwarded-uri", "/a"), ("x-forwarded-uri", "/b")],
                Refusal::Repeated("x-forwarded-uri"),
            ),
            (
                &[("x-forwarded-proto", "https,http")],
                Refusal::Unreadable("x-forwarded-proto"),
            ),
        ] {
            assert_eq!(ask(headers), Err(refusal));
        }
    }

    #[test]
    fn headers_of_the_clients_own_name_nothing() {
        let headers = Given(vec![
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-method", "PUT"),
            ("x-forwarded-uri", "/public"),
            ("x-original-url", "https://other.example/public"),
            ("x-forwarded-host", "other.example"),
            ("x-forwarded-proto", "https"),
            ("x-ipfilter-api", "other"),
            ("forwarded", "for=198.51.100.1"),
            ("x-real-ip", "198.51.100.1"),
            ("host", "api.example"),
        ]);
        let line = Line {
            last: Some("192.0.2.1".parse().unwrap()),
            method: "GET",
            target: "/admin",
            secure: Some(false),
            is_clients: true,
            ..Line::default()
        };
        let question = Question::new(&Trusted::default(), &headers, line).unwrap();
        assert_eq!((question.method, question.path), ("GET", "/admin"));
        assert_eq!(question.host, Some("api.example"));
        assert_eq!((question.secure, question.api), (false, None));
    }

    #[test]
    fn the_proxy_says_which_api() {
        assert_eq!(ask(&[]).unwrap().api, None);
        assert_eq!(
            ask(&[("x-ipfilter-api", "pets")]).unwrap().api,
            Some("pets")
        );
        assert_eq!(ask(&[("x-original-uri", "/a")]).unwrap().api, Some("line"));
    }
}
