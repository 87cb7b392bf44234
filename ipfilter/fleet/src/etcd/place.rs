//! Where a group is: `etcd://HOST[:PORT],…/GROUP`.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use ipfilter_bundle::Group;

/// etcd's port for clients.
const PORT: u16 = 2379;

/// A group of hosts, and the members of the etcd cluster that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The members, as `HOST:PORT`.
    pub(crate) members: Vec<String>,
    /// The group.
    pub(crate) group: Group,
}

/// What a place looks like, for messages.
const FORM: &str = "write `etcd://HOST[:PORT],…/GROUP`, such as `etcd://10.0.0.1,10.0.0.2/web`";

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("etcd://") else {
            return Err(match text.split_once("://") {
                Some((scheme, _)) => {
                    format!("`{scheme}` is not a scheme that a group is at: {FORM}")
                }
                None => format!("this is not where a group is: {FORM}"),
            });
        };
        let Some((members, group)) = rest.split_once('/') else {
            return Err(format!("the group is missing: {FORM}"));
        };
        if members.contains('@') {
            return Err(
                "a user does not belong into the address: give `--user` and `--password-file`"
                    .into(),
            );
        }
        let members = members.split(',').map(member).collect::<Result<_, _>>()?;
        let group = group
            .parse()
            .map_err(|error| format!("`{group}`: {error}"))?;
        Ok(Self { members, group })
    }
}

/// A member as `HOST:PORT`.
fn member(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is not a host: {FORM}");
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (format!("[{host}]"), rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port)),
            None => (text.to_owned(), None),
        },
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let is_name = !host.is_empty() && (host.starts_with('[') || host.chars().all(legal));
    let port = match port {
        None if text.ends_with(']') || !text.starts_with('[') => PORT,
        None => return Err(wrong()),
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| format!("`{port}` is not a port: {FORM}"))?,
    };
    if is_name {
        Ok(format!("{host}:{port}"))
    } else {
        Err(wrong())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}/{}", self.members.join(","), self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_and_group_are_read() {
        let place: Place = "etcd://a,b:1,[::1],[2001:db8::1]:7/web-1".parse().unwrap();
        assert_eq!(
            place.members,
            ["a:2379", "b:1", "[::1]:2379", "[2001:db8::1]:7"]
        );
        assert_eq!(place.group.as_str(), "web-1");
    }

    #[test]
    fn what_is_no_place_is_refused_in_a_sentence() {
        for (text, said) in [
            ("http://a/web", "`http` is not a scheme"),
            ("a/web", "not where a group is"),
            ("etcd://a", "the group is missing"),
            ("etcd:///web", "`` is not a host"),
            ("etcd://a,/web", "`` is not a host"),
            ("etcd://a:0/web", "`0` is not a port"),
            ("etcd://a:x/web", "`x` is not a port"),
            ("etcd://[::1/web", "is not a host"),
            ("etcd://u@a/web", "--user"),
            ("etcd://a b/web", "is not a host"),
            ("etcd://a/", "a group's name is"),
            ("etcd://a/web/x", "a group's name is"),
            ("etcd://a/../x", "a group's name is"),
        ] {
            let error = text.parse::<Place>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
