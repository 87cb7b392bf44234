//! Whether the tables of a program in the kernel are what a plan says, for every address of both families,
//! each API and each port. No IO.

use std::net::IpAddr;

use ipfilter_ebpf::abi::{ApiSet, port_entry};
use ipnet::IpNet;

use crate::{
    addresses::{Address, AddressSet, Intervals},
    kernel::{Constant, Dump},
    plan::{Malformed, Mismatch, Plan, Protocol, ReadBack, SourceMap, mismatches},
};

/// Something in the kernel that is not what the plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The program says that it enforces another plan.
    Plan {
        /// Its digest.
        found: [u8; 32],
    },
    /// These sources are answered otherwise at the API with this index.
    Sources {
        api: usize,
        sources: IpNet,
        /// Whether the policy lets them pass; the table says the contrary.
        allowed: bool,
    },
    /// A table whose answers can't be determined.
    Malformed {
        family: &'static str,
        error: Malformed,
    },
    /// A port that is another API's, or none's.
    Port {
        protocol: Protocol,
        port: u16,
        wanted: u8,
        found: u8,
    },
    /// A protected address that should be none, or the contrary.
    Address { address: IpAddr, protected: bool },
    /// A constant of the program.
    Constant(Constant),
    /// A table that is not frozen.
    Unfrozen(&'static str),
}

/// All that is not in `dump` as it is in `plan`.
pub(crate) fn compare(plan: &Plan, dump: &Dump) -> Vec<Difference> {
    let digest = dump.digest();
    if digest != plan.digest().0 {
        // All the rest follows from that.
        return vec![Difference::Plan { found: digest }];
    }
    let mut differences = sources(plan, dump);
    differences.extend(ports(plan, &dump.ports));
    differences.extend(addresses(&plan.addresses, &dump.addresses));
    differences.extend(dump.constants(plan).into_iter().map(Difference::Constant));
    differences.extend(dump.unfrozen.iter().copied().map(Difference::Unfrozen));
    differences
}

fn sources(plan: &Plan, dump: &Dump) -> Vec<Difference> {
    let mut differences = Vec::new();
    let v4 = compared("IPv4", &plan.v4, &dump.v4, &mut differences);
    let v6 = compared("IPv6", &plan.v6, &dump.v6, &mut differences);
    for (api, bit) in (0..plan.apis.len()).zip(0..) {
        for allowed in [false, true] {
            let sets = AddressSet {
                v4: answered(&v4, bit, allowed),
                v6: answered(&v6, bit, allowed),
            };
            differences.extend(sets.networks().map(|sources| Difference::Sources {
                api,
                sources,
                allowed,
            }));
        }
    }
    differences
}

fn compared<A: Address>(
    family: &'static str,
    map: &SourceMap<A>,
    answers: &ReadBack<A>,
    differences: &mut Vec<Difference>,
) -> Vec<Mismatch<A>> {
    match answers {
        Ok(answers) => mismatches(map, answers),
        Err(error) => {
            let error = error.clone();
            differences.push(Difference::Malformed { family, error });
            Vec::new()
        }
    }
}

/// The addresses that the API with this bit should let pass if `allowed`, and does not; or the contrary.
fn answered<A: Address>(mismatches: &[Mismatch<A>], bit: u32, allowed: bool) -> Intervals<A> {
    let has = |apis: ApiSet| apis.has(bit);
    let those = mismatches
        .iter()
        .filter(|it| has(it.wanted) == allowed && has(it.found) != allowed);
    Intervals::from_ranges(those.map(|it| (it.first, it.last)).collect())
}

fn ports(plan: &Plan, found: &[u8]) -> Vec<Difference> {
    let wanted = plan.port_table().to_abi(&plan.apis);
    let entries = wanted
        .iter()
        .zip(found.iter().map(Some).chain(std::iter::repeat(None)));
    let different = entries.enumerate().filter_map(|(index, (wanted, found))| {
        let found = found.copied().unwrap_or_default();
        // In network byte order as the machine reads it, TCP first.
        let port = u16::try_from(index & usize::from(u16::MAX)).unwrap_or_default();
        (*wanted != found).then(|| Difference::Port {
            protocol: if index >> 16 == 0 {
                Protocol::Tcp
            } else {
                Protocol::Udp
            },
            port: u16::from_be(port),
            wanted: *wanted,
            found,
        })
    });
    different.collect()
}

fn addresses(wanted: &[IpAddr], found: &[IpAddr]) -> Vec<Difference> {
    let missing = wanted.iter().filter(|address| !found.contains(address));
    let missing = missing.map(|address| (address, true));
    let strange = found.iter().filter(|address| !wanted.contains(address));
    let all = missing.chain(strange.map(|address| (address, false)));
    all.map(|(address, protected)| Difference::Address {
        address: *address,
        protected,
    })
    .collect()
}

/// The index of the API that a port's entry names, if it names one.
pub(crate) fn api_of(entry: u8) -> Option<usize> {
    let entry = u32::from(entry);
    let api = usize::try_from(entry & port_entry::API).ok()?;
    (entry & port_entry::TAKEN != 0).then_some(api)
}
