//! A plan in the kernel, not yet attached: the programs loaded, the tables filled and frozen.

use std::{
    fmt::Display,
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    time::SystemTime,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, lpm_trie::Key},
    programs::{Program, ProgramError},
};
use ipfilter_ebpf::abi::{self, AddressKey, ApiSet, Config, KeyV4, KeyV6, MAX_APIS, flags, names};

use super::{
    error::Error,
    pins::Pins,
    sys::{self, Raw},
};
use crate::{
    addresses::Address,
    plan::{Deny, Entry, Plan, SourceMap, cover},
};

/// The BPF object, built with this binary.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ipfilter-ebpf"));

/// Tables that the kernel must not let anyone change once they are filled.
const FROZEN: [&str; 4] = [names::PORTS, names::ADDRESSES, names::SOURCES_V4, names::SOURCES_V6];

/// A loaded plan.
pub(super) struct Object {
    ebpf: Ebpf,
}

impl Object {
    /// Loads `plan`, fills its tables and freezes them. The counters are those pinned in `pins`, or
    /// new ones that are pinned there; without `pins` they are the object's own.
    pub(super) fn load(plan: &Plan, pins: Option<&Pins>) -> Result<Self, Error> {
        let (v4, v6) = (cover(&plan.v4), cover(&plan.v6));
        let config = Raw(config(plan));
        let counters = pins.map(Pins::counters);
        let mut loader = EbpfLoader::new();
        loader
            .override_global(stringify!(CONFIG), &config, true)
            .map_max_entries(names::SOURCES_V4, entries(v4.len())?)
            .map_max_entries(names::SOURCES_V6, entries(v6.len())?)
            .map_max_entries(names::ADDRESSES, entries(plan.addresses.len())?);
        if let Some(path) = &counters {
            loader.map_pin_path(names::COUNTERS, path.as_path());
        }
        let ebpf = loader.load(OBJECT).map_err(|error| load_failed(&error))?;
        let mut object = Self { ebpf };
        object.fill(plan, &v4, &v6)?;
        object.freeze()?;
        Ok(object)
    }

    /// The counters.
    pub(super) fn counters(&self) -> Result<&Map, Error> {
        self.ebpf
            .map(names::COUNTERS)
            .ok_or_else(|| fill_failed(names::COUNTERS, "it is missing"))
    }

    /// The named program, verified and ready to be attached.
    pub(super) fn program(&mut self, name: &str) -> Result<OwnedFd, Error> {
        let failed = |error: ProgramError| match &error {
            ProgramError::LoadError { io_error, .. }
                if io_error.kind() == io::ErrorKind::PermissionDenied
                    && io_error.raw_os_error() == Some(libc::EPERM) =>
            {
                Error::Refused("the kernel does not let this process load BPF programs; run it as root".into())
            }
            _ => Error::failed(format!("the kernel did not take program `{name}`"), error),
        };
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or_else(|| Error::failed("the BPF object is damaged", format!("no program `{name}`")))?;
        match program {
            Program::Xdp(xdp) => load_once(xdp.fd().is_ok(), || xdp.load()),
            Program::SchedClassifier(tc) => load_once(tc.fd().is_ok(), || tc.load()),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
        .map_err(failed)?;
        let fd = program.fd().map_err(failed)?;
        fd.as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::io("can't duplicate a descriptor", error))
    }

    fn fill(&mut self, plan: &Plan, v4: &[Entry<u32>], v6: &[Entry<u128>]) -> Result<(), Error> {
        let ports = Raw(*plan.port_table());
        let mut table = Array::<_, Raw<abi::PortTable>>::try_from(self.map(names::PORTS)?)
            .map_err(|error| fill_failed(names::PORTS, error))?;
        table.set(0, ports, 0).map_err(|error| fill_failed(names::PORTS, error))?;

        let mut addresses = HashMap::<_, Raw<AddressKey>, u8>::try_from(self.map(names::ADDRESSES)?)
            .map_err(|error| fill_failed(names::ADDRESSES, error))?;
        for address in &plan.addresses {
            addresses
                .insert(Raw(address_key(*address)), 1, 0)
                .map_err(|error| fill_failed(names::ADDRESSES, error))?;
        }

        self.fill_trie::<u32, KeyV4>(names::SOURCES_V4, v4, key_v4)?;
        self.fill_trie::<u128, KeyV6>(names::SOURCES_V6, v6, key_v6)
    }

    fn fill_trie<A: Address, K: Pod>(
        &mut self,
        name: &str,
        entries: &[Entry<A>],
        key: impl Fn(A) -> K,
    ) -> Result<(), Error> {
        let mut trie = LpmTrie::<_, K, Raw<ApiSet>>::try_from(self.map(name)?)
            .map_err(|error| fill_failed(name, error))?;
        for entry in entries {
            let key = Key::new(u32::from(entry.length), key(entry.prefix));
            trie.insert(&key, Raw(entry.apis), 0)
                .map_err(|error| fill_failed(name, error))?;
        }
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        for name in FROZEN {
            let data = self.ebpf.map(name).and_then(map_data);
            let data = data.ok_or_else(|| fill_failed(name, "it is missing"))?;
            sys::freeze(data.fd())
                .map_err(|error| Error::io(format!("can't freeze table `{name}`"), error))?;
        }
        Ok(())
    }

    fn map(&mut self, name: &str) -> Result<&mut Map, Error> {
        self.ebpf
            .map_mut(name)
            .ok_or_else(|| fill_failed(name, "it is missing"))
    }
}

fn load_once(
    loaded: bool,
    load: impl FnOnce() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    if loaded { Ok(()) } else { load() }
}

fn config(plan: &Plan) -> Config {
    let mut deny = [abi::deny::DROP; MAX_APIS];
    for (slot, api) in deny.iter_mut().zip(&plan.apis) {
        *slot = match api.deny {
            Deny::Drop => abi::deny::DROP,
        };
    }
    let apis = (0..plan.apis.len()).fold(0, |bits, index| bits | 1 << index);
    Config {
        version: abi::VERSION,
        flags: if plan.addresses.is_empty() { 0 } else { flags::ADDRESSES },
        apis: ApiSet::from_bits(apis),
        created: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        digest: *plan.digest().as_bytes(),
        deny,
    }
}

/// A map's size: at least one entry, as the kernel has it.
fn entries(count: usize) -> Result<u32, Error> {
    u32::try_from(count.max(1)).map_err(|_| {
        Error::failed("the policy is too large", format!("{count} entries; a table holds {}", u32::MAX))
    })
}

fn key_v4(address: u32) -> KeyV4 {
    let [a, b, c, d] = address.to_be_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

fn key_v6(address: u128) -> KeyV6 {
    let mut key = KeyV6::default();
    for (word, bytes) in key.iter_mut().zip(address.to_be_bytes().as_chunks::<2>().0) {
        *word = u16::from_ne_bytes(*bytes);
    }
    key
}

fn address_key(address: IpAddr) -> AddressKey {
    match address {
        IpAddr::V4(address) => AddressKey::v4(key_v4(address.to_bits())),
        IpAddr::V6(address) => AddressKey::v6(key_v6(address.to_bits())),
    }
}

fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LpmTrie(data) => Some(data),
        _ => None,
    }
}

fn load_failed(error: &aya::EbpfError) -> Error {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EPERM) {
            return Error::Refused(
                "the kernel does not let this process create BPF maps; run it as root".into(),
            );
        }
        source = cause.source();
    }
    Error::failed("can't load the BPF object", error.to_string())
}

fn fill_failed(name: &str, error: impl Display) -> Error {
    Error::failed(format!("can't fill table `{name}`"), error.to_string())
}
