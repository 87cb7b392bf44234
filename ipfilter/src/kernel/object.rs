//! A plan in the kernel, not yet attached: the programs loaded, the tables filled and frozen.

use std::{
    fmt::Display,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Ebpf, EbpfLoader, Pod, VerifierLogLevel,
    maps::{Array, HashMap, IterableMap as _, LpmTrie, Map, MapData, MapError, lpm_trie::Key},
    programs::{Program, ProgramError},
};
use ipfilter_ebpf::{
    abi::{self, AddressKey, ApiSet, Config, Interfaces, MAX_APIS, flags, names},
    interval::{LayoutV4, LayoutV6},
};
use rustix::time::{ClockId, clock_getres};

use super::{
    error::{Error, reason},
    keys, memory,
    pins::Pins,
    sections,
    shared::{self, Shared},
    slots,
    sys::{self, Raw},
    trace,
    trie_key::{TrieKey, address_key},
    version::abi_version,
};
use crate::plan::{
    Content, Entry, Family, Part, Plan, Share, SourceTable, Table, TableSizes, Tables,
};

/// The BPF object, built with this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ipfilter-ebpf"));

/// Entries handed over by one call.
const BATCH: usize = 1 << 14;

/// The number of the loopback interface in any network namespace. It is never filtered, and test runs use it.
const LOOPBACK: u32 = 1;

/// Maps that the kernel must not let anyone change once they are filled.
pub(super) fn frozen() -> impl Iterator<Item = &'static str> {
    let sources = Table::ALL.into_iter().flat_map(Table::maps).copied();
    [names::ADDRESSES, names::RESPONSES]
        .into_iter()
        .chain(sources)
}

/// A loaded plan.
#[derive(Debug)]
pub(super) struct Object {
    ebpf: Ebpf,
    sizes: TableSizes,
}

impl Object {
    /// Loads `plan`, fills its tables and freezes them. The [shared](shared) maps are those pinned in
    /// `pins`, or new ones that are pinned there; without `pins` they are the object's own. `created` is the
    /// time, in seconds since 1970.
    pub(super) fn load(plan: &Plan, pins: Option<&Pins>, created: u64) -> Result<Self, Error> {
        let tables = plan
            .tables()
            .map_err(|error| Error::failed("the policy is too large", error))?;
        memory::check(&tables)?;
        // Test runs of the deployed program are neither counted nor reported.
        let probe_ifindex = if pins.is_some() { LOOPBACK } else { 0 };
        let config = Raw(Config {
            probe_ifindex,
            created,
            ..config(plan, &tables)
        });
        let ports = plan.port_table().to_abi(&plan.apis);
        let interfaces = Raw(pins.map_or(Ok(Interfaces::default()), slots::pinned)?);
        let pinned = pins.map(|pins| shared::ALL.map(|map| (map, pins.shared(map))));
        let pinned = pinned.as_slice().as_flattened();
        for (map, path) in pinned {
            map.check(path)?;
        }
        let level = trace::level();
        let mut loader = EbpfLoader::new();
        loader
            // A verifier log only on failure, and not of every instruction: both slow the verifier down many
            // times.
            .verifier_log_level(VerifierLogLevel::DEBUG)
            .override_global(stringify!(CONFIG), &config, true)
            .override_global(names::PORTS, ports.as_slice(), true)
            // A pinned section is rewritten when it is taken over: to its present value.
            .override_global(names::INTERFACES, &interfaces, true)
            .override_global(trace::LEVEL, &level, false)
            .map_max_entries(names::ADDRESSES, entries(plan.addresses.len())?)
            .map_max_entries(names::RESPONSES, entries(plan.apis.len())?);
        // The maps of other kinds of table stay as small as a map can be.
        for (name, elements) in sizes(&*tables.v4).chain(sizes(&*tables.v6)) {
            loader.map_max_entries(name, entries(elements)?);
        }
        for (map, path) in pinned {
            loader.map_pin_path(map.map, path);
        }
        let object = with_sections(&tables)?;
        let ebpf = loader.load(&object).map_err(|error| load_failed(&error))?;
        let mut object = Self {
            ebpf,
            sizes: tables.sizes(),
        };
        object.fill(plan, &tables)?;
        object.freeze()?;
        Ok(object)
    }

    /// How large its tables are.
    pub(super) fn sizes(&self) -> TableSizes {
        self.sizes
    }

    /// A map that the next deployment takes over.
    pub(super) fn shared(&self, shared: &Shared) -> Result<&Map, Error> {
        let map = self.ebpf.map(shared.map);
        map.ok_or_else(|| fill_failed(shared.map, "it is missing"))
    }

    /// The same, by another descriptor.
    pub(super) fn share(&self, shared: &Shared) -> Result<Map, Error> {
        let data = MapData::from_fd(self.map_fd(shared.map)?);
        let map = data.and_then(Map::from_map_data);
        map.map_err(|error| Error::failed("can't look at a map", error))
    }

    /// Another descriptor of the named map.
    pub(super) fn map_fd(&self, name: &str) -> Result<OwnedFd, Error> {
        let data = self.ebpf.map(name).and_then(map_data);
        let data = data.ok_or_else(|| fill_failed(name, "it is missing"))?;
        let fd = data.fd().as_fd().try_clone_to_owned();
        fd.map_err(|error| Error::io("can't duplicate a descriptor", error))
    }

    /// The named program, verified and ready to be attached.
    pub(super) fn program(&mut self, name: &str) -> Result<OwnedFd, Error> {
        let failed = |error: ProgramError| match &error {
            // The verifier's own words come with the reason.
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } if !matches!(io_error.raw_os_error(), Some(libc::EPERM | libc::ENOMEM)) => {
                Error::failed(
                    format!("the kernel refused program `{name}`"),
                    format!("{}{}", reason(io_error), words(&verifier_log.to_string())),
                )
            }
            _ => Error::caused(format!("the kernel refused program `{name}`"), &error),
        };
        let program = self.ebpf.program_mut(name).ok_or_else(|| {
            Error::failed("the BPF object is damaged", format!("no program `{name}`"))
        })?;
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

    fn fill(&mut self, plan: &Plan, tables: &Tables) -> Result<(), Error> {
        let responses = plan.apis.iter().map(|api| api.response.to_abi());
        self.fill_array(names::RESPONSES, responses)?;
        self.fill_addresses(&plan.addresses)?;
        self.fill_table(&*tables.v4)?;
        self.fill_table(&*tables.v6)?;
        keys::fill(self.map(names::KEYS)?)
    }

    fn fill_array<T>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Result<(), Error>
    where
        Raw<T>: Pod,
    {
        let failed = |error: MapError| fill_refused(name, &error);
        let mut array = Array::<_, Raw<T>>::try_from(self.map(name)?).map_err(failed)?;
        for (index, value) in (0..).zip(values) {
            array.set(index, Raw(value), 0).map_err(failed)?;
        }
        Ok(())
    }

    fn fill_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), Error> {
        let failed = |error: MapError| fill_refused(names::ADDRESSES, &error);
        let map = self.map(names::ADDRESSES)?;
        let mut set = HashMap::<_, Raw<AddressKey>, u8>::try_from(map).map_err(failed)?;
        for address in addresses {
            let key = Raw(address_key(*address));
            set.insert(key, 1, 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Copies a table of sources into its maps.
    fn fill_table<A: TrieKey>(&mut self, table: &dyn SourceTable<A>) -> Result<(), Error> {
        for Part { name, content } in table.parts() {
            match content {
                Content::Entries(entries) => self.fill_trie(name, entries)?,
                Content::Words(words, _) => self.fill_words(name, words)?,
                // It came with the object.
                Content::Section(_) => {}
            }
        }
        Ok(())
    }

    fn fill_words(&mut self, name: &str, words: &[u64]) -> Result<(), Error> {
        if words.is_empty() {
            return Ok(());
        }
        let data = map_data(self.map(name)?).ok_or_else(|| fill_failed(name, "it is missing"))?;
        sys::fill(data.fd(), words)
            .map_err(|error| Error::io(format!("can't fill table `{name}`"), error))
    }

    /// Fills a trie in the order of the entries, which is by address, so that neighbours are close in memory;
    /// in batches where the kernel supports them.
    fn fill_trie<A: TrieKey>(&mut self, name: &str, entries: &[Entry<A>]) -> Result<(), Error> {
        let mut trie = LpmTrie::<_, A::Key, Raw<ApiSet>>::try_from(self.map(name)?)
            .map_err(|error| fill_refused(name, &error))?;
        for batch in entries.chunks(BATCH) {
            let (keys, values): (Vec<_>, Vec<_>) = batch
                .iter()
                .map(|entry| {
                    let key = Key::new(u32::from(entry.length), entry.prefix.to_key());
                    (key, Raw(entry.apis))
                })
                .unzip();
            if sys::update_batch(trie.map().fd(), &keys, &values).is_ok() {
                continue;
            }
            // Either the kernel has no batches for tries, or the insertion fails again here.
            for (key, value) in keys.iter().zip(values) {
                trie.insert(key, value, 0)
                    .map_err(|error| fill_refused(name, &error))?;
            }
        }
        Ok(())
    }

    fn freeze(&self) -> Result<(), Error> {
        for name in frozen() {
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

/// How often a program is loaded again where the verifier was interrupted.
const TRIES: usize = 100;

/// Loads a program, unless it is loaded already. A signal interrupts the verifier (`EAGAIN`), which
/// says nothing about the program.
fn load_once(
    loaded: bool,
    mut load: impl FnMut() -> Result<(), ProgramError>,
) -> Result<(), ProgramError> {
    if loaded {
        return Ok(());
    }
    let was_interrupted = |result: &Result<(), ProgramError>| {
        matches!(result, Err(ProgramError::LoadError { io_error, .. })
            if io_error.raw_os_error() == Some(libc::EAGAIN))
    };
    let mut result = load();
    for _ in 1..TRIES {
        if !was_interrupted(&result) {
            break;
        }
        result = load();
    }
    result
}

fn config(plan: &Plan, tables: &Tables) -> Config {
    let mut config = Config {
        jiffies_per_second: jiffies_per_second(),
        ..constants(plan)
    };
    tables.configure(&mut config);
    let is_lean = plan.addresses.is_empty() && trace::level() == 0;
    config.lean &= u32::from(is_lean);
    config
}

/// What `plan` alone decides of a deployment's constants.
pub(super) fn constants(plan: &Plan) -> Config {
    let mut deny = [abi::deny::DROP; MAX_APIS];
    let mut ids = [0; MAX_APIS];
    // All sources, for what no API has: a share of none would spare them.
    let mut shares = [Share::ALL.parts(); MAX_APIS];
    let slots = deny.iter_mut().zip(&mut ids).zip(&mut shares);
    for (((deny, id), share), api) in slots.zip(&plan.apis) {
        *deny = api.deny_action();
        *id = api.id();
        *share = api.enforce.parts();
    }
    let spares = plan.apis.iter().any(|api| api.enforce != Share::ALL);
    let apis = (0..plan.apis.len()).fold(0, |bits, index| bits | 1 << index);
    let acts = |action| plan.apis.iter().any(|api| api.deny_action() == action);
    Config {
        version: abi_version(),
        flags: plan.lookup.choose().flags()
            | flag(!plan.addresses.is_empty(), flags::ADDRESSES)
            | flag(acts(abi::deny::REJECT), flags::REJECT)
            | flag(acts(abi::deny::RESPOND), flags::RESPOND)
            | flag(spares, flags::SHARES)
            | flag(plan.log_denied, flags::LOG),
        intervals_v4: LayoutV4::default(),
        intervals_v6: LayoutV6::default(),
        apis: ApiSet::from_bits(apis),
        created: 0,
        digest: plan.digest().0,
        reject_interval: interval(plan.reject_rate),
        respond_interval: interval(plan.respond_rate),
        events: plan.events,
        jiffies_per_second: 0,
        probe_ifindex: 0,
        lean: 0,
        callers: plan.callers,
        reserved: 0,
        deny,
        ids,
        shares,
    }
}

/// The time between two answers, in nanoseconds, of so many per second; 0 for none.
fn interval(rate: u32) -> u64 {
    1_000_000_000_u64.checked_div(rate.into()).unwrap_or(0)
}

/// The maps of a table, and how many elements each has.
fn sizes<A: Family>(table: &dyn SourceTable<A>) -> impl Iterator<Item = (&'static str, usize)> {
    let parts = table.parts().into_iter();
    parts.filter_map(|part| Some((part.name, part.elements()?)))
}

/// The object with the tables' parts that are sections of it.
fn with_sections(tables: &Tables) -> Result<Vec<u8>, Error> {
    let mut object = OBJECT.to_vec();
    for (name, words) in sections(&*tables.v4).chain(sections(&*tables.v6)) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        object = sections::replace(object, name, &bytes).ok_or_else(|| {
            Error::failed("the BPF object is damaged", format!("no section `{name}`"))
        })?;
    }
    Ok(object)
}

fn sections<A: Family>(table: &dyn SourceTable<A>) -> impl Iterator<Item = (&'static str, &[u64])> {
    let parts = table.parts().into_iter();
    parts.filter_map(|part| match part.content {
        Content::Section(words) if !words.is_empty() => Some((part.name, words)),
        _ => None,
    })
}

/// The kernel's ticks per second: its coarse clock steps once a tick.
fn jiffies_per_second() -> u32 {
    let tick = clock_getres(ClockId::MonotonicCoarse).tv_nsec;
    u32::try_from(1_000_000_000_i64.checked_div(tick).unwrap_or(0)).map_or(1, |rate| rate.max(1))
}

fn flag(set: bool, bits: u32) -> u32 {
    if set { bits } else { 0 }
}

/// A map's size: at least one entry, as the kernel has it.
fn entries(count: usize) -> Result<u32, Error> {
    u32::try_from(count.max(1)).map_err(|_| {
        Error::failed(
            "the policy is too large",
            format!("{count} entries; a table holds {}", u32::MAX),
        )
    })
}

fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn load_failed(error: &aya::EbpfError) -> Error {
    Error::caused("can't create the filter's maps", error)
}

fn fill_failed(name: &str, error: impl Display) -> Error {
    Error::failed(format!("can't fill table `{name}`"), error.to_string())
}

fn words(log: &str) -> String {
    let log = log.trim();
    if log.is_empty() {
        String::new()
    } else {
        format!("\n{log}")
    }
}

fn fill_refused(name: &str, error: &MapError) -> Error {
    Error::caused(format!("can't fill table `{name}`"), error)
}
