//! A plan's fingerprint.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sha2::{Digest as _, Sha256};

use super::{Api, CALLER_RATE, EVENT_RATE, Plan, RESPOND_RATE, Share};
use ipfilter_addresses::{Address, Intervals};

/// Changes whenever what is hashed, or how, does.
const DOMAIN: &[u8] = b"ipfilter plan 1\n";

/// SHA-256 over a canonical encoding of a plan: plans that enforce the same with the same names
/// have the same digest, on every machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The first twelve hexadecimal digits, enough to tell a host's plans apart.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{self:.12}")
    }

    pub(super) fn of(plan: &Plan) -> Self {
        let mut hasher = Hasher(Sha256::new_with_prefix(DOMAIN));
        hasher.length(plan.addresses.len());
        for address in &plan.addresses {
            hasher.address(*address);
        }
        hasher.0.update(plan.reject_rate.to_le_bytes());
        hasher.bytes(plan.lookup.choose().to_string().as_bytes());
        hasher.length(plan.apis.len());
        for api in &plan.apis {
            hasher.api(api);
        }
        // At the end, so that plans from before there was such a choice keep their digests.
        if (plan.events, plan.log_denied) != (EVENT_RATE, false) {
            hasher.0.update(plan.events.to_le_bytes());
            hasher.0.update([u8::from(plan.log_denied)]);
        }
        let lenient = plan.apis.iter().any(|api| api.enforce != Share::ALL);
        if plan.respond_rate != RESPOND_RATE || lenient {
            hasher.0.update(plan.respond_rate.to_le_bytes());
            let shares = plan
                .apis
                .iter()
                .map(|api| api.enforce.parts().to_le_bytes());
            hasher.bytes(shares.collect::<Vec<_>>().as_flattened());
        }
        if plan.callers != CALLER_RATE {
            hasher.bytes(b"callers");
            hasher.0.update(plan.callers.to_le_bytes());
        }
        Self(hasher.0.finalize().into())
    }
}

impl fmt::Display for Digest {
    /// All of it in hexadecimal, or as many digits as the precision says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.pad(&hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Every list is preceded by its length, and every integer has a fixed width and is little-endian,
/// so that no two plans have the same encoding.
struct Hasher(Sha256);

impl Hasher {
    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_le_bytes());
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes(&Ipv4Addr::octets(&address)),
            IpAddr::V6(address) => self.bytes(&Ipv6Addr::octets(&address)),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.update(bytes);
    }

    fn api(&mut self, api: &Api) {
        self.bytes(api.name.as_bytes());
        self.bytes(api.ports.to_string().as_bytes());
        self.bytes(&[api.protocols.tcp.into(), api.protocols.udp.into()]);
        self.bytes(api.deny.to_string().as_bytes());
        self.bytes(api.response.content_type().as_bytes());
        self.bytes(api.response.body());
        self.set(&api.sources.v4);
        self.set(&api.sources.v6);
    }

    fn set<A: Address>(&mut self, set: &Intervals<A>) {
        self.length(set.flips().len());
        let mut buffer = Vec::with_capacity(64 * 1024);
        for chunk in set.flips().chunks(4096) {
            buffer.clear();
            for flip in chunk {
                buffer.extend(flip.to_u128().to_le_bytes());
            }
            self.0.update(&buffer);
        }
    }
}
