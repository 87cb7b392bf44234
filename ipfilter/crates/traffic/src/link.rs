//! What comes before the IP packet in a capture, and the Ethernet frame that the filter would see.

/// Bytes of the hardware addresses at the beginning of a frame.
const ADDRESSES: usize = 12;

/// A link type (<https://www.tcpdump.org/linktypes.html>) whose packets can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Ethernet: frames as they are.
    Ethernet,
    /// A bare IP packet.
    Raw,
    /// Linux "cooked", version 1: of `any`.
    Cooked,
    /// The same, version 2.
    Cooked2,
}

/// The packet type of a cooked header for what the host itself sent.
const OUTGOING: u8 = 4;

impl Link {
    pub(crate) fn of(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            12 | 14 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// The frame that the filter would see, made in `frame` if it is not there; and whether the host sent it, where
    /// the capture says so. None if the packet is too short to say what it is.
    pub(crate) fn frame<'p>(
        self,
        packet: &'p [u8],
        frame: &'p mut Vec<u8>,
    ) -> Option<(&'p [u8], bool)> {
        let (header, ethertype, kind) = match self {
            Self::Ethernet => return Some((packet, false)),
            Self::Raw => {
                let ethertype = match packet.first()? >> 4 {
                    6 => [0x86, 0xdd],
                    _ => [0x08, 0x00],
                };
                (0, ethertype, 0)
            }
            Self::Cooked => (16, [*packet.get(14)?, *packet.get(15)?], *packet.get(1)?),
            Self::Cooked2 => (20, [*packet.first()?, *packet.get(1)?], *packet.get(10)?),
        };
        frame.clear();
        frame.resize(ADDRESSES, 0);
        frame.extend(ethertype);
        frame.extend(packet.get(header..)?);
        Some((frame, kind == OUTGOING))
    }
}
