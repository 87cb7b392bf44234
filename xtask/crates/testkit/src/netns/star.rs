//! A network of many machines around one router.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, bail};

use super::{Namespace, Network};

/// Machines that reach each other through a router in the middle, over IPv4.
#[derive(Debug)]
pub struct Star {
    /// The router.
    pub hub: Namespace,
    count: u8,
    network: Network,
}

/// A machine of a [`Star`]; its interface is `eth0`.
#[derive(Debug, Clone)]
pub struct Spoke {
    /// The machine.
    pub namespace: Namespace,
    /// Its address.
    pub address: Ipv4Addr,
    /// The hub's end of its link.
    port: String,
    hub: Namespace,
}

impl Star {
    /// A router with nothing around it; `tag` as for [`Network::new`].
    ///
    /// # Errors
    /// As [`Network::new`] and [`Network::add`].
    pub fn new(tag: &str) -> Result<Self> {
        let mut network = Network::new(tag)?;
        let hub = network.add("hub")?;
        hub.forward()?;
        Ok(Self {
            hub,
            count: 0,
            network,
        })
    }

    /// Adds a machine with an address in a network of its own, and more addresses that the hub sends its way.
    ///
    /// # Errors
    /// When the system refuses it, or there are 250 already.
    pub fn add(&mut self, role: &str, more: &[Ipv4Addr]) -> Result<Spoke> {
        if self.count >= 250 {
            bail!("a star has at most 250 machines");
        }
        self.count += 1;
        let number = self.count;
        let namespace = self.network.add(role)?;
        let (address, gateway) = (
            Ipv4Addr::new(10, 77, number, 2),
            Ipv4Addr::new(10, 77, number, 1),
        );
        let port = format!("port{number}");
        self.network.link(
            (&namespace, "eth0", &[&format!("{address}/24")]),
            (&self.hub, &port, &[&format!("{gateway}/24")]),
        )?;
        namespace.default_routes(&[&gateway.to_string()])?;
        let spoke = Spoke {
            namespace,
            address,
            port,
            hub: self.hub.clone(),
        };
        for extra in more {
            let extra = format!("{extra}/32");
            spoke.namespace.ip(["addr", "add", &extra, "dev", "eth0"])?;
            spoke.route(&extra)?;
        }
        Ok(spoke)
    }
}

impl Spoke {
    fn route(&self, to: &str) -> Result<()> {
        let via = self.address.to_string();
        self.hub
            .ip(["route", "add", to, "via", &via, "dev", &self.port])?;
        Ok(())
    }

    /// Cuts it off: what it sends and what is sent to it is lost, and nobody is told.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn cut(&self) -> Result<()> {
        self.rule("add").context("can't cut a machine off")
    }

    /// Ends that.
    ///
    /// # Errors
    /// When it was not cut off.
    pub fn join(&self) -> Result<()> {
        self.rule("del").context("can't join a machine again")
    }

    /// The hub drops what comes from the machine, and what goes to its address.
    fn rule(&self, verb: &str) -> Result<()> {
        let to = self.address.to_string();
        self.hub
            .ip(["rule", verb, "iif", &self.port, "blackhole"])?;
        self.hub.ip(["rule", verb, "to", &to, "blackhole"])?;
        Ok(())
    }
}
