//! One protected service.

use std::{fmt, net::IpAddr};

use ipfilter_ebpf::abi;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{PortSet, Response, Share};
use ipfilter_addresses::AddressSet;

/// One protected service: a name, its ports, who may pass, and what happens to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// What operators call it; unique within a plan.
    pub name: String,
    /// The destination ports that are this API's.
    pub ports: PortSet,
    /// The protocols for which they are.
    pub protocols: Protocols,
    /// What happens to a packet from a source that may not pass.
    pub deny: Deny,
    /// The share of such sources whose packets do not pass all the same; those of the others are only counted and
    /// reported.
    pub enforce: Share,
    /// What [`Deny::Respond`] says.
    pub response: Response,
    /// The sources that may pass.
    pub sources: AddressSet,
}

impl Api {
    /// What tells it from other APIs in every deployment, by its name alone.
    #[must_use]
    pub fn id(&self) -> u32 {
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(&self.name).into();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether a packet from this source does not pass if the source may not call.
    #[must_use]
    pub fn enforces(&self, source: IpAddr) -> bool {
        self.enforce.has(self.id(), source)
    }

    /// What the programs do with a packet from a source that may not pass, as [`abi::deny`] has it.
    #[must_use]
    pub fn deny_action(&self) -> u8 {
        match self.deny {
            Deny::Drop => abi::deny::DROP,
            Deny::Reject => abi::deny::REJECT,
            Deny::Respond => abi::deny::RESPOND,
        }
    }
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Protocol number 6 (RFC 9293).
    Tcp,
    /// Protocol number 17 (RFC 768).
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Which protocols an API speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Protocols {
    /// HTTP/1.1 and HTTP/2.
    pub tcp: bool,
    /// HTTP/3.
    pub udp: bool,
}

impl Default for Protocols {
    fn default() -> Self {
        Self::TCP
    }
}

impl Protocols {
    /// TCP alone.
    pub const TCP: Self = Self {
        tcp: true,
        udp: false,
    };

    /// TCP and UDP.
    pub const BOTH: Self = Self {
        tcp: true,
        udp: true,
    };

    /// The protocols one by one.
    pub fn iter(self) -> impl Iterator<Item = Protocol> {
        let tcp = self.tcp.then_some(Protocol::Tcp);
        tcp.into_iter().chain(self.udp.then_some(Protocol::Udp))
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.tcp, self.udp) {
            (true, true) => "TCP and UDP",
            (true, false) => "TCP",
            (false, true) => "UDP",
            (false, false) => "no protocol",
        })
    }
}

/// What happens to a packet that an API does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deny {
    /// Silence.
    #[default]
    Drop,
    /// A TCP RST, or an ICMP message for UDP.
    Reject,
    /// An HTTP 403, or a TLS alert.
    Respond,
}

impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Respond => "respond",
        })
    }
}
