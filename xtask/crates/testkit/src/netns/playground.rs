//! The network of the demonstration and of the live tests: one host behind one interface, clients
//! in different networks.

use anyhow::Result;

use super::{Namespace, Network};

/// The addresses of one machine of the playground, one per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4, from the documentation ranges of RFC 5737.
    pub v4: &'static str,
    /// IPv6, from the documentation range of RFC 3849.
    pub v6: &'static str,
}

/// The host that the filter protects; its interface is `eth0`.
pub const HOST: Addresses = Addresses {
    v4: "192.0.2.2",
    v6: "2001:db8:2::2",
};

/// The router's end of the host's link.
pub const ROUTER: Addresses = Addresses {
    v4: "192.0.2.1",
    v6: "2001:db8:2::1",
};

/// The client in networks that the example policies allow: 198.51.100.0/24 and 2001:db8:100::/48.
pub const ALLOWED: Addresses = Addresses {
    v4: "198.51.100.10",
    v6: "2001:db8:100::10",
};

/// The client in networks that they deny: 203.0.113.0/24 and 2001:db8:113::/48.
pub const DENIED: Addresses = Addresses {
    v4: "203.0.113.10",
    v6: "2001:db8:113::10",
};

/// A host, a router and two clients:
///
/// ```text
///                                    ┌─ eth1 ── eth0 allowed  198.51.100.10, 2001:db8:100::10
/// host eth0 ──────────── eth0 router ┤
/// 192.0.2.2, 2001:db8:2::2           └─ eth2 ── eth0 denied   203.0.113.10, 2001:db8:113::10
/// ```
///
/// All prefixes are /24 and /48. One interface of the host thus sees both networks, as a server's
/// does.
#[derive(Debug)]
pub struct Playground {
    /// Where the protected API runs.
    pub host: Namespace,
    /// What joins the networks.
    pub router: Namespace,
    /// The client that may call.
    pub allowed: Namespace,
    /// The client that may not.
    pub denied: Namespace,
    /// The network itself; dropped last, it removes them all.
    pub network: Network,
}

impl Playground {
    /// Builds it; `tag` as for [`Network::new`].
    ///
    /// # Errors
    /// As [`Network::new`] and [`Network::add`].
    pub fn new(tag: &str) -> Result<Self> {
        let mut network = Network::new(tag)?;
        let host = network.add("host")?;
        let router = network.add("router")?;
        let allowed = network.add("allowed")?;
        let denied = network.add("denied")?;

        let uplinks = [
            (&host, "eth0", HOST, ROUTER),
            (
                &allowed,
                "eth1",
                ALLOWED,
                gateway("198.51.100.1", "2001:db8:100::1"),
            ),
            (
                &denied,
                "eth2",
                DENIED,
                gateway("203.0.113.1", "2001:db8:113::1"),
            ),
        ];
        for (machine, port, own, gateway) in uplinks {
            attach(&network, machine, own, (&router, port, gateway))?;
        }
        router.forward()?;
        Ok(Self {
            host,
            router,
            allowed,
            denied,
            network,
        })
    }
}

const fn gateway(v4: &'static str, v6: &'static str) -> Addresses {
    Addresses { v4, v6 }
}

/// Links a machine's `eth0` to a port of the router, which becomes its gateway.
fn attach(
    network: &Network,
    machine: &Namespace,
    own: Addresses,
    (router, port, gateway): (&Namespace, &str, Addresses),
) -> Result<()> {
    let [own4, gateway4] = [own.v4, gateway.v4].map(|address| format!("{address}/24"));
    let [own6, gateway6] = [own.v6, gateway.v6].map(|address| format!("{address}/48"));
    network.link(
        (machine, "eth0", &[&own4, &own6]),
        (router, port, &[&gateway4, &gateway6]),
    )?;
    machine.default_routes(&[gateway.v4, gateway.v6])
}
