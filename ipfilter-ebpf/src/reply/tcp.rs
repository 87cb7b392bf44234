//! Answers to TCP segments.

use super::{FrameMut, fold, sum, write_ethernet, write_ip};
use crate::wire::{
    Family, Frame,
    field::{protocol, tcp},
    packet_end,
};

/// Bytes in a TCP header as answers have it: without options.
#[expect(clippy::cast_possible_truncation, reason = "it is 20")]
const TCP_LEN: u16 = tcp::LEN as u16;

/// Bits of a TCP header's flags (RFC 9293, section 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
}

use flags::{ACK, FIN, PSH, RST, SYN};

/// The window a SYN-ACK offers over IPv4: the one segment that a sender may fill when it has been
/// told no other maximum (RFC 9293, section 3.7.1), so that a request comes in one piece and what
/// does not fit stays with the sender.
pub const WINDOW_V4: u16 = 536;
/// As [`WINDOW_V4`], over IPv6.
pub const WINDOW_V6: u16 = 1220;

/// What counts of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// [`flags`].
    pub flags: u8,
    /// Bytes of data. Padding behind the packet is none.
    pub data: u32,
    /// The first four bytes of data; of fewer the first one, and zeros.
    pub begins: [u8; 4],
}

impl Tcp {
    /// The segment whose IP header begins at `network` and whose TCP header begins at `transport`, in a
    /// frame of `length` bytes, those out of sight included.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(
        frame: &F,
        family: Family,
        (network, transport): (usize, usize),
        length: usize,
    ) -> Option<Self> {
        let [_, _, s0, s1, a0, a1, offset_flags] = frame.read(transport)?;
        let [offset, flags] = offset_flags.to_ne_bytes();
        let begins_at = transport + usize::from(offset >> 4) * 4;
        let end = packet_end(frame, family, network, length)?;
        let data = end.saturating_sub(begins_at);
        let begins = match data {
            0 => [0; 4],
            1..4 => [frame.read_byte(begins_at).unwrap_or(0), 0, 0, 0],
            _ => {
                let [first, second] = frame.read(begins_at).unwrap_or([0; 2]);
                let ([b0, b1], [b2, b3]) = (first.to_ne_bytes(), second.to_ne_bytes());
                [b0, b1, b2, b3]
            }
        };
        Some(Self {
            sequence: number(s0, s1),
            acknowledgement: number(a0, a1),
            flags,
            data: u32::try_from(data).ok()?,
            begins,
        })
    }

    #[inline(always)]
    fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// The sequence number behind the segment: SYN and FIN take one each.
    #[inline(always)]
    fn next(&self) -> u32 {
        self.sequence
            .wrapping_add(self.data)
            .wrapping_add(u32::from(self.has(SYN)))
            .wrapping_add(u32::from(self.has(FIN)))
    }
}

#[inline(always)]
fn number(high: u16, low: u16) -> u32 {
    u32::from(u16::from_be(high)) << 16 | u32::from(u16::from_be(low))
}

/// What of a TCP header an answer chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// [`flags`].
    pub flags: u8,
    /// Window, in bytes.
    pub window: u16,
}

/// What an answer says to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// HTTP 403 with its body.
    Forbidden,
    /// HTTP 403 without its body: the request was a HEAD.
    ForbiddenHead,
    /// A fatal TLS alert, `access_denied`.
    Alert,
}

/// What is answered to a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Silence,
    /// A reset.
    Reset(Header),
    /// The second step of a handshake.
    SynAck(Header),
    /// Data, and the end of the connection.
    Data(Data, Header),
}

/// Lengths of what is answered, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Responses {
    /// HTTP 403 with its body.
    pub forbidden: u16,
    /// HTTP 403 without its body.
    pub head: u16,
    /// The TLS alert.
    pub alert: u16,
}

/// The reset for a segment that has no connection: RFC 9293, section 3.10.7.1. Nothing for a reset.
#[inline(always)]
#[must_use]
pub fn reset(tcp: &Tcp) -> Answer {
    if tcp.has(RST) {
        return Answer::Silence;
    }
    Answer::Reset(if tcp.has(ACK) {
        Header {
            sequence: tcp.acknowledgement,
            acknowledgement: 0,
            flags: RST,
            window: 0,
        }
    } else {
        Header {
            sequence: 0,
            acknowledgement: tcp.next(),
            flags: RST | ACK,
            window: 0,
        }
    })
}

/// The next step of a conversation that ends with a refusal, and of which nothing is remembered.
///
/// `cookies` are those of the connection in the present time slot and in the one before.
///
/// - A SYN gets a SYN-ACK whose sequence number is the cookie.
/// - Data that acknowledges just that gets the refusal and a FIN. The data is not acknowledged: its
///   sender will send it again if it stays, and is then reset; and because it waits for that, it
///   does not take the short way of probing a closed window for ever.
/// - Bare acknowledgements of the SYN-ACK and of the refusal get silence: a reset would meet a
///   client that is still busy sending, which would then not read the refusal.
/// - Anything else is reset, so that neither side keeps state.
#[inline(always)]
#[must_use]
pub fn respond(tcp: &Tcp, family: Family, cookies: [u32; 2], responses: &Responses) -> Answer {
    if tcp.flags & (SYN | ACK | RST | FIN) == SYN {
        let [now, _] = cookies;
        return Answer::SynAck(Header {
            sequence: now,
            acknowledgement: tcp.sequence.wrapping_add(1),
            flags: SYN | ACK,
            window: match family {
                Family::V4 => WINDOW_V4,
                Family::V6 => WINDOW_V6,
            },
        });
    }
    if tcp.flags & (SYN | ACK | RST) != ACK {
        return reset(tcp);
    }
    let [now, before] =
        cookies.map(|cookie| tcp.acknowledgement.wrapping_sub(cookie).wrapping_sub(1));
    if tcp.data > 0 && (now == 0 || before == 0) {
        return refuse(tcp);
    }
    if tcp.data == 0 && !tcp.has(FIN) && (is_ours(now, responses) || is_ours(before, responses)) {
        return Answer::Silence;
    }
    reset(tcp)
}

/// Whether we have sent just `sent` bytes, counted from behind the SYN.
#[inline(always)]
fn is_ours(sent: u32, responses: &Responses) -> bool {
    let with_fin = |length: u16| u32::from(length) + 1;
    sent == 0
        || sent == with_fin(responses.forbidden)
        || sent == with_fin(responses.head)
        || sent == with_fin(responses.alert)
}

#[inline(always)]
fn refuse(tcp: &Tcp) -> Answer {
    /// RFC 8446, section 5.1: the type of a record with a handshake message in it.
    const HANDSHAKE: u8 = 22;
    let data = match tcp.begins {
        [HANDSHAKE, ..] => Data::Alert,
        [b'H', b'E', b'A', b'D'] => Data::ForbiddenHead,
        _ => Data::Forbidden,
    };
    Answer::Data(
        data,
        Header {
            sequence: tcp.acknowledgement,
            acknowledgement: tcp.sequence,
            flags: FIN | PSH | ACK,
            window: 0,
        },
    )
}

/// Makes the answer of a frame that begins `shift` bytes further on, a multiple of [`super::SHIFT_UNIT`]: its headers, for `length` bytes
/// of data whose sum is `data_sum`. `network` is where the IP header begins in either; the ports are
/// the packet's. The data itself belongs behind the headers, [`Family::header_len`] and 20
/// bytes from `network`.
#[inline(always)]
pub fn write_tcp<F: FrameMut + ?Sized>(
    frame: &mut F,
    (shift, network): (usize, usize),
    family: Family,
    [to, from]: [u16; 2],
    header: &Header,
    (length, data_sum): (u16, u16),
) -> Option<()> {
    write_ethernet(frame, shift)?;
    let pseudo = write_ip(
        frame,
        shift,
        network,
        family,
        protocol::TCP,
        TCP_LEN + length,
    )?;
    let [s0, s1] = words(header.sequence);
    let [a0, a1] = words(header.acknowledgement);
    let offset_flags = u16::from_ne_bytes([5 << 4, header.flags]);
    let window = header.window.to_be();
    let own = sum(&[from, to, s0, s1, a0, a1, offset_flags, window]);
    let checksum = !fold(pseudo + own + u32::from(data_sum));
    let header = [from, to, s0, s1, a0, a1, offset_flags, window, checksum, 0];
    frame.write(network + family.header_len(), header)
}

#[inline(always)]
fn words(number: u32) -> [u16; 2] {
    let [a, b, c, d] = number.to_be_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}
