//! Reading the kernel's reports of denied packets.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{Map, MapData, MapError, PerCpuArray, RingBuf};
use ipfilter_ebpf::{
    abi::{AddressKey, EVENTS_RING, Event, LOG_RING, NO_API, Reason, Reports},
    wire::Protocol,
};
use rustix::time::{ClockId, clock_gettime};

use super::{
    counters::Counters,
    error::Error,
    filter::Filter,
    object::Object,
    pins::Pins,
    shared::{self, Shared},
    sys::{self, Raw},
};

/// A packet that did not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// When it came, in nanoseconds since boot without suspension (`CLOCK_MONOTONIC`).
    pub time: u64,
    /// The number of the interface that it came in by.
    pub interface: u32,
    /// The API's index; none for packets that reached no API's port.
    pub api: Option<u32>,
    /// Why.
    pub reason: Reason,
    /// Its protocol; none where the ports are not known.
    pub protocol: Option<Protocol>,
    /// Its source address; none if no IP header was found.
    pub source: Option<IpAddr>,
    /// The source port, where there is a protocol.
    pub source_port: u16,
    /// The destination port, where there is a protocol.
    pub port: u16,
}

/// The readers of events. Each has a ring of its own, because a ring supports one reader only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A command such as `events`.
    Anyone,
    /// The daemon, for its log.
    Log,
}

impl Reader {
    fn ring(self) -> (&'static Shared, usize) {
        match self {
            Self::Anyone => (&shared::EVENTS, EVENTS_RING),
            Self::Log => (&shared::LOG, LOG_RING),
        }
    }
}

/// Follows the packets that do not get through.
pub struct Follower {
    ring: RingBuf<MapData>,
    descriptor: OwnedFd,
    /// The id that the kernel gave the ring.
    id: u32,
    reports: Map,
    counters: Counters<Map>,
    /// Where the ring is pinned, if it is.
    pins: Option<Pins>,
    reader: Reader,
    /// Reports from before are skipped.
    start: u64,
    unreported: u64,
}

impl Filter {
    /// Begins to follow as this reader. Callers ensure that only one process at a time is the same reader.
    ///
    /// # Errors
    ///
    /// When nothing is deployed, or its pins can't be opened.
    pub fn follow_denials(&self, reader: Reader) -> Result<Follower, Error> {
        let (ring, _) = reader.ring();
        let reports = self.pins.map(&shared::REPORTS)?;
        Follower::new(
            self.pins.open(ring)?,
            reports,
            Counters::pinned(&self.pins)?,
            Some(self.pins.clone()),
            reader,
        )
    }

    /// How many denied packets were not reported to a reader since the counters were created, because there
    /// were too many or nobody read them.
    ///
    /// # Errors
    ///
    /// When the kernel's counts can't be read.
    pub fn unreported(&self, reader: Reader) -> Result<u64, Error> {
        let reports = self.pins.map(&shared::REPORTS)?;
        unreported(&reports, &Counters::pinned(&self.pins)?, reader)
    }
}

impl Follower {
    fn new(
        map: OwnedFd,
        reports: Map,
        counters: Counters<Map>,
        pins: Option<Pins>,
        reader: Reader,
    ) -> Result<Self, Error> {
        let failed = |error| Error::io("can't look at the events", error);
        let (_, id) = sys::identity(&map).map_err(failed)?;
        let descriptor = map.try_clone().map_err(failed)?;
        let ring = MapData::from_fd(map)
            .and_then(|data| RingBuf::try_from(Map::RingBuf(data)))
            .map_err(|error| follow_failed(&error))?;
        let unreported = unreported(&reports, &counters, reader)?;
        Ok(Self {
            ring,
            descriptor,
            id,
            reports,
            counters,
            pins,
            reader,
            start: monotonic(),
            unreported,
        })
    }

    /// Follows the reports of the programs of `object`, whose maps are its own.
    pub(super) fn of(object: &Object, reader: Reader) -> Result<Self, Error> {
        let (ring, _) = reader.ring();
        let reports = object.share(&shared::REPORTS)?;
        let counters = Counters::new(
            object.share(&shared::COUNTERS)?,
            object.share(&shared::INTERFACES)?,
        );
        Self::new(object.map_fd(ring.map)?, reports, counters, None, reader)
    }

    /// The next packet, if there is one.
    pub fn next_denial(&mut self) -> Option<Denial> {
        while let Some(item) = self.ring.next() {
            match sys::read_event(&item).and_then(|event| denial(&event)) {
                Some(denial) if denial.time >= self.start => return Some(denial),
                _ => {}
            }
        }
        None
    }

    /// How many packets were not reported since the last call, or since the beginning.
    ///
    /// # Errors
    ///
    /// When the kernel's counts can't be read.
    pub fn unreported(&mut self) -> Result<u64, Error> {
        let now = unreported(&self.reports, &self.counters, self.reader)?;
        let since = now.saturating_sub(self.unreported);
        self.unreported = now;
        Ok(since)
    }

    /// A descriptor that is readable when there are reports.
    ///
    /// # Errors
    ///
    /// When there are no descriptors left.
    pub fn descriptor(&self) -> Result<OwnedFd, Error> {
        let map = self.descriptor.as_fd().try_clone_to_owned();
        map.map_err(|error| Error::io("can't duplicate a descriptor", error))
    }

    /// Whether the deployment still reports to this follower; not after it was detached or replaced by
    /// another version of ipfilter.
    #[must_use]
    pub fn is_live(&self) -> bool {
        let (ring, _) = self.reader.ring();
        let Some(pins) = &self.pins else {
            return true;
        };
        let found = sys::open(&pins.shared(ring)).and_then(sys::identity);
        found.is_ok_and(|(_, id)| id == self.id)
    }
}

fn unreported(reports: &Map, counters: &Counters<Map>, reader: Reader) -> Result<u64, Error> {
    let failed = |error: MapError| follow_failed(&error);
    let array = PerCpuArray::<_, Raw<Reports>>::try_from(reports).map_err(failed)?;
    let (_, ring) = reader.ring();
    let cpus = array.get(&0, 0).map_err(failed)?;
    let (seen, reported) = cpus
        .iter()
        .fold((0_u64, 0_u64), |(seen, reported), Raw(cpu)| {
            let own = cpu.reported.get(ring).copied().unwrap_or_default();
            (seen.wrapping_add(cpu.seen), reported.wrapping_add(own))
        });
    // It is read later than the number it is subtracted from, and may have grown since.
    Ok(seen
        .saturating_sub(reported)
        .saturating_sub(counters.skip()?))
}

fn denial(event: &Event) -> Option<Denial> {
    Some(Denial {
        time: event.time,
        interface: event.interface,
        api: (event.api < NO_API).then_some(event.api),
        reason: Reason::from_number(event.reason)?,
        protocol: u8::try_from(event.protocol)
            .ok()
            .and_then(Protocol::from_number),
        source: address(&event.source),
        source_port: event.source_port,
        port: event.port,
    })
}

/// An address of the kernel's; none if its family is none.
pub(super) fn address(key: &AddressKey) -> Option<IpAddr> {
    let bytes = key.address.map(u16::to_ne_bytes);
    match key.family {
        4 => Some(Ipv4Addr::from(*bytes.as_flattened().first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*bytes.as_flattened().first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Nanoseconds since boot without suspension, as events have them.
#[must_use]
pub fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

fn follow_failed(error: &MapError) -> Error {
    Error::failed("can't follow the events", error.to_string())
}
