//! Reading the sources that call APIs, and are allowed to.

use std::{net::IpAddr, os::fd::AsFd};

use ipfilter_ebpf::abi::{self, CallerKey};

use super::{error::Error, filter::Filter, reports, shared, sys};

/// A source that called an API, and was allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its address.
    pub source: IpAddr,
    /// The API, by [`crate::plan::Api::id`].
    pub api: u32,
    /// Its packets: all of them up to the setting `allowed_sources` per second per CPU, beyond that an estimate.
    pub packets: u64,
    /// Their bytes, likewise.
    pub bytes: u64,
    /// When its first packet came that is remembered, in nanoseconds since boot without suspension
    /// (`CLOCK_MONOTONIC`).
    pub first: u64,
    /// When its last packet came, likewise.
    pub last: u64,
}

impl Filter {
    /// The sources that called APIs and were allowed to. The kernel evicts the least recently seen.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn callers(&self) -> Result<Vec<Caller>, Error> {
        read(self.pins.open(&shared::CALLERS)?)
    }
}

/// What a map has.
pub(super) fn read(map: impl AsFd) -> Result<Vec<Caller>, Error> {
    let entries = sys::lookup_all::<CallerKey, abi::Caller>(map, abi::CALLERS as usize)
        .map_err(|error| Error::io("can't read the allowed sources", error))?;
    let callers = entries.into_iter().filter_map(|(key, one)| {
        Some(Caller {
            source: reports::address(&key.source)?,
            api: key.api,
            packets: one.packets,
            bytes: one.bytes,
            first: one.first,
            last: one.last,
        })
    });
    Ok(callers.collect())
}
