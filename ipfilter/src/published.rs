//! The ports that Docker publishes for containers, as far as its proxies show them.
//!
//! Docker starts a `docker-proxy` for each published port, unless its setting `userland-proxy` is off, and
//! says on its command line what it forwards. NAT rules, by which most of the packets go, are not read.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::plan::Protocol;

/// A port of this host behind which a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address, or the unspecified one, and port.
    pub host: SocketAddr,
    /// The container's address and port.
    pub container: SocketAddr,
}

/// What the proxies in this network namespace publish.
#[must_use]
pub fn published() -> Vec<Published> {
    let namespace = |process: &Path| fs::metadata(process.join("ns/net")).map(|file| file.ino());
    let Ok(own) = namespace(Path::new("/proc/thread-self")) else {
        return Vec::new();
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut published = Vec::new();
    for process in processes.map(|process| process.path()) {
        let Ok(line) = fs::read(process.join("cmdline")) else {
            continue;
        };
        if let Some(found) = parse(&line)
            && namespace(&process).is_ok_and(|other| other == own)
        {
            published.push(found);
        }
    }
    published
}

/// What a process with this command line publishes, if it is a proxy of Docker's.
fn parse(line: &[u8]) -> Option<Published> {
    let mut words = line.split(|byte| *byte == 0).map(str::from_utf8);
    let program = words.next()?.ok()?;
    if Path::new(program).file_name()? != "docker-proxy" {
        return None;
    }
    let words: Vec<&str> = words.collect::<Result<_, _>>().ok()?;
    let value = |option: &str| {
        let at = words
            .iter()
            .position(|word| word.trim_start_matches('-') == option)?;
        words.get(at + 1).copied()
    };
    let end = |address: &str, port: &str| {
        let address: IpAddr = value(address)?.parse().ok()?;
        Some(SocketAddr::new(address, value(port)?.parse().ok()?))
    };
    Some(Published {
        protocol: match value("proto")? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        host: end("host-ip", "host-port")?,
        container: end("container-ip", "container-port")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_says_on_its_command_line_what_it_forwards() {
        let line = |words: &str| words.replace(' ', "\0").into_bytes();
        let proxy = "/usr/bin/docker-proxy -proto tcp -host-ip :: -host-port 8443 -container-ip \
                     172.17.0.2 -container-port 443 -use-listen-fd ";
        assert_eq!(
            parse(&line(proxy)),
            Some(Published {
                protocol: Protocol::Tcp,
                host: "[::]:8443".parse().unwrap(),
                container: "172.17.0.2:443".parse().unwrap(),
            })
        );
        for other in [
            "",
            "docker-proxy",
            "/usr/bin/vi docker-proxy -proto tcp",
            "docker-proxy -proto sctp -host-ip :: -host-port 1 -container-ip ::1 -container-port 1",
            "docker-proxy -proto tcp -host-ip :: -host-port 70000 -container-ip ::1 -container-port 1",
        ] {
            assert_eq!(parse(&line(other)), None, "{other}");
        }
    }
}
