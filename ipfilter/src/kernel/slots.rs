//! Which interface is counted in which rows of the counters.

use aya::maps::{Array, Map, MapError, PerCpuArray, PerCpuValues};
use ipfilter_ebpf::abi::{Counter, Interfaces, NO_API, REASONS, Row, row_index};

use super::{error::Error, interface::Interface, netlink::Link, pins::Pins, shared, sys::Raw};

/// The size of an interface name in the kernel, with the terminating zero (`IFNAMSIZ`).
const NAME: usize = 16;

/// A number that no interface has.
const AWAY: u32 = u32::MAX;

/// The interfaces' slots and their counters, as a deployment holds them.
#[derive(Debug)]
pub(super) struct Slots {
    interfaces: Map,
    counters: Map,
}

impl Slots {
    /// The slots in these maps.
    pub(super) fn new(interfaces: Map, counters: Map) -> Self {
        Self {
            interfaces,
            counters,
        }
    }

    /// Gives each of `wanted` a slot of its own while there are free ones; `links` are all interfaces.
    pub(super) fn assign(&mut self, wanted: &[Interface], links: &[Link]) -> Result<(), Error> {
        let array = Array::<_, Raw<Interfaces>>::try_from(&self.interfaces).map_err(failed)?;
        let Raw(before) = array.get(&0, 0).map_err(failed)?;
        let (after, anew) = assign(&before, wanted, links);
        for slot in anew {
            self.reset(slot)?;
        }
        if after != before {
            let array = Array::<_, Raw<Interfaces>>::try_from(&mut self.interfaces);
            let mut array = array.map_err(failed)?;
            array.set(0, Raw(after), 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Resets the counters of a slot.
    fn reset(&mut self, slot: u32) -> Result<(), Error> {
        let mut rows = PerCpuArray::<_, Raw<Row>>::try_from(&mut self.counters).map_err(failed)?;
        let cpus = aya::util::nr_cpus()
            .map_err(|(_, error)| Error::io("can't tell how many processors there are", error))?;
        for api in 0..=NO_API {
            let zeros = vec![Raw([Counter::default(); REASONS]); cpus];
            let zeros = PerCpuValues::try_from(zeros)
                .map_err(|error| Error::io("can't reset the counters", error))?;
            rows.set(row_index(slot, api), zeros, 0).map_err(failed)?;
        }
        Ok(())
    }
}

/// What is pinned in `pins`, or what it is before any interface has a slot.
pub(super) fn pinned(pins: &Pins) -> Result<Interfaces, Error> {
    if !pins.shared(&shared::INTERFACES).exists() {
        return Ok(Interfaces::default());
    }
    let map = pins.map(&shared::INTERFACES)?;
    let array = Array::<_, Raw<Interfaces>>::try_from(&map).map_err(failed)?;
    let Raw(interfaces) = array.get(&0, 0).map_err(failed)?;
    Ok(interfaces)
}

/// A slot that an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// The slot's number.
    pub(super) number: u32,
    /// The interface's number.
    pub(super) index: u32,
    /// The interface's name.
    pub(super) name: String,
}

/// The slots that interfaces have.
pub(super) fn named(map: &Map) -> Result<Vec<Slot>, Error> {
    let array = Array::<_, Raw<Interfaces>>::try_from(map).map_err(failed)?;
    let Raw(interfaces) = array.get(&0, 0).map_err(failed)?;
    Ok(in_use(&interfaces))
}

fn in_use(interfaces: &Interfaces) -> Vec<Slot> {
    let slots = interfaces.index.iter().zip(&interfaces.name);
    let slots = (0..)
        .zip(slots)
        .skip(1)
        .map(|(number, (index, name))| Slot {
            number,
            index: *index,
            name: text(name),
        });
    slots.take_while(|slot| slot.index != 0).collect()
}

/// The new slots, and those whose counters belong to another interface.
///
/// An interface gets the slot of its name, so that its counters continue if it is recreated; else a free
/// slot; else that of an interface that is gone.
fn assign(before: &Interfaces, wanted: &[Interface], links: &[Link]) -> (Interfaces, Vec<u32>) {
    let mut slots: Vec<_> = before.index.into_iter().zip(before.name).skip(1).collect();
    let mut anew = Vec::new();
    for interface in wanted {
        let name = padded(&interface.name);
        for (index, other) in &mut slots {
            if *index == interface.index && *other != name {
                *index = AWAY;
            }
        }
        let is_there = |name| links.iter().any(|link| padded(&link.name) == name);
        let find = |test: &dyn Fn(u32, [u8; NAME]) -> bool| {
            slots.iter().position(|(index, name)| test(*index, *name))
        };
        let found = find(&|index, other| index != 0 && other == name)
            .or_else(|| find(&|index, _| index == 0))
            .or_else(|| find(&|_, other| !is_there(other)));
        let Some((place, slot)) = found.and_then(|place| Some((place, slots.get_mut(place)?)))
        else {
            continue;
        };
        if slot.0 != 0 && slot.1 != name {
            anew.extend(u32::try_from(place + 1));
        }
        *slot = (interface.index, name);
    }
    let mut after = Interfaces::default();
    let attachments = after.index.iter_mut().zip(&mut after.name).skip(1);
    for ((index, name), slot) in attachments.zip(slots) {
        (*index, *name) = slot;
    }
    (after, anew)
}

/// A name with zeros to the end. The kernel has no longer ones.
fn padded(name: &str) -> [u8; NAME] {
    let mut padded = [0; NAME];
    for (to, from) in padded.iter_mut().zip(name.bytes().take(NAME - 1)) {
        *to = from;
    }
    padded
}

fn text(name: &[u8; NAME]) -> String {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: MapError) -> Error {
    Error::failed(
        "can't tell the interfaces' counters apart",
        error.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use ipfilter_ebpf::abi::SLOTS;

    use super::*;

    fn interfaces(named: &[(u32, &str)]) -> Vec<Interface> {
        let interface = |&(index, name): &(u32, &str)| Interface {
            name: name.into(),
            index,
        };
        named.iter().map(interface).collect()
    }

    fn links(named: &[(u32, &str)]) -> Vec<Link> {
        let link = |&(index, name): &(u32, &str)| Link {
            index,
            name: name.into(),
            ethernet: true,
            ..Link::default()
        };
        named.iter().map(link).collect()
    }

    /// What `wanted` come to where just these interfaces are there.
    fn step(before: &Interfaces, there: &[(u32, &str)]) -> (Interfaces, Vec<u32>) {
        assign(before, &interfaces(there), &links(there))
    }

    fn slots(interfaces: &Interfaces) -> Vec<(u32, String)> {
        let slots = in_use(interfaces).into_iter();
        slots.map(|slot| (slot.index, slot.name)).collect()
    }

    #[test]
    fn a_slot_is_its_names() {
        let (first, anew) = step(&Interfaces::default(), &[(7, "in0"), (9, "in1")]);
        assert_eq!(slots(&first), [(7, "in0".into()), (9, "in1".into())]);
        assert_eq!(step(&first, &[(9, "in1"), (7, "in0")]).0, first);
        // Made anew, and another one that has come.
        let (second, none) = step(&first, &[(12, "in0"), (9, "in1"), (13, "in2")]);
        let told = [(12, "in0".into()), (9, "in1".into()), (13, "in2".into())];
        assert_eq!(slots(&second), told);
        // Renamed to a name that another had.
        let (third, _) = step(&second, &[(12, "in1")]);
        let told = [(AWAY, "in0".into()), (12, "in1".into()), (13, "in2".into())];
        assert_eq!(slots(&third), told);
        assert!(anew.is_empty() && none.is_empty());
    }

    #[test]
    fn slots_of_interfaces_that_are_gone_are_given_away_last() {
        let names: Vec<_> = (1..)
            .map(|number| format!("in{number}"))
            .take(SLOTS + 1)
            .collect();
        let many: Vec<_> = (1..).zip(names.iter().map(String::as_str)).collect();
        let (full, anew) = step(&Interfaces::default(), &many);
        assert_eq!(slots(&full).len(), SLOTS - 1, "the first is nobody's");
        assert!(anew.is_empty());
        // The third has gone: its slot and counters go to the first that had none.
        let rest: Vec<_> = many
            .iter()
            .copied()
            .filter(|(index, _)| *index != 3)
            .collect();
        let (next, anew) = step(&full, &rest);
        assert_eq!(anew, [3]);
        assert_eq!(slots(&next).get(2), Some(&(16, "in16".into())));
        // Nothing has: the rest go without.
        assert_eq!(step(&next, &rest), (next, Vec::new()));
    }

    #[test]
    fn long_names_are_kept_as_the_kernel_has_them() {
        assert_eq!(text(&padded("fifteen-letters")), "fifteen-letters");
        assert_eq!(text(&padded("sixteen--letters")), "sixteen--letter");
    }
}
