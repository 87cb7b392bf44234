//! Ports that this host may also give to its own outgoing connections.
//!
//! A filter that looks at destination ports takes the replies to such a connection for calls of the
//! API. The ranges are those of the network namespace that this process is in (the kernel's
//! "IP Sysctl": `ip_local_port_range`, `ip_local_reserved_ports`).

use std::fs;

use crate::plan::PortSet;

/// What the kernel says of outgoing connections' ports.
struct Outgoing {
    lowest: u16,
    highest: u16,
    reserved: Option<PortSet>,
}

/// A warning for every API, given by its name and ports, that shares ports with this host's own connections. None where the
/// kernel does not say: then there is nothing to warn about by name.
pub(super) fn warnings<'a>(apis: impl Iterator<Item = (&'a str, PortSet)>) -> Vec<String> {
    let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
    let range = read("ip_local_port_range");
    let outgoing = Outgoing::parse(&range, &read("ip_local_reserved_ports"));
    outgoing.map_or_else(Vec::new, |outgoing| outgoing.warnings(apis))
}

impl Outgoing {
    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut ends = range.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(lowest)), Some(Ok(highest))) = (ends.next(), ends.next()) else {
            return None;
        };
        Some(Self {
            lowest,
            highest,
            reserved: reserved.trim().parse().ok(),
        })
    }

    fn warnings<'a>(&self, apis: impl Iterator<Item = (&'a str, PortSet)>) -> Vec<String> {
        let shared = apis.filter_map(|(name, ports)| {
            let ports = ports.within((self.lowest, self.highest))?;
            let ports = match &self.reserved {
                Some(reserved) => ports.without(reserved)?,
                None => ports,
            };
            Some((name, ports))
        });
        shared
            .map(|(name, ports)| {
                format!(
                    "port {ports} of the API `{name}` is among those that this host gives to its own \
                     connections ({}-{}), whose replies will be filtered too: add {ports} to the \
                     setting net.ipv4.ip_local_reserved_ports",
                    self.lowest, self.highest
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn shared_ports_are_reported_unless_they_are_reserved() {
        let warned = |ports: &str, reserved| {
            let ports = ports.parse().unwrap();
            let outgoing = Outgoing::parse("32768\t60999\n", reserved).unwrap();
            outgoing
                .warnings([("petstore", ports)].into_iter())
                .join("\n")
        };
        assert_eq!(warned("443,8443", "\n"), "");
        assert!(
            warned("443,32000-32769", "\n").starts_with("port 32768-32769 of the API `petstore`")
        );
        assert!(warned("40000-40010", "40001-40009\n").starts_with("port 40000,40010 of"));
        assert_eq!(warned("40000", "40000,50000-50002\n"), "");
        assert!(Outgoing::parse("", "").is_none());
    }
}
