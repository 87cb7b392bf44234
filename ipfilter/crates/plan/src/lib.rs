//! What one deployment enforces, as tables. No IO.
//!
//! The plan is a pure value: the daemon keeps the last one, compares it with the next and never
//! reads tables back from the kernel. Nothing here knows what a policy says or how a map is loaded.

mod api;
mod choose;
mod cover;
mod diff;
mod digest;
mod intervals;
mod measure;
mod port_table;
mod ports;
mod read_back;
mod response;
mod share;
mod sources;
mod summary;
mod table;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use api::{Api, Deny, Protocol, Protocols};
pub use choose::{Lookup, Table};
pub use cover::{Entry, cover};
pub use diff::{Change, Diff};
pub use digest::Digest;
pub use intervals::{Family, IntervalTable, MAX_WORDS, Sizes, TableTooLarge};
pub use ipfilter_ebpf::abi::CALLER_RATE;
pub use measure::{FamilyMeasures, Measures, TRIE_ENTRY_BYTES};
pub use port_table::{PortTable, Ports};
pub use ports::{PortError, PortSet};
pub use read_back::{Answers, Malformed, Mismatch, mismatches};
pub use response::{Response, ResponseError};
pub use share::Share;
pub use sources::{SourceMap, TooManyApis};
pub use summary::Summary;
pub use table::{
    Content, Need, Part, ReadBack, SourceTable, Stored, TableSize, TableSizes, Tables, Trie,
};

use std::{collections::HashSet, net::IpAddr};

/// What one deployment enforces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The protected services; their order is that of the bits in a source's answer.
    pub apis: Vec<Api>,
    /// The destination addresses at which they are protected, sorted; none means any.
    pub addresses: Vec<IpAddr>,
    /// Which APIs an IPv4 source may call.
    pub v4: SourceMap<u32>,
    /// Which APIs an IPv6 source may call.
    pub v6: SourceMap<u128>,
    /// The most answers of [`Deny::Reject`] per second per CPU.
    pub reject_rate: u32,
    /// The most answers of [`Deny::Respond`] per second per CPU.
    pub respond_rate: u32,
    /// The most denied packets reported per second per CPU; with 0 no sources are counted either.
    pub events: u32,
    /// Whether they are reported to the log as well.
    pub log_denied: bool,
    /// The most allowed packets per second per CPU that are counted one by one by source; with 0 no allowed
    /// source is remembered.
    pub callers: u32,
    /// Which table sources are looked up in.
    pub lookup: Lookup,
}

/// Denied packets reported per second per CPU, unless the operator says otherwise.
pub const EVENT_RATE: u32 = 100;

/// Answers of [`Deny::Reject`] per second per CPU, unless the operator says otherwise.
pub const REJECT_RATE: u32 = 1000;

/// Answers of [`Deny::Respond`] per second per CPU, unless the operator says otherwise: far more than clients
/// that are refused ask for, and few enough that a flood of forged sources is not answered packet by packet.
pub const RESPOND_RATE: u32 = 100_000;

/// Why APIs can't be one plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing to protect.
    #[error("no API to protect: name at least one")]
    NoApi,
    /// More than fit.
    #[error(transparent)]
    TooManyApis(#[from] TooManyApis),
    /// Two of the same name.
    #[error("two APIs are called `{0}`: name them differently")]
    NameTaken(String),
    /// Neither TCP nor UDP.
    #[error("the API `{0}` has no protocol: give it `tcp`, `udp` or both")]
    NoProtocol(String),
    /// Two claim the same port.
    #[error(
        "{protocol} port {port} is claimed by the API `{first}` and by `{second}`: one port can be one API's only"
    )]
    PortTaken {
        /// The API that comes first.
        first: String,
        /// The API that comes later.
        second: String,
        /// The protocol for which both claim it.
        protocol: Protocol,
        /// The lowest port of the later one that is taken.
        port: u16,
    },
}

impl Plan {
    /// The plan that protects `apis` at `addresses`, or at any address if there are none.
    ///
    /// # Errors
    /// No API, more than 64, or two that claim the same name or port.
    pub fn new(apis: Vec<Api>, addresses: Vec<IpAddr>) -> Result<Self, PlanError> {
        check(&apis)?;
        Self::unchecked(apis, addresses)
    }

    /// The plan that protects nothing yet, for no interface.
    ///
    /// # Errors
    /// None.
    pub fn nothing() -> Result<Self, PlanError> {
        Self::unchecked(Vec::new(), Vec::new())
    }

    fn unchecked(apis: Vec<Api>, mut addresses: Vec<IpAddr>) -> Result<Self, PlanError> {
        let v4: Vec<_> = apis.iter().map(|api| &api.sources.v4).collect();
        let v6: Vec<_> = apis.iter().map(|api| &api.sources.v6).collect();
        let (v4, v6) = (SourceMap::new(&v4)?, SourceMap::new(&v6)?);
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Self {
            apis,
            addresses,
            v4,
            v6,
            reject_rate: REJECT_RATE,
            respond_rate: RESPOND_RATE,
            events: EVENT_RATE,
            log_denied: false,
            callers: CALLER_RATE,
            lookup: Lookup::Auto,
        })
    }

    /// The API called `name`.
    #[must_use]
    pub fn api(&self, name: &str) -> Option<&Api> {
        self.apis.iter().find(|api| api.name == name)
    }

    /// Which API each destination port is.
    #[must_use]
    pub fn port_table(&self) -> PortTable {
        PortTable::of(&self.apis)
    }

    /// The plan's fingerprint.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// The plan in a line.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::of(self)
    }

    /// Its tables of sources.
    ///
    /// # Errors
    /// One would be too large.
    pub fn tables(&self) -> Result<Tables, TableTooLarge> {
        Tables::of(self)
    }

    /// How large the plan is and what its tables take; costs as much as building them.
    #[must_use]
    pub fn measure(&self) -> Measures {
        Measures::of(&self.v4, &self.v6)
    }

    /// What changes when `later` replaces this plan.
    #[must_use]
    pub fn diff<'a>(&'a self, later: &'a Self) -> Diff<'a> {
        Diff::between(self, later)
    }

    /// What changes when this plan is put in force where nothing was filtered.
    #[must_use]
    pub fn first_diff(&self) -> Diff<'_> {
        Diff::first(self)
    }
}

/// What must hold for APIs to be one plan, but for their number.
fn check(apis: &[Api]) -> Result<(), PlanError> {
    if apis.is_empty() {
        return Err(PlanError::NoApi);
    }
    let mut names = HashSet::new();
    for api in apis {
        if !names.insert(&api.name) {
            return Err(PlanError::NameTaken(api.name.clone()));
        }
        if api.protocols.iter().next().is_none() {
            return Err(PlanError::NoProtocol(api.name.clone()));
        }
    }
    ports_are_disjoint(apis)
}

/// No two APIs claim the same port for the same protocol.
fn ports_are_disjoint(apis: &[Api]) -> Result<(), PlanError> {
    for (i, second) in apis.iter().enumerate() {
        for first in apis.iter().take(i) {
            let both = [first, second].map(|api| (&api.ports, api.protocols));
            if let Some((protocol, port)) = clash(both) {
                return Err(PlanError::PortTaken {
                    first: first.name.clone(),
                    second: second.name.clone(),
                    protocol,
                    port,
                });
            }
        }
    }
    Ok(())
}

/// The lowest port that two APIs claim for the same protocol, given the ports and protocols of each.
#[must_use]
pub fn clash([first, second]: [(&PortSet, Protocols); 2]) -> Option<(Protocol, u16)> {
    let port = first.0.lowest_common(second.0)?;
    let mut protocols = second.1.iter();
    let protocol = protocols.find(|p| first.1.iter().any(|q| q == *p))?;
    Some((protocol, port))
}
