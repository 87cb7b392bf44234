//! What `status --check` prints.

use std::{fmt, net::IpAddr};

use serde::Serialize;

use crate::{
    exposure::{Finding, Kind},
    plan::PortSet,
};

/// What can't be found, and must not be taken for covered.
const UNSEEN: [&str; 3] = [
    "ports that NAT rules forward to containers or other hosts, but for those that a `docker-proxy` \
     shows",
    "sockets of other network namespaces, such as containers' own",
    "programs that take packets past the network stack (AF_XDP, DPDK, packet sockets)",
];

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Exposure {
    findings: Vec<FindingView>,
    /// What was not looked at.
    unseen: [&'static str; 3],
}

#[derive(Clone, Debug, Serialize)]
struct FindingView {
    kind: &'static str,
    api: String,
    protocol: String,
    ports: PortSet,
    interface: Option<String>,
    address: Option<IpAddr>,
    message: String,
}

impl Exposure {
    /// Of these findings.
    #[must_use]
    pub fn new(findings: Vec<Finding>) -> Self {
        Self {
            findings: findings.into_iter().map(FindingView::new).collect(),
            unseen: UNSEEN,
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

impl FindingView {
    fn new(finding: Finding) -> Self {
        let message = message(&finding);
        let (kind, interface, address) = match finding.kind {
            Kind::Unused => ("no_listener", None, None),
            Kind::Interface(name) => ("interface", Some(name), None),
            Kind::Address(address) => ("address", None, Some(address)),
            Kind::Published(_) => ("published", None, None),
        };
        Self {
            kind,
            api: finding.api,
            protocol: finding.protocol.to_string(),
            ports: finding.ports,
            interface,
            address,
            message,
        }
    }
}

fn message(finding: &Finding) -> String {
    let Finding {
        api,
        protocol,
        ports,
        kind,
    } = finding;
    let many = ports.iter().nth(1).is_some();
    let port = format!("{protocol} port{} {ports}", if many { "s" } else { "" });
    match kind {
        Kind::Unused => format!(
            "nobody listens on {port} of `{api}` here: is it another port, or a container's?"
        ),
        Kind::Interface(name) => format!(
            "{port} of `{api}` can be reached through `{name}`, which has no filter: add \
             `--interface {name}`, or bind the API to addresses that nobody reaches that way"
        ),
        Kind::Address(address) => format!(
            "{port} of `{api}` can be reached at {address}, which is not protected: add \
             `--address {address}`, or leave out `--address`"
        ),
        Kind::Published(other) => format!(
            "{port} of this host, published for a container of `{api}` (port {other}), {} not filtered: \
             add `--port {ports}`, or do not publish it",
            if many { "are" } else { "is" }
        ),
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if self.is_clean() {
            writeln!(
                f,
                "check       nothing is open or unused, as far as can be seen"
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "check       {}", finding.message)?;
        }
        for what in self.unseen {
            writeln!(f, "not checked {what}")?;
        }
        Ok(())
    }
}
