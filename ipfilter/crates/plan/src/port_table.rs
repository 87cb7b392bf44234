//! Which API a destination port is.

use std::ops::RangeInclusive;

use super::{Api, Protocol};

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
