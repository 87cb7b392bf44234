//! The maps that one deployment takes over from another, pinned under names with the ABI version.

use std::{io, path::Path};

use aya::maps::{MapData, MapType};
use ipfilter_ebpf::{
    abi::{self, names},
    reply,
};

use super::{error::Error, pin::strange, sys};

/// A map that the next deployment takes over.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its name in the BPF object.
    pub(super) map: &'static str,
    /// What its pin's name begins with.
    pub(super) pin: &'static str,
    kind: MapType,
    /// The size of a value, in bytes.
    value: usize,
    entries: u32,
}

pub(super) const COUNTERS: Shared = Shared {
    map: names::COUNTERS,
    pin: "counters",
    kind: MapType::PerCpuArray,
    value: size_of::<abi::Row>(),
    entries: abi::ROWS,
};

pub(super) const INTERFACES: Shared = Shared {
    map: names::INTERFACES_SECTION,
    pin: "interfaces",
    kind: MapType::Array,
    value: size_of::<abi::Interfaces>(),
    entries: 1,
};

pub(super) const KEYS: Shared = Shared {
    map: names::KEYS,
    pin: "keys",
    kind: MapType::Array,
    value: size_of::<reply::Key>(),
    entries: abi::KEYS_LEN,
};

pub(super) const EVENTS: Shared = ring(names::EVENTS, "events");

pub(super) const LOG: Shared = ring(names::LOG, "log");

pub(super) const REPORTS: Shared = Shared {
    map: names::REPORTS,
    pin: "reports",
    kind: MapType::PerCpuArray,
    value: size_of::<abi::Reports>(),
    entries: 1,
};

pub(super) const TOP_SOURCES: Shared = Shared {
    map: names::TOP_SOURCES,
    pin: "top_sources",
    kind: MapType::LruHash,
    value: size_of::<abi::TopSource>(),
    entries: abi::TOP_SOURCES,
};

pub(super) const CALLERS: Shared = Shared {
    map: names::CALLERS,
    pin: "callers",
    kind: MapType::LruHash,
    value: size_of::<abi::Caller>(),
    entries: abi::CALLERS,
};

/// All of them.
pub(super) const ALL: [&Shared; 8] = [
    &CALLERS,
    &COUNTERS,
    &EVENTS,
    &INTERFACES,
    &KEYS,
    &LOG,
    &REPORTS,
    &TOP_SOURCES,
];

/// A ring, which has bytes and no values.
const fn ring(map: &'static str, pin: &'static str) -> Shared {
    Shared {
        map,
        pin,
        kind: MapType::RingBuf,
        value: 0,
        entries: abi::RING,
    }
}

impl Shared {
    /// Refuses an object at `path` that is not this map.
    pub(super) fn check(&self, path: &Path) -> Result<(), Error> {
        let map = match sys::open(path) {
            Ok(map) => map,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Error::io(format!("can't open `{}`", path.display()), error));
            }
        };
        let map = matches!(sys::identity(&map), Ok((sys::Kind::Map, _)))
            .then(|| MapData::from_fd(map).and_then(|data| data.info()));
        match map {
            Some(Ok(info))
                if info.map_type().is_ok_and(|found| found == self.kind)
                    && info.value_size() as usize == self.value
                    && info.max_entries() == self.entries =>
            {
                Ok(())
            }
            _ => Err(strange(path)),
        }
    }
}
