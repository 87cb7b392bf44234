//! A packet's bytes. The only place with packet pointers.

use aya_ebpf::programs::{TcContext, XdpContext};
use ipfilter_ebpf::wire::Frame;

/// No header that is looked for lies further into a frame than this. The bound is what lets the
/// verifier accept an offset it can't know.
const MAX_OFFSET: usize = 0x3fff;

/// The first buffer of a frame: from the Ethernet header to where the kernel's pointer ends.
pub struct Buffer {
    start: usize,
    end: usize,
}

impl Buffer {
    /// The frame an XDP program was called for.
    #[inline(always)]
    pub fn of_xdp(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// The linear part of the packet a traffic-control program was called for.
    #[inline(always)]
    pub fn of_tc(ctx: &TcContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }
}

impl Frame for Buffer {
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        if offset > MAX_OFFSET || self.start + offset + 2 * N > self.end {
            return None;
        }
        // SAFETY: `start..end` is the packet, readable while the program runs, and the `N` words at
        // `offset` were just found to end before it does. They are aligned: frames begin at an even
        // address (XDP_PACKET_HEADROOM, NET_IP_ALIGN), and `offset` is even.
        Some(unsafe { *((self.start + offset) as *const [u16; N]) })
    }
}
