//! Reading the counters.

use aya::maps::{Map, MapData, MapError, PerCpuArray};
use ipfilter_ebpf::abi::{Counter, NO_API, Reason, counter_index};

use super::{error::Error, pins::Pins, sys::Raw};

/// What was counted for one API, or for packets that reached none, under one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The API's index; none for packets that reached no API's port.
    pub api: Option<u32>,
    /// Why the packets were passed or not.
    pub reason: Reason,
    /// How many, and how many bytes, over all CPUs.
    pub total: Counter,
}

/// Every counter of the first `apis` APIs, and of the packets that reached none.
pub(super) fn read(map: &Map, apis: usize) -> Result<Vec<Count>, Error> {
    let map = PerCpuArray::<_, Raw<Counter>>::try_from(map).map_err(failed)?;
    let rows = (0..NO_API).take(apis).map(Some).chain([None]);
    rows.flat_map(|api| Reason::ALL.map(|reason| (api, reason)))
        .map(|(api, reason)| {
            let index = counter_index(api.unwrap_or(NO_API), reason);
            let values = map.get(&index, 0).map_err(failed)?;
            let total = values
                .iter()
                .fold(Counter::default(), |sum, Raw(value)| Counter {
                    packets: sum.packets.wrapping_add(value.packets),
                    bytes: sum.bytes.wrapping_add(value.bytes),
                });
            Ok(Count { api, reason, total })
        })
        .collect()
}

/// The counters pinned for an instance.
pub(super) fn pinned(pins: &Pins) -> Result<Map, Error> {
    MapData::from_pin(pins.counters())
        .map(Map::PerCpuArray)
        .map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: MapError) -> Error {
    Error::failed("can't read the counters", error.to_string())
}
