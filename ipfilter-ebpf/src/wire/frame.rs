//! A frame's bytes, and where the IP packet in it ends.

/// A frame's readable bytes: all of them, or those of the first buffer.
///
/// Headers are read in 16-bit words. Everything the parser reads is at an even offset; the kernel
/// aligns frames to even addresses, and promises no more.
pub trait Frame {
    /// The number of readable bytes.
    fn len(&self) -> usize;

    /// The `N` words that begin `offset` bytes into the frame, in network byte order, if all of
    /// them are readable. `offset` is even.
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]>;

    /// The byte that is `offset` bytes into the frame, if it is readable.
    fn read_byte(&self, offset: usize) -> Option<u8>;

    /// `place`, such that the kernel's verifier no longer knows how it was arrived at: it then goes once, rather
    /// than once for each way to it, through what is read from there on.
    #[inline(always)]
    fn barrier(&self, place: usize) -> usize {
        place
    }

    /// Whether no byte is readable.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        let (bytes, _) = self.get(offset..)?.as_chunks::<2>();
        Some(bytes.first_chunk::<N>()?.map(u16::from_ne_bytes))
    }

    fn read_byte(&self, offset: usize) -> Option<u8> {
        self.get(offset).copied()
    }
}

/// A frame's readable bytes up to the end of the IP packet in it. Everything behind an IP header is
/// read through this.
pub(super) struct Bounded<'a, F: ?Sized> {
    pub(super) frame: &'a F,
    /// Where the packet ends by its IP header, in bytes from the start of the frame.
    pub(super) end: usize,
}

/// The end of a packet whose IP header has a length of zero.
const FRAME_END: usize = u32::MAX as usize;

impl<'a, F: Frame + ?Sized> Bounded<'a, F> {
    /// Bounds reads to `length` bytes from `start` on.
    ///
    /// A length of zero is what IPv6 jumbograms have (RFC 2675), and what Linux gives to packets of more
    /// than 65,535 bytes that receive offload has put together (BIG TCP). Both end with the frame. Of
    /// any other packet with that length the host delivers nothing, so where it ends does not matter.
    #[inline(always)]
    pub(super) const fn new(frame: &'a F, start: usize, length: u16) -> Self {
        let end = if length == 0 {
            FRAME_END
        } else {
            start + length as usize
        };
        Self { frame, end }
    }

    /// Whether the IP header has a length.
    #[inline(always)]
    pub(super) const fn has_length(&self) -> bool {
        self.end != FRAME_END
    }
}

impl<F: Frame + ?Sized> Frame for Bounded<'_, F> {
    #[inline(always)]
    fn len(&self) -> usize {
        let length = self.frame.len();
        if self.end < length { self.end } else { length }
    }

    #[inline(always)]
    fn read<const N: usize>(&self, offset: usize) -> Option<[u16; N]> {
        if offset + 2 * N > self.end {
            return None;
        }
        self.frame.read(offset)
    }

    #[inline(always)]
    fn read_byte(&self, offset: usize) -> Option<u8> {
        if offset >= self.end {
            return None;
        }
        self.frame.read_byte(offset)
    }

    #[inline(always)]
    fn barrier(&self, place: usize) -> usize {
        self.frame.barrier(place)
    }
}
