//! The secret keys of the cookies that `respond` hands out.
//!
//! Each time slot has a key of its own; while one is in use, the next one's is written. A deployment
//! takes over the keys of the one before, so that no conversation breaks off at a reload.

use std::borrow::BorrowMut;

use aya::maps::{Array, Map, MapData, MapError};
use ipfilter_ebpf::{
    abi::{KEYS_LEN, SLOT_SHIFT, key_index},
    reply::Key,
};
use rustix::time::{ClockId, clock_gettime};

use super::{error::Error, pins::Pins, shared, sys::Raw};

/// Gives a key to every slot that has none.
pub(super) fn fill(map: &mut Map) -> Result<(), Error> {
    let mut keys = Array::<_, Raw<Key>>::try_from(map).map_err(failed)?;
    for index in 0..KEYS_LEN {
        let Raw(key) = keys.get(&index, 0).map_err(failed)?;
        if key == Key::default() {
            put(&mut keys, index)?;
        }
    }
    Ok(())
}

/// Gives the next slot a new key.
pub(super) fn rotate(pins: &Pins) -> Result<(), Error> {
    let map = pins.map(&shared::KEYS)?;
    let mut keys = Array::<_, Raw<Key>>::try_from(map).map_err(failed)?;
    put(&mut keys, key_index(present_slot().wrapping_add(1)))
}

/// The slot that the kernel's clock is in: the same that BPF programs read.
fn present_slot() -> u32 {
    let now = clock_gettime(ClockId::Monotonic);
    let nanoseconds = now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned();
    u32::try_from(nanoseconds >> SLOT_SHIFT & u64::from(u32::MAX)).unwrap_or(0)
}

fn put<T: BorrowMut<MapData>>(keys: &mut Array<T, Raw<Key>>, index: u32) -> Result<(), Error> {
    let random =
        || getrandom::u64().map_err(|error| Error::failed("no random numbers", error.to_string()));
    let key = Key {
        first: random()?,
        last: random()?,
    };
    keys.set(index, Raw(key), 0).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn failed(error: MapError) -> Error {
    Error::failed("can't renew the keys of `respond`", error.to_string())
}
