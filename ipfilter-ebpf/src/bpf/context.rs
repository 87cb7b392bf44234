//! A packet's bytes. The only place with packet pointers.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext,
    bindings::{__sk_buff, xdp_md},
    cty::c_void,
    helpers::{
        bpf_skb_change_tail, bpf_skb_pull_data, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        bpf_xdp_get_buff_len,
    },
};
use ipfilter_ebpf::{
    reply::{FrameMut, SHIFT_UNIT},
    wire::{Frame, plain::Head},
};

/// No header that is looked for lies further into a frame than this. The bound is what lets the
/// verifier accept an offset it can't know.
const MAX_OFFSET: usize = 0x3fff;

/// A packet as one kind of hook has it.
pub trait Packet: EbpfContext + Copy {
    /// Whether a packet's headers may be out of sight, and then be [pulled](Self::pull).
    const HIDES_HEADERS: bool;

    /// The same packet. A function that is not inlined looks at this one: else the compiler has its callers
    /// read from the context what it needs, and hand over numbers that the verifier takes for no pointers.
    fn apart(self) -> Self;

    /// The bytes in sight.
    fn buffer(self) -> Buffer;

    /// The length of the whole frame, in bytes.
    fn len(self) -> u32;

    /// The same, where it takes no call to know: of a packet that ends in `buffer`, which has all bytes in
    /// sight.
    fn len_of(self, buffer: Buffer) -> Option<u64>;

    /// The number of the interface that it came in by.
    fn interface(self) -> u32;

    /// Brings the first `wanted` bytes of the frame, whose length is `length`, into sight, or all if
    /// there are fewer, where the hook can do that. Every [`Buffer`] made before is of no use after.
    /// Nothing if there was no room.
    fn pull(self, length: u32, wanted: u32) -> Option<()>;

    /// Makes the frame, whose length is `from`, `to` bytes long, all of them in sight. Every
    /// [`Buffer`] made before is of no use after. Returns how many bytes, a multiple of
    /// [`SHIFT_UNIT`], have come in front of what was there; nothing if there was no room.
    fn resize(self, from: u32, to: u32) -> Option<u32>;
}

/// A packet in one buffer, as drivers hand it to XDP.
#[derive(Clone, Copy)]
pub struct Xdp(pub *mut xdp_md);

impl EbpfContext for Xdp {
    fn as_ptr(&self) -> *mut c_void {
        self.0.cast()
    }
}

impl Packet for Xdp {
    const HIDES_HEADERS: bool = false;

    #[inline(always)]
    fn apart(self) -> Self {
        Self(hidden(self.0).cast_mut())
    }

    #[inline(always)]
    fn buffer(self) -> Buffer {
        // SAFETY: the context is the one this program was called with.
        let (start, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        Buffer {
            start: start as usize,
            end: end as usize,
        }
    }

    #[inline(always)]
    fn len(self) -> u32 {
        Frame::len(&self.buffer()) as u32
    }

    #[inline(always)]
    fn len_of(self, buffer: Buffer) -> Option<u64> {
        Some(buffer.size())
    }

    #[inline(always)]
    fn interface(self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// A driver's first buffer is what it is.
    #[inline(always)]
    fn pull(self, _: u32, _: u32) -> Option<()> {
        Some(())
    }

    /// Grows in front, where drivers keep room (XDP_PACKET_HEADROOM), and only then behind, where
    /// many have none.
    #[inline(always)]
    fn resize(self, from: u32, to: u32) -> Option<u32> {
        let (from, to) = (from as i32, to as i32);
        // SAFETY: the context is the one this program was called with.
        let adjust_tail = |by| unsafe { bpf_xdp_adjust_tail(self.0, by) } == 0;
        if to <= from {
            return adjust_tail(to - from).then_some(0);
        }
        let unit = SHIFT_UNIT as i32;
        let shift = (to - from + unit - 1) & -unit;
        // SAFETY: as above.
        if unsafe { bpf_xdp_adjust_head(self.0, -shift) } != 0 {
            return adjust_tail(to - from).then_some(0);
        }
        adjust_tail(to - from - shift).then_some(shift as u32)
    }
}

/// A packet that may lie in several buffers.
#[derive(Clone, Copy)]
pub struct Frags(pub Xdp);

/// The first of several buffers has at least as many bytes: a driver begins another when one is full.
const FIRST_OF_SEVERAL: u64 = 1600;

impl EbpfContext for Frags {
    fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Packet for Frags {
    const HIDES_HEADERS: bool = false;

    #[inline(always)]
    fn apart(self) -> Self {
        Self(self.0.apart())
    }

    #[inline(always)]
    fn buffer(self) -> Buffer {
        self.0.buffer()
    }

    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.0.0) as u32 }
    }

    #[inline(always)]
    fn len_of(self, buffer: Buffer) -> Option<u64> {
        let len = buffer.size();
        (len < FIRST_OF_SEVERAL).then_some(len)
    }

    #[inline(always)]
    fn interface(self) -> u32 {
        self.0.interface()
    }

    #[inline(always)]
    fn pull(self, length: u32, wanted: u32) -> Option<()> {
        self.0.pull(length, wanted)
    }

    #[inline(always)]
    fn resize(self, from: u32, to: u32) -> Option<u32> {
        self.0.resize(from, to)
    }
}

/// A packet as traffic control has it.
#[derive(Clone, Copy)]
pub struct Tc(pub *mut __sk_buff);

impl EbpfContext for Tc {
    fn as_ptr(&self) -> *mut c_void {
        self.0.cast()
    }
}

impl Packet for Tc {
    /// Some drivers hand over no more than the Ethernet header in one piece.
    const HIDES_HEADERS: bool = true;

    #[inline(always)]
    fn apart(self) -> Self {
        Self(hidden(self.0).cast_mut())
    }

    #[inline(always)]
    fn buffer(self) -> Buffer {
        // SAFETY: the context is the one this program was called with.
        let (start, end) = unsafe { ((*self.0).data, (*self.0).data_end) };
        Buffer {
            start: start as usize,
            end: end as usize,
        }
    }

    #[inline(always)]
    fn len(self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn len_of(self, _: Buffer) -> Option<u64> {
        Some(self.len().into())
    }

    #[inline(always)]
    fn interface(self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.0).ifindex }
    }

    /// What a local process sent has its headers in sight, and its data elsewhere.
    #[inline(always)]
    fn pull(self, length: u32, wanted: u32) -> Option<()> {
        let wanted = if wanted < length { wanted } else { length };
        // SAFETY: the context is the one this program was called with.
        (unsafe { bpf_skb_pull_data(self.0, wanted) } == 0).then_some(())
    }

    #[inline(always)]
    fn resize(self, _: u32, to: u32) -> Option<u32> {
        // SAFETY: the context is the one this program was called with.
        let done = unsafe {
            bpf_skb_change_tail(self.0, to, 0) == 0 && bpf_skb_pull_data(self.0, to) == 0
        };
        done.then_some(0)
    }
}

/// The first buffer of a frame: from the Ethernet header to where the kernel's pointer ends.
#[derive(Clone, Copy)]
pub struct Buffer {
    start: usize,
    end: usize,
}

impl Buffer {
    /// The address of `bytes` bytes, `offset` bytes into the frame, if they are in sight.
    #[inline(always)]
    fn at(&self, offset: usize, bytes: usize) -> Option<usize> {
        if offset > MAX_OFFSET || self.start + offset + bytes > self.end {
            return None;
        }
        Some(self.start + offset)
    }
}

impl Frame for Buffer {
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let at = self.at(offset, 2 * N)?;
        // SAFETY: `start..end` is the packet, readable while the program runs, and the `N` words at
        // `offset` were just found to end before it does. They are aligned: frames begin at an even
        // address (XDP_PACKET_HEADROOM, NET_IP_ALIGN), and `offset` is even.
        Some(unsafe { *(at as *const [u16; N]) })
    }

    #[inline(always)]
    fn read_byte(&self, offset: usize) -> Option<u8> {
        let at = self.at(offset, 1)?;
        // SAFETY: as for `read`; a byte is always aligned.
        Some(unsafe { *(at as *const u8) })
    }
}

/// One load at a constant place behind a register. Written out, as the compiler would make several of a load
/// that it can't take to be aligned; the machines that the programs run on do not mind.
macro_rules! load {
    ($size:literal, $base:expr, $at:expr) => {{
        let value: u64;
        // SAFETY: the callers' word that so many bytes are there, which the kernel's verifier checks again.
        unsafe {
            asm!(
                concat!("{0} = *(", $size, " *)({1} + {2})"),
                out(reg) value,
                in(reg) $base,
                const $at,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        value
    }};
}

impl Head for Buffer {
    #[inline(always)]
    fn has<const BYTES: usize>(self) -> bool {
        self.start + BYTES <= self.end
    }

    #[inline(always)]
    fn size(self) -> u64 {
        (self.end - self.start) as u64
    }

    #[inline(always)]
    fn byte<const AT: usize>(self) -> u64 {
        load!("u8", self.start, AT)
    }

    #[inline(always)]
    fn half<const AT: usize>(self) -> u64 {
        load!("u16", self.start, AT)
    }

    #[inline(always)]
    fn word<const AT: usize>(self) -> u64 {
        load!("u32", self.start, AT)
    }

    #[inline(always)]
    fn double<const AT: usize>(self) -> u64 {
        load!("u64", self.start, AT)
    }

    #[inline(always)]
    fn behind<const BYTES: usize>(self) -> Self {
        Self {
            start: self.start + BYTES,
            end: self.end,
        }
    }
}

/// A buffer whose offsets the compiler does not know. It then must not work an address out twice,
/// once to check it and once to use it: the verifier would not see that both are the same.
#[derive(Clone, Copy)]
pub struct Scratch(pub Buffer);

impl Scratch {
    #[inline(always)]
    fn at(&self, offset: usize, bytes: usize) -> Option<usize> {
        let offset = optimizer_barrier(offset);
        if offset > MAX_OFFSET {
            return None;
        }
        let at = optimizer_barrier(self.0.start + offset);
        (at + bytes <= self.0.end).then_some(at)
    }
}

impl Frame for Scratch {
    #[inline(always)]
    fn len(&self) -> usize {
        Frame::len(&self.0)
    }

    #[inline(always)]
    fn barrier(&self, place: usize) -> usize {
        verifier_barrier(place as u64, self.0.size()) as usize
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let at = self.at(offset, 2 * N)?;
        // SAFETY: as for `Buffer`.
        Some(unsafe { *(at as *const [u16; N]) })
    }

    #[inline(always)]
    fn read_byte(&self, offset: usize) -> Option<u8> {
        let at = self.at(offset, 1)?;
        // SAFETY: as for `Buffer`.
        Some(unsafe { *(at as *const u8) })
    }
}

impl FrameMut for Scratch {
    #[inline(always)]
    fn write<const N: usize>(&mut self, offset: usize, words: [u16; N]) -> Option<()> {
        let at = self.at(offset, 2 * N)?;
        // SAFETY: as for `Buffer`; the packet is this program's to write to while it runs, and no
        // reference into it is ever held.
        unsafe { *(at as *mut [u16; N]) = words };
        Some(())
    }

    #[inline(always)]
    fn write_byte(&mut self, offset: usize, byte: u8) -> Option<()> {
        let at = self.at(offset, 1)?;
        // SAFETY: as for `write`.
        unsafe { *(at as *mut u8) = byte };
        Some(())
    }
}

/// `value`, such that the compiler does not know where it comes from, and so must use the very
/// register that it has checked.
#[inline(always)]
pub fn optimizer_barrier(mut value: usize) -> usize {
    // SAFETY: a register is copied to itself. (Nothing at all would give two lines of debug
    // information to one instruction, which the kernel does not take.)
    unsafe { asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// `value`, such that the compiler does not know where it comes from, nor an older verifier what range
/// it is in (that of Linux 6.18 does). Made in the machine's own byte order it is no instruction at all
/// once it is compiled.
#[inline(always)]
pub fn range_barrier(mut value: u64) -> u64 {
    // SAFETY: a register is converted to the byte order that it has: its value stays what it is.
    #[cfg(target_endian = "little")]
    unsafe {
        asm!("{0} = le64 {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    };
    // SAFETY: as above.
    #[cfg(target_endian = "big")]
    unsafe {
        asm!("{0} = be64 {0}", inout(reg) value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// `value`, such that no verifier knows anything of it, if it knows nothing of `unknown` either.
#[inline(always)]
pub fn verifier_barrier(mut value: u64, unknown: u64) -> u64 {
    // SAFETY: a register is changed and changed back.
    unsafe {
        asm!(
            "{0} ^= {1}",
            "{0} ^= {1}",
            inout(reg) value,
            in(reg) unknown,
            options(nomem, nostack, preserves_flags)
        );
    };
    value
}

/// A place that the compiler does not know what is at, nor where it is: what is read behind it is one
/// instruction each, and none if nobody needs it.
#[inline(always)]
pub fn hidden<T>(place: *const T) -> *const T {
    let mut place = place;
    // SAFETY: a register is copied to itself.
    unsafe {
        asm!("{0} = {0}", inout(reg) place, options(pure, nomem, nostack, preserves_flags));
    };
    place
}
