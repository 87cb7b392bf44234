//! What a deployment leaves open, or protects in vain: its plan compared with who listens on this host,
//! and with the ways in. No IO.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    kernel::{Interface, Listener},
    plan::{Plan, PortSet, PortTable, Protocol},
    published::Published,
};

/// What there is on this host.
#[derive(Debug, Default)]
pub struct Host {
    /// The sockets that listen.
    pub listeners: Vec<Listener>,
    /// The interfaces by which packets come in that no filter sees.
    pub unfiltered: Vec<Interface>,
    /// The addresses that others can send to.
    pub addresses: Vec<IpAddr>,
    /// The ports that are published for containers.
    pub published: Vec<Published>,
}

/// Something that an operator would not expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The API's name.
    pub api: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports of the host's that it is about.
    pub ports: PortSet,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of findings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nobody listens.
    Unused,
    /// Open to whoever comes in by this interface.
    Interface(String),
    /// Open to whoever sends to this address.
    Address(IpAddr),
    /// No API's port, but the container behind it is the one that the API's port leads to, or has the
    /// API's port as its own.
    Published(u16),
}

/// Everything that is found.
#[must_use]
pub fn findings(plan: &Plan, host: &Host) -> Vec<Finding> {
    let ports = plan.port_table();
    let mut found = Found::default();
    for listener in &host.listeners {
        let Some(api) = ports.api(listener.protocol, listener.port) else {
            continue;
        };
        for kind in open(plan, host, listener) {
            found.add(api, listener.protocol, kind, listener.port);
        }
    }
    for (api, is) in plan.apis.iter().enumerate() {
        for protocol in is.protocols.iter() {
            let unused = is
                .ports
                .iter()
                .filter(|port| !is_used(host, protocol, *port));
            unused.for_each(|port| found.add(api, protocol, Kind::Unused, port));
        }
    }
    for (api, published, port) in beside(plan, &ports, host) {
        found.add(
            api,
            published.protocol,
            Kind::Published(port),
            published.host.port(),
        );
    }
    found.into_findings(plan)
}

/// The ways past the filter to one who listens at an API's port.
fn open<'a>(
    plan: &'a Plan,
    host: &'a Host,
    listener: &'a Listener,
) -> impl Iterator<Item = Kind> + 'a {
    let is_outside = !listener.address.is_loopback();
    let interfaces = host.unfiltered.iter().filter(move |interface| {
        // Linux takes in packets to any of its addresses at any interface.
        is_outside
            && listener
                .interface
                .is_none_or(|only| only == interface.index)
    });
    let addresses = host.addresses.iter().filter(move |address| {
        is_outside
            && !plan.addresses.is_empty()
            && !plan.addresses.contains(address)
            && listener.is_reached_at(**address)
    });
    let interfaces = interfaces.map(|interface| Kind::Interface(interface.name.clone()));
    interfaces.chain(addresses.map(|address| Kind::Address(*address)))
}

/// Whether somebody listens who can be reached from outside.
fn is_used(host: &Host, protocol: Protocol, port: u16) -> bool {
    let mut listeners = host.listeners.iter();
    listeners.any(|listener| {
        listener.protocol == protocol && listener.port == port && !listener.address.is_loopback()
    })
}

/// Ports that are published for an API's container, and are no API's: each with the API, and the API's
/// port that leads to the same container or is the container's own.
fn beside<'a>(
    plan: &'a Plan,
    ports: &'a PortTable,
    host: &'a Host,
) -> impl Iterator<Item = (usize, &'a Published, u16)> {
    let outside = host
        .published
        .iter()
        .filter(|published| !published.host.ip().is_loopback());
    let open = outside
        .clone()
        .filter(|it| ports.api(it.protocol, it.host.port()).is_none());
    open.filter_map(move |open| {
        let same = outside.clone().find_map(|other| {
            let is_same = (other.protocol, other.container) == (open.protocol, open.container);
            let api = ports.api(other.protocol, other.host.port());
            api.filter(|_| is_same).map(|api| (api, other.host.port()))
        });
        let own = open.container.port();
        // It was taken for the host's.
        let mistaken = ports
            .api(open.protocol, own)
            .filter(|_| !is_used(host, open.protocol, own));
        let (api, port) = same.or(mistaken.map(|api| (api, own)))?;
        (api < plan.apis.len()).then_some((api, open, port))
    })
}

/// Ports by what was found.
#[derive(Default)]
struct Found(BTreeMap<(usize, Kind, bool), PortSet>);

impl Found {
    fn add(&mut self, api: usize, protocol: Protocol, kind: Kind, port: u16) {
        let Some(port) = PortSet::from_range(port..=port) else {
            return;
        };
        let key = (api, kind, protocol == Protocol::Udp);
        let ports = self.0.entry(key).or_insert_with(|| port.clone());
        *ports = ports.union(&port);
    }

    fn into_findings(self, plan: &Plan) -> Vec<Finding> {
        let findings = self.0.into_iter().filter_map(|((api, kind, udp), ports)| {
            Some(Finding {
                api: plan.apis.get(api)?.name.clone(),
                protocol: if udp { Protocol::Udp } else { Protocol::Tcp },
                ports,
                kind,
            })
        });
        findings.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addresses::AddressSet,
        plan::{Api, Deny, Protocols, Response},
    };

    fn plan(ports: &str, protocols: Protocols, addresses: &[&str]) -> Plan {
        let api = Api {
            enforce: crate::plan::Share::ALL,
            name: "shop".into(),
            ports: ports.parse().unwrap(),
            protocols,
            deny: Deny::Drop,
            response: Response::default(),
            sources: AddressSet::default(),
        };
        let addresses = addresses.iter().map(|text| text.parse().unwrap());
        Plan::new(vec![api], addresses.collect()).unwrap()
    }

    fn listener(text: &str) -> Listener {
        let address: std::net::SocketAddr = text.parse().unwrap();
        Listener {
            protocol: Protocol::Tcp,
            address: address.ip(),
            port: address.port(),
            interface: None,
            only_v6: false,
        }
    }

    fn interface(index: u32, name: &str) -> Interface {
        Interface {
            name: name.into(),
            index,
        }
    }

    fn published(host: &str, container: &str) -> Published {
        Published {
            protocol: Protocol::Tcp,
            host: host.parse().unwrap(),
            container: container.parse().unwrap(),
        }
    }

    fn found(plan: &Plan, host: &Host) -> Vec<String> {
        let findings = findings(plan, host).into_iter();
        findings
            .map(|it| format!("{} {} {:?}", it.protocol, it.ports, it.kind))
            .collect()
    }

    #[test]
    fn nothing_is_found_where_all_is_covered() {
        let host = Host {
            listeners: vec![
                listener("0.0.0.0:80"),
                listener("[::]:443"),
                listener("[::]:22"),
            ],
            addresses: vec!["192.0.2.2".parse().unwrap()],
            ..Host::default()
        };
        assert!(found(&plan("80,443", Protocols::TCP, &[]), &host).is_empty());
        let protected = plan("80,443", Protocols::TCP, &["192.0.2.2"]);
        assert!(found(&protected, &host).is_empty());
    }

    #[test]
    fn ports_that_nobody_can_be_reached_at_are_found() {
        let host = Host {
            listeners: vec![listener("0.0.0.0:80"), listener("127.0.0.1:81")],
            ..Host::default()
        };
        assert_eq!(
            found(&plan("80-84", Protocols::BOTH, &[]), &host),
            ["TCP 81-84 Unused", "UDP 80-84 Unused"]
        );
    }

    #[test]
    fn interfaces_without_a_filter_are_ways_in() {
        let mut only = listener("0.0.0.0:443");
        only.interface = Some(2);
        let host = Host {
            listeners: vec![listener("192.0.2.2:80"), listener("127.0.0.1:80"), only],
            unfiltered: vec![interface(2, "eth1"), interface(3, "docker0")],
            ..Host::default()
        };
        assert_eq!(
            found(&plan("80,443", Protocols::TCP, &[]), &host),
            [
                "TCP 80 Interface(\"docker0\")",
                "TCP 80,443 Interface(\"eth1\")"
            ]
        );
    }

    #[test]
    fn addresses_that_are_not_protected_are_ways_in() {
        let [v4, other, v6] = ["192.0.2.2", "192.0.2.3", "2001:db8::2"];
        let addresses = [v4, other, v6].map(|text| text.parse().unwrap());
        let host = |text| Host {
            listeners: vec![listener(text)],
            addresses: addresses.into(),
            ..Host::default()
        };
        let plan = plan("80", Protocols::TCP, &[v4]);
        assert!(found(&plan, &host("192.0.2.2:80")).is_empty());
        assert_eq!(
            found(&plan, &host("0.0.0.0:80")),
            ["TCP 80 Address(192.0.2.3)"]
        );
        assert_eq!(
            found(&plan, &host("[::]:80")),
            ["TCP 80 Address(192.0.2.3)", "TCP 80 Address(2001:db8::2)"]
        );
    }

    #[test]
    fn a_container_that_is_published_past_the_filter_is_found() {
        let host = Host {
            listeners: vec![listener("0.0.0.0:443"), listener("0.0.0.0:8443")],
            published: vec![
                published("0.0.0.0:443", "172.17.0.2:8080"),
                published("0.0.0.0:8443", "172.17.0.2:8080"),
                published("127.0.0.1:8444", "172.17.0.2:8080"),
                published("0.0.0.0:9000", "172.17.0.3:443"),
            ],
            ..Host::default()
        };
        assert_eq!(
            found(&plan("443", Protocols::TCP, &[]), &host),
            ["TCP 8443 Published(443)"]
        );
        // The container's port where the host's was meant.
        assert_eq!(
            found(&plan("8080", Protocols::TCP, &[]), &host),
            ["TCP 8080 Unused", "TCP 443,8443 Published(8080)"]
        );
    }
}
