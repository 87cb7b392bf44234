//! Packets as a client would send them, to ask a filter what it would do. No IO.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context as _;
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header,
    SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};

use crate::plan::Protocol;

/// A client's first packet to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The hardware address of the interface that will see it.
    pub mac: [u8; 6],
    /// VLAN ids, the outermost first.
    pub vlans: Vec<u16>,
    /// From where.
    pub source: IpAddr,
    /// To where; of the source's family.
    pub destination: IpAddr,
    /// TCP, for a SYN, or UDP, for a datagram as large as the first one of HTTP/3.
    pub protocol: Protocol,
    /// The destination port.
    pub port: u16,
    /// Which part of a packet that was cut into fragments it is, if it was.
    pub fragment: Option<Fragment>,
}

/// A part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The one with the ports.
    First,
    /// One that has no ports.
    Later,
}

/// A locally administered address.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A port from the range of RFC 6335, section 6, that clients use.
const CLIENT_PORT: u16 = 50_000;

/// The first datagram of a QUIC connection has at least 1,200 bytes (RFC 9000, section 14.1).
const DATAGRAM: usize = 1200;

const HOPS: u8 = 64;

/// Where a later fragment belongs, in units of 8 bytes: after the first of an Ethernet's size.
const LATER: u16 = 185;

impl Packet {
    /// The packet as an Ethernet frame.
    ///
    /// # Errors
    ///
    /// When source and destination are of different families, or a VLAN id is over 4,095.
    pub fn frame(&self) -> anyhow::Result<Vec<u8>> {
        let (ether_type, packet) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                (EtherType::IPV4, self.v4(source, destination)?)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                (EtherType::IPV6, self.v6(source, destination)?)
            }
            _ => anyhow::bail!(
                "`{}` and `{}` are of different families",
                self.source,
                self.destination
            ),
        };
        let mut frame = self.link(ether_type)?;
        frame.extend(packet);
        Ok(frame)
    }

    /// Where the IP packet begins in the frame.
    #[must_use]
    pub fn network(&self) -> usize {
        Ethernet2Header::LEN + self.vlans.len() * SingleVlanHeader::LEN
    }

    /// The Ethernet header and the tags: all but the innermost are service tags (IEEE 802.1ad).
    fn link(&self, payload: EtherType) -> anyhow::Result<Vec<u8>> {
        let tag = |rest: usize| match rest {
            0 => payload,
            1 => EtherType::VLAN_TAGGED_FRAME,
            _ => EtherType::PROVIDER_BRIDGING,
        };
        let count = self.vlans.len();
        let header = Ethernet2Header {
            destination: self.mac,
            source: CLIENT_MAC,
            ether_type: tag(count),
        };
        let mut bytes = header.to_bytes().to_vec();
        for (rest, id) in (0..count).rev().zip(&self.vlans) {
            let header = SingleVlanHeader {
                vlan_id: VlanId::try_new(*id).context("a VLAN id is 0 to 4095")?,
                ether_type: tag(rest),
                ..SingleVlanHeader::default()
            };
            bytes.extend(header.to_bytes());
        }
        Ok(bytes)
    }

    fn v4(&self, source: Ipv4Addr, destination: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
        let [source, destination] = [source.octets(), destination.octets()];
        let transport = self.transport(
            |tcp| tcp.calc_checksum_ipv4_raw(source, destination, &[]),
            |udp, data| udp.calc_checksum_ipv4_raw(source, destination, data),
        )?;
        let length = u16::try_from(transport.len())?;
        let mut header = Ipv4Header::new(length, HOPS, self.number(), source, destination)?;
        if let Some(fragment) = self.fragment {
            header.identification = 1;
            header.dont_fragment = false;
            header.more_fragments = fragment == Fragment::First;
            header.fragment_offset = fragment.offset()?;
        }
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(transport);
        Ok(bytes)
    }

    fn v6(&self, source: Ipv6Addr, destination: Ipv6Addr) -> anyhow::Result<Vec<u8>> {
        let [source, destination] = [source.octets(), destination.octets()];
        let mut payload = self.transport(
            |tcp| tcp.calc_checksum_ipv6_raw(source, destination, &[]),
            |udp, data| udp.calc_checksum_ipv6_raw(source, destination, data),
        )?;
        let mut next_header = self.number();
        if let Some(fragment) = self.fragment {
            let more = fragment == Fragment::First;
            let header = Ipv6FragmentHeader::new(next_header, fragment.offset()?, more, 1);
            payload.splice(0..0, header.to_bytes());
            next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
        }
        let header = Ipv6Header {
            payload_length: u16::try_from(payload.len())?,
            next_header,
            hop_limit: HOPS,
            source,
            destination,
            ..Ipv6Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(payload);
        Ok(bytes)
    }

    fn number(&self) -> IpNumber {
        match self.protocol {
            Protocol::Tcp => IpNumber::TCP,
            Protocol::Udp => IpNumber::UDP,
        }
    }

    /// The transport header and its data, with the checksum that `tcp` or `udp` computes.
    fn transport<E: std::error::Error + Send + Sync + 'static>(
        &self,
        tcp: impl FnOnce(&TcpHeader) -> Result<u16, E>,
        udp: impl FnOnce(&UdpHeader, &[u8]) -> Result<u16, E>,
    ) -> anyhow::Result<Vec<u8>> {
        if self.fragment == Some(Fragment::Later) {
            return Ok(vec![0; 64]);
        }
        let mut bytes = match self.protocol {
            Protocol::Tcp => {
                let mut header = TcpHeader::new(CLIENT_PORT, self.port, 1, u16::MAX);
                header.syn = true;
                header.checksum = tcp(&header)?;
                header.to_bytes().to_vec()
            }
            Protocol::Udp => {
                let data = [0; DATAGRAM];
                let mut header =
                    UdpHeader::without_ipv4_checksum(CLIENT_PORT, self.port, DATAGRAM)?;
                header.checksum = udp(&header, &data)?;
                [&header.to_bytes()[..], &data].concat()
            }
        };
        if self.fragment.is_some() {
            // Every fragment but the last is a multiple of 8 bytes long.
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        Ok(bytes)
    }
}

impl Fragment {
    fn offset(self) -> anyhow::Result<IpFragOffset> {
        Ok(IpFragOffset::try_new(match self {
            Self::First => 0,
            Self::Later => LATER,
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipfilter_ebpf::wire;

    fn packet(source: &str) -> Packet {
        let source: IpAddr = source.parse().unwrap();
        Packet {
            mac: [2, 0, 0, 0, 0, 2],
            vlans: Vec::new(),
            source,
            destination: source,
            protocol: Protocol::Tcp,
            port: 443,
            fragment: None,
        }
    }

    struct Content;

    impl wire::Judge for Content {
        type Verdict = wire::Packet;
        fn judge(self, packet: wire::Packet) -> wire::Packet {
            packet
        }
    }

    fn content(packet: &Packet) -> wire::Content {
        let frame = packet.frame().unwrap();
        match wire::parse(frame.as_slice(), Content) {
            wire::Packet::Ip(datagram) => {
                assert_eq!(datagram.network, packet.network());
                datagram.content
            }
            other => panic!("{packet:?}: {other:?}"),
        }
    }

    #[test]
    fn the_filter_reads_what_is_built() {
        for source in ["198.51.100.7", "2001:db8::7"] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for tags in 0..=4 {
                    let whole = Packet {
                        protocol,
                        vlans: (1..=tags).collect(),
                        ..packet(source)
                    };
                    let first = Packet {
                        fragment: Some(Fragment::First),
                        ..whole.clone()
                    };
                    for packet in [&whole, &first] {
                        let wire::Content::Segment(segment) = content(packet) else {
                            panic!("{packet:?}");
                        };
                        assert_eq!(segment.port, 443);
                        assert_eq!(segment.fragment, packet.fragment.is_some());
                        assert_eq!(
                            segment.protocol == wire::Protocol::Tcp,
                            protocol == Protocol::Tcp
                        );
                    }
                    let later = Packet {
                        fragment: Some(Fragment::Later),
                        ..whole
                    };
                    assert_eq!(content(&later), wire::Content::LaterFragment);
                }
            }
        }
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mixed = Packet {
            destination: "::1".parse().unwrap(),
            ..packet("192.0.2.1")
        };
        let tagged = Packet {
            vlans: vec![4096],
            ..packet("192.0.2.1")
        };
        assert!(mixed.frame().is_err() && tagged.frame().is_err());
    }
}
