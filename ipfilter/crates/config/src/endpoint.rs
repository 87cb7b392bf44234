//! Where something is served to local programs: a TCP port or a Unix socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// Where something is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Endpoint {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system ("unix(7)").
    Unix(PathBuf),
}

/// What a Unix socket's path comes after.
const UNIX: &str = "unix:";

impl Endpoint {
    /// Whether programs of other hosts may reach it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }

    /// The same, with a path that is relative taken from `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            Self::Tcp(address) => Self::Tcp(address),
            Self::Unix(path) => Self::Unix(folder.join(path)),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    /// `ADDRESS:PORT`, a port alone, which is one of 127.0.0.1, or `unix:` and a path.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path {
                "" => Err("`unix:` must be followed by a path".into()),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let port = || Some(SocketAddr::new(loopback, text.parse().ok()?));
        let address = text.parse().ok().or_else(port);
        let told = || {
            format!("`{text}` is not `ADDRESS:PORT`, such as `127.0.0.1:9477`, nor `unix:/path`")
        };
        address
            .filter(|address| address.port() != 0)
            .map(Self::Tcp)
            .ok_or_else(told)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_the_loopbacks() {
        for (text, told, exposed) in [
            ("9477", "127.0.0.1:9477", false),
            ("127.8.0.1:80", "127.8.0.1:80", false),
            ("[::1]:80", "[::1]:80", false),
            ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80", false),
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("[::]:80", "[::]:80", true),
            ("192.0.2.1:80", "192.0.2.1:80", true),
            ("unix:/run/metrics", "unix:/run/metrics", false),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), told);
            assert_eq!(endpoint.is_exposed(), exposed, "{text}");
        }
        for text in [
            "",
            "unix:",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "0",
            "70000",
            "::1",
        ] {
            let refused = text.parse::<Endpoint>();
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
    }
}
