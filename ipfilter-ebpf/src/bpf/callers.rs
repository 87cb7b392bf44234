//! Remembering the sources that are allowed to call an API.
//!
//! A packet that is not looked at costs a comparison with the kernel's tick counter. The others are judged like
//! packets that are not plain, and the remaining work is in a function of its own.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
};
use ipfilter_ebpf::{
    abi::{AddressKey, Caller, CallerGate, CallerKey, Reason, Reports},
    wire::{
        Frame as _,
        field::{ipv4, ipv6},
    },
};

use super::{
    context::{Packet, Scratch},
    maps::{CALLERS, config, id, reports, subject},
    record::Counters,
    report::{add, begin_second},
};

/// Whether to look at this allowed packet: then [`note`] it.
#[inline(always)]
pub fn is_due(counters: Counters) -> bool {
    // SAFETY: it is this CPU's own, and there is no other reference to it; the helper takes no pointers.
    unsafe { (*counters.caller_gate()).from <= bpf_jiffies64() }
}

/// Counts the subject, which is allowed and not counted yet, under its source.
#[inline(never)]
pub fn note<P: Packet>(packet: P) {
    let packet = packet.apart();
    // SAFETY: nothing that is called from here asks for them too.
    let (Some(subject), Some(reports)) = (unsafe { (subject(), reports()) }) else {
        return;
    };
    let Some(counters) = Counters::of(packet, subject.api) else {
        return;
    };
    let weight = choose(reports, counters);
    if config().callers == 0 || packet.interface() == config().probe_ifindex {
        return;
    }
    let frame = Scratch(packet.buffer());
    let network = subject.network as usize;
    let read = match subject.family {
        4 => frame.read(network + ipv4::SOURCE).map(AddressKey::v4),
        _ => frame.read(network + ipv6::SOURCE).map(AddressKey::v6),
    };
    let Some(source) = read else {
        return;
    };
    let key = CallerKey {
        source,
        api: id(subject.api),
    };
    count(&key, weight, weight * u64::from(subject.bytes));
}

/// Chooses the next packet to look at. Returns how many this one represents.
#[inline(always)]
fn choose(reports: &mut Reports, counters: Counters) -> u64 {
    // SAFETY: the helper takes no pointers.
    let now = unsafe { bpf_jiffies64() };
    begin_second(reports, now);
    let from = if reports.callers_left > 0 {
        reports.callers_left -= 1;
        now
    } else if config().callers == 0 {
        now + u64::from(config().jiffies_per_second)
    } else {
        now + 1
    };
    let packets = counters.packets(Reason::Allowed) + 1;
    // SAFETY: it is this CPU's own, and there is no other reference to it.
    let gate = unsafe { &mut *counters.caller_gate() };
    let weight = packets - gate.seen;
    *gate = CallerGate {
        from,
        seen: packets,
    };
    weight
}

#[inline(always)]
fn count(key: &CallerKey, packets: u64, bytes: u64) {
    // SAFETY: the helper takes no pointers.
    let now = unsafe { bpf_ktime_get_ns() };
    if CALLERS.get_ptr_mut(key).is_none() {
        let caller = Caller {
            packets,
            bytes,
            first: now,
            last: now,
        };
        if CALLERS.insert(key, caller, BPF_NOEXIST.into()).is_ok() {
            return;
        }
        // Another CPU was first.
    }
    if let Some(caller) = CALLERS.get_ptr_mut(key) {
        // SAFETY: as for top sources.
        unsafe {
            add(&raw mut (*caller).packets, packets);
            add(&raw mut (*caller).bytes, bytes);
            (*caller).last = now;
        }
    }
}
