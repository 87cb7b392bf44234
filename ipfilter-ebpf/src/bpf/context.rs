//! A packet's bytes. The only place with packet pointers.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext,
    cty::c_void,
    helpers::{
        bpf_skb_change_tail, bpf_skb_pull_data, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
        bpf_xdp_get_buff_len,
    },
    programs::{TcContext, XdpContext},
};
use ipfilter_ebpf::{
    reply::{FrameMut, SHIFT_UNIT},
    wire::Frame,
};

/// No header that is looked for lies further into a frame than this. The bound is what lets the
/// verifier accept an offset it can't know.
const MAX_OFFSET: usize = 0x3fff;

/// A packet as one kind of hook has it.
pub trait Packet: EbpfContext {
    /// Whether a packet's headers may be out of sight, and then be [shown](Self::show).
    const HIDES_HEADERS: bool;

    /// The bytes in sight.
    fn buffer(&self) -> Buffer;

    /// The length of the whole frame, in bytes.
    fn len(&self) -> u32;

    /// The number of the interface that it came in by.
    fn interface(&self) -> u32;

    /// Brings the first `wanted` bytes of the frame, whose length is `length`, into sight, or all if
    /// there are fewer, where the hook can do that. Every [`Buffer`] made before is of no use after.
    /// Nothing if there was no room.
    fn show(&self, length: u32, wanted: u32) -> Option<()>;

    /// Makes the frame, whose length is `from`, `to` bytes long, all of them in sight. Every
    /// [`Buffer`] made before is of no use after. Returns how many bytes, a multiple of
    /// [`SHIFT_UNIT`], have come in front of what was there; nothing if there was no room.
    fn resize(&self, from: u32, to: u32) -> Option<u32>;
}

impl Packet for XdpContext {
    const HIDES_HEADERS: bool = false;

    #[inline(always)]
    fn buffer(&self) -> Buffer {
        Buffer {
            start: self.data(),
            end: self.data_end(),
        }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        (self.data_end() - self.data()) as u32
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.ctx).ingress_ifindex }
    }

    /// A driver's first buffer is what it is.
    #[inline(always)]
    fn show(&self, _: u32, _: u32) -> Option<()> {
        Some(())
    }

    /// Grows in front, where drivers keep room (XDP_PACKET_HEADROOM), and only then behind, where
    /// many have none.
    #[inline(always)]
    fn resize(&self, from: u32, to: u32) -> Option<u32> {
        let (from, to) = (from as i32, to as i32);
        // SAFETY: the context is the one this program was called with.
        let adjust_tail = |by| unsafe { bpf_xdp_adjust_tail(self.ctx, by) } == 0;
        if to <= from {
            return adjust_tail(to - from).then_some(0);
        }
        let unit = SHIFT_UNIT as i32;
        let shift = (to - from + unit - 1) & -unit;
        // SAFETY: as above.
        if unsafe { bpf_xdp_adjust_head(self.ctx, -shift) } != 0 {
            return adjust_tail(to - from).then_some(0);
        }
        adjust_tail(to - from - shift).then_some(shift as u32)
    }
}

/// A packet that may lie in several buffers.
pub struct Frags(pub XdpContext);

impl EbpfContext for Frags {
    fn as_ptr(&self) -> *mut c_void {
        self.0.as_ptr()
    }
}

impl Packet for Frags {
    const HIDES_HEADERS: bool = false;

    #[inline(always)]
    fn buffer(&self) -> Buffer {
        self.0.buffer()
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as u32 }
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        self.0.interface()
    }

    #[inline(always)]
    fn show(&self, length: u32, wanted: u32) -> Option<()> {
        self.0.show(length, wanted)
    }

    #[inline(always)]
    fn resize(&self, from: u32, to: u32) -> Option<u32> {
        self.0.resize(from, to)
    }
}

impl Packet for TcContext {
    /// Some drivers hand over no more than the Ethernet header in one piece.
    const HIDES_HEADERS: bool = true;

    #[inline(always)]
    fn buffer(&self) -> Buffer {
        Buffer {
            start: self.data(),
            end: self.data_end(),
        }
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        TcContext::len(self)
    }

    #[inline(always)]
    fn interface(&self) -> u32 {
        // SAFETY: the context is the one this program was called with.
        unsafe { (*self.skb.skb).ifindex }
    }

    /// What a local process sent has its headers in sight, and its data elsewhere.
    #[inline(always)]
    fn show(&self, length: u32, wanted: u32) -> Option<()> {
        let wanted = if wanted < length { wanted } else { length };
        // SAFETY: the context is the one this program was called with.
        (unsafe { bpf_skb_pull_data(self.skb.skb, wanted) } == 0).then_some(())
    }

    #[inline(always)]
    fn resize(&self, _: u32, to: u32) -> Option<u32> {
        let skb = self.skb.skb;
        // SAFETY: the context is the one this program was called with.
        let done =
            unsafe { bpf_skb_change_tail(skb, to, 0) == 0 && bpf_skb_pull_data(skb, to) == 0 };
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

/// A buffer whose offsets the compiler does not know. It then must not work an address out twice,
/// once to check it and once to use it: the verifier would not see that both are the same.
#[derive(Clone, Copy)]
pub struct Scratch(pub Buffer);

impl Scratch {
    #[inline(always)]
    fn at(&self, offset: usize, bytes: usize) -> Option<usize> {
        let offset = opaque(offset);
        if offset > MAX_OFFSET {
            return None;
        }
        let at = opaque(self.0.start + offset);
        (at + bytes <= self.0.end).then_some(at)
    }
}

impl Frame for Scratch {
    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len()
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
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: a register is copied to itself. (Nothing at all would give two lines of debug
    // information to one instruction, which the kernel does not take.)
    unsafe { asm!("{0} = {0}", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// `value`, such that the compiler does not know where it comes from, nor an older verifier what range
/// it is in (that of Linux 6.18 does). Made in the machine's own byte order it is no instruction at all
/// once it is compiled.
#[inline(always)]
pub fn forget(mut value: u64) -> u64 {
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

/// `value`, such that no verifier knows anything of it, if it knows nothing of `verifier_barrier` either.
#[inline(always)]
pub fn verifier_barrier(mut value: u64, verifier_barrier: u64) -> u64 {
    // SAFETY: a register is changed and changed back.
    unsafe {
        asm!(
            "{0} ^= {1}",
            "{0} ^= {1}",
            inout(reg) value,
            in(reg) verifier_barrier,
            options(nomem, nostack, preserves_flags)
        );
    };
    value
}
