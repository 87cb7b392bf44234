//! Which API a destination port is.

use std::ops::RangeInclusive;

use ipfilter_ebpf::abi::{deny, port_entry};

use super::{Api, Protocol, Share};

/// Ports there are, with port 0, which is never an API's.
const PORTS: usize = 1 << 16;

/// One protocol's ports: 0 where there is no API, else the API's index plus one.
pub type Ports = [u8; PORTS];

/// Which API each destination port is, for each protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTable {
    /// By TCP port.
    pub tcp: Box<Ports>,
    /// By UDP port.
    pub udp: Box<Ports>,
}

impl PortTable {
    /// The table of `apis`, at most 64, whose ports are disjoint.
    pub(super) fn of(apis: &[Api]) -> Self {
        let mut table = Self {
            tcp: Box::new([0; PORTS]),
            udp: Box::new([0; PORTS]),
        };
        for (number, api) in (1..).zip(apis) {
            for protocol in api.protocols.iter() {
                for range in api.ports.ranges() {
                    table.fill(protocol, range, number);
                }
            }
        }
        table
    }

    /// The index of the API that `port` is, if it is one.
    #[must_use]
    pub fn api(&self, protocol: Protocol, port: u16) -> Option<usize> {
        let number = match protocol {
            Protocol::Tcp => self.tcp.get(usize::from(port)),
            Protocol::Udp => self.udp.get(usize::from(port)),
        };
        usize::from(*number?).checked_sub(1)
    }

    /// As the programs have it: in network byte order as the machine reads it, and with a mark at the ports of
    /// those of `apis` that do not just discard each denied packet.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the mark has one byte")]
    pub fn to_abi(&self, apis: &[Api]) -> Vec<u8> {
        let mut table = vec![0; 2 * PORTS];
        for (ports, entries) in [&self.tcp, &self.udp]
            .into_iter()
            .zip(table.chunks_mut(PORTS))
        {
            for (port, number) in (0..=u16::MAX)
                .zip(ports.iter())
                .filter(|(_, number)| **number > 0)
            {
                let api = apis.get(usize::from(*number) - 1);
                let acts = api.is_some_and(|api| {
                    api.deny_action() != deny::DROP || api.enforce != Share::ALL
                });
                let mark = if acts { port_entry::ACTS as u8 } else { 0 };
                if let Some(entry) = entries.get_mut(usize::from(port.to_be())) {
                    *entry = (number - 1) | port_entry::TAKEN as u8 | mark;
                }
            }
        }
        table
    }

    fn fill(&mut self, protocol: Protocol, range: RangeInclusive<u16>, number: u8) {
        let ports = match protocol {
            Protocol::Tcp => &mut self.tcp,
            Protocol::Udp => &mut self.udp,
        };
        let range = usize::from(*range.start())..=usize::from(*range.end());
        if let Some(ports) = ports.get_mut(range) {
            ports.fill(number);
        }
    }
}
