//! Who is connected to an API now, and whether a policy lets them in.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use crate::{
    addresses::{AddressSet, words::count},
    kernel::Connection,
    plan::PortSet,
};

/// How many clients of each kind are listed.
const MOST: usize = 10;

/// Who is connected to some ports now.
#[derive(Debug)]
pub struct Clients {
    ports: String,
    /// Each with its connections and whether it is let in; or why they are not known.
    clients: Result<BTreeMap<IpAddr, (usize, bool)>, String>,
    /// The addresses of sessions that would be cut off.
    cut_off: Vec<IpAddr>,
}

impl Clients {
    /// Those of `connections` that are to `ports` and from elsewhere.
    #[must_use]
    pub fn new(
        ports: &PortSet,
        allowed: &AddressSet,
        connections: Result<Vec<Connection>, String>,
        cut_off: Vec<IpAddr>,
    ) -> Self {
        let clients = connections.map(|connections| {
            let mut clients = BTreeMap::new();
            for connection in connections {
                let (at, peer) = (connection.local(), connection.peer().ip());
                // What the host sends to itself meets no filter.
                if ports.contains(at.port()) && !peer.is_loopback() && peer != at.ip() {
                    let client = clients.entry(peer).or_insert((0, allowed.contains(peer)));
                    client.0 += 1;
                }
            }
            clients
        });
        Self {
            ports: ports.to_string(),
            clients,
            cut_off,
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = match &self.clients {
            Ok(clients) if clients.is_empty() => {
                writeln!(f, "nobody is connected to port {} now", self.ports)?;
                return self.warn(f);
            }
            Ok(clients) => clients,
            Err(error) => {
                writeln!(
                    f,
                    "who is connected to port {} is not known: {error}",
                    self.ports
                )?;
                return self.warn(f);
            }
        };
        writeln!(f, "connected to port {} now:", self.ports)?;
        for is_let_in in [false, true] {
            let verdict = if is_let_in { "may call" } else { "denied" };
            let alike = || clients.iter().filter(|(_, (_, own))| *own == is_let_in);
            for (address, (connections, _)) in alike().take(MOST) {
                let connections = count(*connections, "connection", "connections");
                writeln!(f, "  {verdict:<8}  {address}  ({connections})")?;
            }
            match alike().count().saturating_sub(MOST) {
                0 => {}
                more => writeln!(f, "  {verdict:<8}  {more} more")?,
            }
        }
        self.warn(f)
    }
}

impl Clients {
    fn warn(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cut_off.iter().try_for_each(|from| {
            writeln!(
                f,
                "warning: this would cut off {from}, from which somebody is logged in through this port"
            )
        })
    }
}
