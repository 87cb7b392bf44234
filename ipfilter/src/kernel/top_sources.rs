//! Reading the top denied sources.

use std::{cmp::Reverse, net::IpAddr, os::fd::AsFd};

use ipfilter_ebpf::abi::{self, AddressKey};

use super::{error::Error, filter::Filter, reports, shared, sys};

/// A denied source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopSource {
    /// Its address.
    pub source: IpAddr,
    /// Its packets: all of them up to [`abi::TOP_SOURCES_RATE`] per second per CPU, beyond that an
    /// estimate by one in [`abi::TOP_SOURCES_WEIGHT`].
    pub packets: u64,
    /// Their bytes, likewise.
    pub bytes: u64,
    /// When its last packet came, in nanoseconds since boot without suspension (`CLOCK_MONOTONIC`).
    pub last: u64,
    /// The index of the API that it asked for first.
    pub api: u32,
    /// The number of the interface that it came by first.
    pub interface: u32,
}

impl Filter {
    /// The `most` denied sources with the most packets, in descending order. The kernel evicts the least
    /// recently seen.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn top_sources(&self, most: usize) -> Result<Vec<TopSource>, Error> {
        read(self.pins.open(&shared::TOP_SOURCES)?, most)
    }
}

/// A map's sources with the most packets, in descending order.
pub(super) fn read(map: impl AsFd, most: usize) -> Result<Vec<TopSource>, Error> {
    let entries = sys::lookup_all::<AddressKey, abi::TopSource>(map, abi::TOP_SOURCES as usize)
        .map_err(|error| Error::io("can't read the denied sources", error))?;
    let top_sources = entries.into_iter().filter_map(|(key, one)| {
        Some(TopSource {
            source: reports::address(&key)?,
            packets: one.packets,
            bytes: one.bytes,
            last: one.last,
            api: one.api,
            interface: one.interface,
        })
    });
    let mut top_sources: Vec<_> = top_sources.collect();
    top_sources.sort_unstable_by_key(|one| (Reverse(one.packets), one.source));
    top_sources.truncate(most);
    Ok(top_sources)
}
