//! Denied packets that pass, because their API denies only a share of sources.

use ipfilter_ebpf::{
    share::{client_v4, client_v6, place},
    wire::{
        Frame as _,
        field::{ipv4, ipv6},
    },
};

use super::{
    context::{Packet, Scratch},
    maps::{id, share, subject},
};

/// Whether the subject, which may not call its API, passes all the same: 1 or 0. In doubt it does not.
#[inline(never)]
pub fn spares<P: Packet>(packet: P) -> u32 {
    let packet = packet.apart();
    // SAFETY: nothing that is called from here asks for it too.
    let Some(subject) = (unsafe { subject() }) else {
        return 0;
    };
    let share = share(subject.api);
    if share == 0 {
        return 1;
    }
    let frame = Scratch(packet.buffer());
    let network = subject.network as usize;
    let client = match subject.family {
        4 => frame.read(network + ipv4::SOURCE).map(client_v4),
        _ => frame.read(network + ipv6::SOURCE).map(client_v6),
    };
    match client {
        Some(client) if place(id(subject.api), client) >= share => 1,
        _ => 0,
    }
}
