//! Reading the counters.

use std::borrow::Borrow;

use aya::maps::{Map, MapError, PerCpuArray, PerCpuValues};
use ipfilter_ebpf::abi::{Counter, GATE, Gate, NO_API, Reason, Row, row_index};

use super::{error::Error, pins::Pins, shared, slots, sys::Raw};

/// What was counted at one interface, for one API or for packets that reached none, under one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The interface's name; none for what interfaces without a slot of their own counted together,
    /// and for test runs.
    pub interface: Option<String>,
    /// The API's index; none for packets that reached no API's port.
    pub api: Option<u32>,
    /// Why the packets were passed or not.
    pub reason: Reason,
    /// How many, and how many bytes, over all CPUs.
    pub total: Counter,
}

/// The counters, and whose they are.
pub(super) struct Counters<M> {
    rows: M,
    interfaces: M,
}

impl Counters<Map> {
    /// Those pinned for an instance.
    pub(super) fn pinned(pins: &Pins) -> Result<Self, Error> {
        Ok(Self {
            rows: pins.map(&shared::COUNTERS)?,
            interfaces: pins.map(&shared::INTERFACES)?,
        })
    }
}

impl<M: Borrow<Map>> Counters<M> {
    /// Those in these maps.
    pub(super) fn new(rows: M, interfaces: M) -> Self {
        Self { rows, interfaces }
    }

    /// Every counter of the first `apis` APIs, and of the packets that reached none, by interface.
    pub(super) fn read(&self, apis: usize) -> Result<Vec<Count>, Error> {
        let rows = PerCpuArray::<_, Raw<Row>>::try_from(self.rows.borrow()).map_err(failed)?;
        let named = slots::named(self.interfaces.borrow())?.into_iter();
        let named = named.map(|slot| (slot.number, Some(slot.name)));
        let mut counts = Vec::new();
        for (slot, interface) in [(0, None)].into_iter().chain(named) {
            for api in (0..NO_API).take(apis).map(Some).chain([None]) {
                let index = row_index(slot, api.unwrap_or(NO_API));
                let row = rows.get(&index, 0).map_err(failed)?;
                counts.extend(Reason::ALL.map(|reason| Count {
                    interface: interface.clone(),
                    api,
                    reason,
                    total: sum(row.iter().filter_map(|Raw(row)| row.get(reason as usize))),
                }));
            }
        }
        Ok(counts)
    }

    /// Packets that the gates still have to skip.
    pub(super) fn skip(&self) -> Result<u64, Error> {
        let rows = PerCpuArray::<_, Raw<Row>>::try_from(self.rows.borrow()).map_err(failed)?;
        let named = slots::named(self.interfaces.borrow())?.into_iter();
        let mut skip = 0;
        for slot in [0].into_iter().chain(named.map(|slot| slot.number)) {
            for api in 0..=NO_API {
                let row = rows.get(&row_index(slot, api), 0).map_err(failed)?;
                let gates = row.iter().filter_map(|Raw(row)| row.get(GATE));
                let gates = gates.map(|counter| Gate::from(*counter));
                skip += gates.map(|gate| u64::from(gate.skip)).sum::<u64>();
            }
        }
        Ok(skip)
    }
}

/// The counters that test runs change, from before they ran: those of no interface.
pub(super) struct TestRuns {
    rows: Map,
    before: Vec<(u32, PerCpuValues<Raw<Row>>)>,
}

impl TestRuns {
    /// The counters as they are now, for the first `apis` APIs.
    pub(super) fn before(pins: &Pins, apis: usize) -> Result<Self, Error> {
        let rows = pins.map(&shared::COUNTERS)?;
        let array = PerCpuArray::<_, Raw<Row>>::try_from(&rows).map_err(failed)?;
        let indices = (0..NO_API).take(apis).chain([NO_API]);
        let indices = indices.map(|api| row_index(0, api));
        let before = indices.map(|index| Ok((index, array.get(&index, 0).map_err(failed)?)));
        Ok(Self {
            before: before.collect::<Result<_, Error>>()?,
            rows,
        })
    }

    /// Restores them. Interfaces without a slot of their own are counted there too and would lose what was
    /// counted meanwhile; if there are any, nothing is restored.
    pub(super) fn forget(mut self, are_shared: bool) -> Result<(), Error> {
        if are_shared {
            return Ok(());
        }
        let mut array = PerCpuArray::<_, Raw<Row>>::try_from(&mut self.rows).map_err(failed)?;
        for (index, values) in self.before {
            array.set(index, values, 0).map_err(failed)?;
        }
        Ok(())
    }
}

fn sum<'a>(counters: impl Iterator<Item = &'a Counter>) -> Counter {
    counters.fold(Counter::default(), |sum, counter| Counter {
        packets: sum.packets.wrapping_add(counter.packets),
        bytes: sum.bytes.wrapping_add(counter.bytes),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: MapError) -> Error {
    Error::failed("can't read the counters", error.to_string())
}
