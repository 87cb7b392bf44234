//! Reading which denied sources are heard of most.

use std::{cmp::Reverse, net::IpAddr, os::fd::AsFd};

use ipfilter_ebpf::abi::{self, AddressKey, Talker};

use super::{error::Error, filter::Filter, reports, shared, sys};

/// A denied source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Talkative {
    /// Its address.
    pub source: IpAddr,
    /// Its packets: all of them up to [`abi::TALKERS_RATE`] a second and CPU, beyond that an
    /// estimate by one in [`abi::TALKERS_WEIGHT`].
    pub packets: u64,
    /// Their bytes, likewise.
    pub bytes: u64,
    /// When it was last heard of, in nanoseconds since boot without suspension (`CLOCK_MONOTONIC`).
    pub last: u64,
    /// The index of the API that it asked for first.
    pub api: u32,
    /// The number of the interface that it came by first.
    pub interface: u32,
}

impl Filter {
    /// The `most` denied sources that sent most packets, those with most first. Of many sources
    /// those that were not heard of for long are forgotten.
    ///
    /// # Errors
    ///
    /// When they can't be read.
    pub fn talkers(&self, most: usize) -> Result<Vec<Talkative>, Error> {
        read(self.pins.open(&shared::TALKERS)?, most)
    }
}

/// The loudest of a map's sources, the loudest first.
pub(super) fn read(map: impl AsFd, most: usize) -> Result<Vec<Talkative>, Error> {
    let entries = sys::lookup_all::<AddressKey, Talker>(map, abi::TALKERS as usize)
        .map_err(|error| Error::io("can't read the denied sources", error))?;
    let talkers = entries.into_iter().filter_map(|(key, talker)| {
        Some(Talkative {
            source: reports::address(&key)?,
            packets: talker.packets,
            bytes: talker.bytes,
            last: talker.last,
            api: talker.api,
            interface: talker.interface,
        })
    });
    let mut talkers: Vec<_> = talkers.collect();
    talkers.sort_unstable_by_key(|talker| (Reverse(talker.packets), talker.source));
    talkers.truncate(most);
    Ok(talkers)
}
