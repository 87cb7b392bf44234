//! Which client a request is from, by what trusted proxies say.

use std::net::IpAddr;

use ipnet::IpNet;

/// The most hops that are looked at, from the last one back.
const MOST_HOPS: usize = 64;

/// The proxies whose headers are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted(Vec<IpNet>);

/// Why there is no client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoClient {
    /// Nothing names one.
    Missing,
    /// What should be an address is none.
    Unreadable,
    /// More hops than are looked at.
    TooManyHops,
    /// Two headers name different clients.
    Disagreement,
}

/// What says where a request comes from. The last hop comes last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hops<'a> {
    /// The values of `X-Forwarded-For`.
    pub(crate) x_forwarded_for: Vec<&'a str>,
    /// The values of `Forwarded` (RFC 7239).
    pub(crate) forwarded: Vec<&'a str>,
    /// The values of `X-Real-IP`.
    pub(crate) x_real_ip: Vec<&'a str>,
    /// Who the proxy was connected to, if it says so apart from headers.
    pub(crate) last: Option<IpAddr>,
}

impl Trusted {
    pub(crate) fn new(proxies: impl IntoIterator<Item = IpNet>) -> Self {
        Self(proxies.into_iter().collect())
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|proxies| proxies.contains(&address))
    }

    /// The client: the last hop that is no trusted proxy, or the first of all if each is one. Where
    /// several headers name one that is no proxy, they must agree: one of them is what the client sent.
    pub(crate) fn client(&self, hops: &Hops<'_>) -> Result<IpAddr, NoClient> {
        let lists = [
            listed(&hops.x_forwarded_for, element),
            listed(&hops.forwarded, forwarded_for),
            listed(&hops.x_real_ip, element),
        ];
        let mut outside: Option<IpAddr> = None;
        let mut first: Option<IpAddr> = None;
        let last = hops.last.map(Ok);
        for (index, list) in lists.into_iter().enumerate() {
            let last = last.filter(|_| index == 0);
            let walked = self.walk(list.into_iter().rev(), last)?;
            let Some((client, is_proxy)) = walked else {
                continue;
            };
            if is_proxy {
                first = first.or(Some(client));
            } else if outside.is_some_and(|other| other != client) {
                return Err(NoClient::Disagreement);
            } else {
                outside = Some(client);
            }
        }
        outside.or(first).ok_or(NoClient::Missing)
    }

    /// Goes back past trusted proxies: where it ends, and whether that is one too.
    fn walk<'a>(
        &self,
        hops: impl Iterator<Item = Option<&'a str>>,
        last: Option<Result<IpAddr, NoClient>>,
    ) -> Result<Option<(IpAddr, bool)>, NoClient> {
        let hops = hops.map(|hop| hop.and_then(address).ok_or(NoClient::Unreadable));
        let mut walked = None;
        for (count, hop) in last.into_iter().chain(hops).enumerate() {
            if count == MOST_HOPS {
                return Err(NoClient::TooManyHops);
            }
            let hop = hop?.to_canonical();
            if !self.contains(hop) {
                return Ok(Some((hop, false)));
            }
            walked = Some((hop, true));
        }
        Ok(walked)
    }
}

/// The elements of headers that are lists (RFC 9110, section 5.6.1), each as `read` has it.
fn listed<'a>(
    values: &[&'a str],
    read: impl Fn(&'a str) -> Option<&'a str> + Copy,
) -> Vec<Option<&'a str>> {
    let elements = values.iter().flat_map(|value| value.split(','));
    elements
        .map(str::trim)
        .filter(|element| !element.is_empty())
        .map(read)
        .collect()
}

fn element(text: &str) -> Option<&str> {
    Some(text)
}

/// The node of `for=` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').map(str::trim);
    let value = pairs.find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
/// One with a zone is no address that a policy could name.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']')?;
        let port = rest.strip_prefix(':');
        let is_fine = rest.is_empty() || port.is_some_and(is_port);
        return is_fine.then(|| address.parse().ok().map(IpAddr::V6))?;
    }
    let (address, port) = text.split_once(':')?;
    is_port(port).then(|| address.parse().ok().map(IpAddr::V4))?
}

fn is_port(text: &str) -> bool {
    !text.is_empty()
        && text.parse::<u16>().is_ok()
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> Trusted {
        Trusted::new([
            "10.0.0.0/8".parse().unwrap(),
            "2001:db8:10::/48".parse().unwrap(),
        ])
    }

    fn by_x(values: &[&'static str]) -> Result<String, NoClient> {
        let hops = Hops {
            x_forwarded_for: values.to_vec(),
            ..Hops::default()
        };
        trusted().client(&hops).map(|client| client.to_string())
    }

    #[test]
    fn the_client_is_the_last_hop_that_is_no_proxy() {
        for (values, client) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["1.1.1.1, 192.0.2.1"], "192.0.2.1"),
            (&["1.1.1.1, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
            (&["1.1.1.1", "192.0.2.1,10.1.1.1 , 10.2.2.2"], "192.0.2.1"),
            (&["garbage, 192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711, 2001:db8:10::1"], "2001:db8::1"),
            (&["::ffff:192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1"),
            // Only proxies: the first of them asks for itself.
            (&["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ] {
            assert_eq!(by_x(values).as_deref(), Ok(client), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_nobody() {
        for values in [
            &["garbage"][..],
            &["192.0.2.1, unknown"],
            &["192.0.2.1, garbage, 10.1.1.1"],
            &["fe80::1%eth0"],
            &["192.0.2.1:"],
            &["192.0.2.1:99999"],
            &["[2001:db8::1"],
            &["2001:db8::1]:80"],
            &["1.2.3"],
            &["\u{ff11}.2.3.4"],
        ] {
            assert_eq!(by_x(values), Err(NoClient::Unreadable), "{values:?}");
        }
        for values in [&[][..], &[""], &[" , "]] {
            assert_eq!(by_x(values), Err(NoClient::Missing), "{values:?}");
        }
        let many = "10.1.1.1,".repeat(500);
        let hops = Hops {
            x_forwarded_for: vec!["192.0.2.1", &many],
            ..Hops::default()
        };
        assert_eq!(trusted().client(&hops), Err(NoClient::TooManyHops));
    }

    #[test]
    fn other_headers_name_it_too() {
        for (value, client) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("by=1.1.1.1;FOR=\"192.0.2.1:80\";proto=https", "192.0.2.1"),
            (
                "for=1.1.1.1, for=\"[2001:db8::7]:80\", for=10.1.1.1",
                "2001:db8::7",
            ),
        ] {
            let hops = Hops {
                forwarded: vec![value],
                ..Hops::default()
            };
            assert_eq!(trusted().client(&hops).unwrap().to_string(), client);
        }
        for value in [
            "for=_hidden",
            "for=unknown",
            "proto=http",
            "for=\"192.0.2.1",
        ] {
            let hops = Hops {
                forwarded: vec![value],
                ..Hops::default()
            };
            assert_eq!(
                trusted().client(&hops),
                Err(NoClient::Unreadable),
                "{value}"
            );
        }
        let real = Hops {
            x_real_ip: vec!["192.0.2.1"],
            ..Hops::default()
        };
        assert_eq!(trusted().client(&real).unwrap().to_string(), "192.0.2.1");
    }

    #[test]
    fn headers_that_disagree_name_nobody() {
        let two = |first, second| {
            let hops = Hops {
                x_forwarded_for: vec![first],
                x_real_ip: vec![second],
                ..Hops::default()
            };
            trusted().client(&hops).map(|client| client.to_string())
        };
        assert_eq!(two("192.0.2.1", "192.0.2.2"), Err(NoClient::Disagreement));
        assert_eq!(two("192.0.2.1", "192.0.2.1").unwrap(), "192.0.2.1");
        // A proxy in front names the proxy before it.
        assert_eq!(two("192.0.2.1, 10.1.1.1", "10.1.1.1").unwrap(), "192.0.2.1");
    }

    #[test]
    fn who_the_proxy_was_connected_to_is_the_last_hop() {
        let hops = |header, last: &str| Hops {
            x_forwarded_for: header,
            last: Some(last.parse().unwrap()),
            ..Hops::default()
        };
        let client = |hops| trusted().client(&hops).map(|client| client.to_string());
        assert_eq!(
            client(hops(vec!["1.1.1.1"], "192.0.2.1")).unwrap(),
            "192.0.2.1"
        );
        assert_eq!(
            client(hops(vec!["1.1.1.1, 192.0.2.1"], "10.1.1.1")).unwrap(),
            "192.0.2.1"
        );
        assert_eq!(client(hops(vec![], "192.0.2.1")).unwrap(), "192.0.2.1");
    }
}
