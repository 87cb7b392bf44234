//! Captures: pcap and pcapng.

use std::io::Read;

use jiff::Timestamp;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader};

use crate::link::Link;

/// Bytes that one block may have, and that are read at once.
const BUFFER: usize = 1 << 20;

/// The most that a block may have. What claims more is broken, or is no packet that a host would see.
const MOST: usize = 16 << 20;

/// What a capture has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'c> {
    /// A packet, as an Ethernet frame.
    Packet(Packet<'c>),
    /// Something that can't be read: what, and where in the file.
    Unreadable(String),
}

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'c> {
    /// When it came, if the capture says so.
    pub time: Option<Timestamp>,
    /// The frame that the filter would see.
    pub frame: &'c [u8],
    /// Whether the capture has only its beginning.
    pub cut: bool,
    /// Whether the host itself sent it, where the capture says so.
    pub outgoing: bool,
}

/// An interface of a capture.
#[derive(Clone, Copy)]
struct Interface {
    link: Result<Link, i32>,
    /// Units in a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
    /// The most bytes that are kept of a packet; 0 for all.
    most: u32,
}

/// One packet as it is written.
struct Written<'c> {
    interface: usize,
    time: Option<u64>,
    data: &'c [u8],
    length: u32,
}

/// Reads a capture, and hands over what is in it, in its order. What is broken is handed over as such; after it,
/// what follows can't be found.
pub fn read(reader: impl Read + Send, mut take: impl FnMut(Item<'_>)) {
    let mut reader = match create_reader(BUFFER, reader) {
        Ok(reader) => reader,
        Err(error) => return take(Item::Unreadable(broken(&error, 0))),
    };
    let mut state = State::default();
    loop {
        let place = reader.consumed();
        match reader.next() {
            Ok((length, block)) => {
                state.block(&block, place, &mut take);
                reader.consume(length);
            }
            Err(PcapError::Eof) => return,
            Err(PcapError::Incomplete(_)) => {
                if let Err(error) = reader.refill() {
                    return take(Item::Unreadable(broken(&error, place)));
                }
            }
            Err(PcapError::BufferTooSmall) => {
                let larger = reader.data().len().max(BUFFER).saturating_mul(2);
                if larger > MOST || !reader.grow(larger) {
                    let message =
                        format!("at byte {place}: a block claims to be longer than {MOST} bytes");
                    return take(Item::Unreadable(message));
                }
                if let Err(error) = reader.refill() {
                    return take(Item::Unreadable(broken(&error, place)));
                }
            }
            Err(error) => return take(Item::Unreadable(broken(&error, place))),
        }
    }
}

fn broken<I>(error: &PcapError<I>, place: usize) -> String {
    let what = match error {
        PcapError::UnexpectedEof | PcapError::Incomplete(_) | PcapError::Eof => {
            "the capture ends inside a packet"
        }
        PcapError::ReadError => "the file can't be read, or its compression is broken",
        _ => "this is no packet of a capture, and what follows can't be found",
    };
    format!("at byte {place}: {what}")
}

#[derive(Default)]
struct State {
    interfaces: Vec<Interface>,
    /// For frames that are not there as such.
    frame: Vec<u8>,
}

impl State {
    fn block(&mut self, block: &PcapBlockOwned<'_>, place: usize, take: &mut impl FnMut(Item<'_>)) {
        let written = match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.interfaces = vec![Interface {
                    link: link(header.network.0),
                    resolution: if header.is_nanosecond_precision() {
                        1_000_000_000
                    } else {
                        1_000_000
                    },
                    offset: 0,
                    most: header.snaplen,
                }];
                return;
            }
            PcapBlockOwned::Legacy(packet) => {
                let resolution = self.interfaces.first().map_or(1, |it| it.resolution);
                let time = u64::from(packet.ts_sec) * resolution + u64::from(packet.ts_usec);
                Written {
                    interface: 0,
                    time: Some(time),
                    data: packet.data,
                    length: packet.origlen,
                }
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => return self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                self.interfaces.push(Interface {
                    link: link(interface.linktype.0),
                    resolution: resolution(interface.if_tsresol),
                    offset: interface.if_tsoffset,
                    most: interface.snaplen,
                });
                return;
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => Written {
                interface: usize::try_from(packet.if_id).unwrap_or(usize::MAX),
                time: Some((u64::from(packet.ts_high) << 32) | u64::from(packet.ts_low)),
                data: usize::try_from(packet.caplen)
                    .ok()
                    .and_then(|it| packet.data.get(..it))
                    .unwrap_or(packet.data),
                length: packet.origlen,
            },
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                let most = self.interfaces.first().map_or(0, |it| it.most);
                let kept = if most == 0 {
                    packet.origlen
                } else {
                    most.min(packet.origlen)
                };
                let data = usize::try_from(kept)
                    .ok()
                    .and_then(|it| packet.data.get(..it))
                    .unwrap_or(packet.data);
                Written {
                    interface: 0,
                    time: None,
                    data,
                    length: packet.origlen,
                }
            }
            // Names, statistics and the like.
            PcapBlockOwned::NG(_) => return,
        };
        self.packet(&written, place, take);
    }

    fn packet(&mut self, written: &Written<'_>, place: usize, take: &mut impl FnMut(Item<'_>)) {
        let Some(interface) = self.interfaces.get(written.interface).copied() else {
            let message =
                format!("at byte {place}: a packet of an interface that is not described");
            return take(Item::Unreadable(message));
        };
        let link = match interface.link {
            Ok(link) => link,
            Err(number) => {
                let message =
                    format!("at byte {place}: packets of link type {number} are not understood");
                return take(Item::Unreadable(message));
            }
        };
        let Some((frame, outgoing)) = link.frame(written.data, &mut self.frame) else {
            return take(Item::Unreadable(format!(
                "at byte {place}: a packet is too short for its link type"
            )));
        };
        take(Item::Packet(Packet {
            time: written.time.and_then(|time| interface.time(time)),
            frame,
            cut: u32::try_from(written.data.len()).is_ok_and(|captured| captured < written.length),
            outgoing,
        }));
    }
}

impl Interface {
    fn time(self, units: u64) -> Option<Timestamp> {
        let seconds = i64::try_from(units / self.resolution).ok()?;
        let rest =
            u128::from(units % self.resolution) * 1_000_000_000 / u128::from(self.resolution);
        Timestamp::new(seconds.checked_add(self.offset)?, i32::try_from(rest).ok()?).ok()
    }
}

fn link(number: i32) -> Result<Link, i32> {
    // The upper half has the length of a checksum behind the frame, and flags.
    let number = number & 0xffff;
    Link::of(number).ok_or(number)
}

/// Units in a second, from `if_tsresol`: a power of ten or of two.
fn resolution(exponent: u8) -> u64 {
    let power = match exponent & 0x80 {
        0 => 10_u64.checked_pow(exponent.into()),
        _ => 2_u64.checked_pow((exponent & 0x7f).into()),
    };
    power.unwrap_or(1_000_000)
}

#[cfg(test)]
mod tests;
