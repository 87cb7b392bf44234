//! Who is at this host from elsewhere: a filter must not cut off the session that sets it up.

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
    process,
};

use log::warn;
use serde::{Deserialize, Serialize};

use crate::kernel::{Connection, connections};

/// Where logins are recorded ("utmp(5)").
const UTMP: &str = "/run/utmp";

/// The most processes between this one and the login.
const ANCESTORS: usize = 64;

/// Somebody who is logged in from another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Their address.
    pub from: IpAddr,
    /// The address and port of this host that they use, where that is known.
    pub at: Option<SocketAddr>,
    /// How that is known, for people.
    pub known_by: String,
}

/// The sessions that this process belongs to or that the login records name, each address once.
#[must_use]
pub fn all() -> Vec<Session> {
    let own = own();
    let recorded = fs::read(UTMP).unwrap_or_default();
    let recorded = logins(&recorded, RECORD).map(|login| login.session(None));
    let mut seen = HashSet::new();
    let all = own.into_iter().chain(recorded);
    all.filter(|session| seen.insert(session.from)).collect()
}

/// [`guarded`], unless the operator forces it.
#[must_use]
pub fn guarded_unless(force: bool) -> Vec<Session> {
    if force { Vec::new() } else { guarded() }
}

/// The sessions whose port is known: a plan may cut them off. Of a login record it is the port of the
/// connection that its process holds.
#[must_use]
pub fn guarded() -> Vec<Session> {
    let recorded = fs::read(UTMP).unwrap_or_default();
    let logins: Vec<Login> = logins(&recorded, RECORD).collect();
    let connections = if logins.is_empty() {
        Vec::new()
    } else {
        connections().unwrap_or_else(|error| {
            warn!("it is not known whether this cuts off somebody who is logged in: {error}");
            Vec::new()
        })
    };
    let recorded = logins.into_iter().filter_map(|login| {
        let at = local_end(login.pid, login.from, &connections)
            .or_else(|| only_end(&login, &connections))?;
        Some(login.session(Some(at)))
    });
    let mut seen = HashSet::new();
    let all = own().into_iter().chain(recorded);
    all.filter(|session| seen.insert((session.from, session.at)))
        .collect()
}

/// Our end of the connection from an address that a process holds, or one that it descends from.
fn local_end(pid: u32, from: IpAddr, connections: &[Connection]) -> Option<SocketAddr> {
    let mut pid = Some(pid);
    for _ in 0..ANCESTORS {
        let folder = Path::new("/proc").join(pid.filter(|pid| *pid > 1)?.to_string());
        let held = sockets(&folder);
        let mut connections = connections.iter();
        let found = connections.find(|connection| {
            connection.peer().ip() == from && held.contains(&connection.inode())
        });
        if let Some(found) = found {
            return Some(found.local());
        }
        pid = parent(&fs::read_to_string(folder.join("stat")).ok()?);
    }
    None
}

/// Our end of a login whose process can't be looked into, as from a hardened service: where all that its
/// address is connected to is one port, that is it.
fn only_end(login: &Login, connections: &[Connection]) -> Option<SocketAddr> {
    let descriptors = Path::new("/proc").join(login.pid.to_string()).join("fd");
    if fs::read_dir(descriptors).is_ok() {
        return None;
    }
    let mut theirs = connections
        .iter()
        .filter(|connection| connection.peer().ip() == login.from);
    let at = theirs.next()?.local();
    theirs
        .all(|other| other.local().port() == at.port())
        .then_some(at)
}

/// The inodes of the sockets that a process holds ("proc_pid_fd(5)").
fn sockets(folder: &Path) -> HashSet<u32> {
    let entries = fs::read_dir(folder.join("fd"));
    let links = entries.into_iter().flatten().flatten();
    let targets = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let inodes = targets.filter_map(|target| {
        let name = target.to_str()?.strip_prefix("socket:[")?;
        name.strip_suffix(']')?.parse().ok()
    });
    inodes.collect()
}

/// The session that this process belongs to, if it is one from elsewhere. `sudo` clears the environment, so those
/// of the processes that started this one are looked at too.
#[must_use]
pub fn own() -> Option<Session> {
    let mut pid = process::id();
    for _ in 0..ANCESTORS {
        let folder = Path::new("/proc").join(pid.to_string());
        let environment = fs::read(folder.join("environ")).unwrap_or_default();
        if let Some((from, at)) = ssh_connection(&environment) {
            return Some(Session {
                from,
                at: Some(at),
                known_by: "from which this session comes (SSH_CONNECTION)".into(),
            });
        }
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        pid = parent(&stat).filter(|pid| *pid > 1)?;
    }
    None
}

/// The parent in a line of `/proc/PID/stat`: the second field after the name, which is in parentheses
/// and may contain any ("proc_pid_stat(5)").
fn parent(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The client's address, and the server's with its port, in `SSH_CONNECTION` ("ssh(1)"), of an environment as `/proc` shows it.
fn ssh_connection(environment: &[u8]) -> Option<(IpAddr, SocketAddr)> {
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let mut fields = std::str::from_utf8(value).ok()?.split(' ');
    let (client, _) = (fields.next()?, fields.next()?);
    let (server, port) = (fields.next()?, fields.next()?);
    let port = port.parse().ok()?;
    Some((address(client)?, SocketAddr::new(address(server)?, port)))
}

/// An address that may have its interface behind it, and may be IPv4 written as IPv6.
fn address(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

/// Where a login record has what ("utmp(5)"): its size, and the offset of the address.
#[derive(Clone, Copy)]
struct Layout {
    size: usize,
    address: usize,
}

/// That of glibc: with 32-bit times where programs of the 32-bit sibling share the file.
const RECORD: Layout = if cfg!(any(target_arch = "x86_64", target_arch = "powerpc64")) {
    Layout {
        size: 384,
        address: 348,
    }
} else {
    Layout {
        size: 400,
        address: 360,
    }
};

/// A user's process (`USER_PROCESS`).
const USER: i16 = 7;

/// A login record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Login {
    pid: u32,
    from: IpAddr,
}

impl Login {
    fn session(&self, at: Option<SocketAddr>) -> Session {
        Session {
            from: self.from,
            at,
            known_by: "from which somebody is logged in (who(1))".into(),
        }
    }
}

fn logins(records: &[u8], layout: Layout) -> impl Iterator<Item = Login> + '_ {
    let records = records.chunks_exact(layout.size);
    records.filter_map(move |record| {
        let kind = i16::from_ne_bytes(record.get(..2)?.try_into().ok()?);
        let bytes = record.get(layout.address..)?.get(..16)?;
        let bytes: [u8; 16] = bytes.try_into().ok()?;
        let pid = i32::from_ne_bytes(record.get(4..8)?.try_into().ok()?);
        (kind == USER).then_some(())?;
        Some(Login {
            pid: pid.try_into().ok()?,
            from: recorded_address(bytes)?,
        })
    })
}

/// The address of a record: IPv4 is in the first four bytes, and zeros are none.
fn recorded_address(bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, rest @ ..] = bytes;
    let address = if rest == [0; 12] {
        IpAddr::from([a, b, c, d])
    } else {
        Ipv6Addr::from(bytes).to_canonical()
    };
    (!address.is_unspecified() && !address.is_loopback()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_address_is_found_among_other_variables() {
        let found = |text: &str| ssh_connection(text.as_bytes()).map(|(from, _)| from.to_string());
        for (environment, address) in [
            (
                "A=b\0SSH_CONNECTION=203.0.113.7 51234 192.0.2.1 22\0",
                Some("203.0.113.7"),
            ),
            (
                "SSH_CONNECTION=fe80::1%eth0 1 fe80::2%eth0 22",
                Some("fe80::1"),
            ),
            (
                "SSH_CONNECTION=::ffff:203.0.113.7 1 ::1 22",
                Some("203.0.113.7"),
            ),
            ("XSSH_CONNECTION=203.0.113.7 1 2 3", None),
            ("SSH_CONNECTION=", None),
            ("", None),
        ] {
            assert_eq!(found(environment).as_deref(), address, "{environment}");
        }
    }

    #[test]
    fn a_process_of_any_name_has_a_parent() {
        assert_eq!(parent("12 (a) b) c) S 7 12 12 0"), Some(7));
        assert_eq!(parent("12"), None);
    }

    #[test]
    fn logins_from_elsewhere_are_found_in_records() {
        let mut records = Vec::new();
        for (kind, address) in [
            (USER, "203.0.113.7"),
            (8, "203.0.113.8"),
            (USER, "0.0.0.0"),
            (USER, "2001:db8::7"),
        ] {
            let mut record = vec![0; RECORD.size];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[4..8].copy_from_slice(&77_i32.to_ne_bytes());
            let bytes = match address.parse().unwrap() {
                IpAddr::V4(address) => address.octets().to_vec(),
                IpAddr::V6(address) => address.octets().to_vec(),
            };
            record[RECORD.address..][..bytes.len()].copy_from_slice(&bytes);
            records.extend(record);
        }
        records.truncate(records.len() - 1);
        let found: Vec<_> = logins(&records, RECORD)
            .map(|one| format!("{} of {}", one.from, one.pid))
            .collect();
        assert_eq!(found, ["203.0.113.7 of 77"], "half a record is none");
        records.push(0);
        let found: Vec<_> = logins(&records, RECORD)
            .map(|one| format!("{} of {}", one.from, one.pid))
            .collect();
        assert_eq!(found, ["203.0.113.7 of 77", "2001:db8::7 of 77"]);
    }

    /// The connection of a login is that of its process, or of one that this descends from, and not any
    /// connection from the same address.
    #[test]
    fn the_port_of_a_login_is_that_of_its_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(at).unwrap();
        let _served = listener.accept().unwrap();
        let connections = connections().unwrap();
        let from = at.ip();
        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let ours = |connection: &&Connection| connection.local() == at;
        let ours: Vec<_> = connections.iter().filter(ours).cloned().collect();
        assert_eq!(local_end(child.id(), from, &ours), Some(at));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(local_end(process::id(), from, &ours), Some(at));
        assert_eq!(
            local_end(process::id(), "192.0.2.9".parse().unwrap(), &ours),
            None
        );
        assert_eq!(local_end(1, from, &connections), None);
    }
}
