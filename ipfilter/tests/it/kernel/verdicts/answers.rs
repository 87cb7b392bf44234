//! Frames that a program emitted, taken apart by another library.

use etherparse::{NetSlice, SlicedPacket, TcpHeader, TransportSlice};
use ipfilter_ebpf::abi::Reason;

use super::equivalence::Got;

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Said {
    Tcp(Box<TcpHeader>, Vec<u8>),
    Prohibited,
}

/// Checks what every answer to `cause` must hold.
pub(crate) fn check(cause: &[u8], got: &Got) -> Said {
    let (tags, cause) = split(cause);
    let (answered_tags, answer) = split(&got.frame);
    assert_eq!(tags, answered_tags);
    let (cause, answer) = (cause.as_slice(), answer.as_slice());
    if !matches!(got.reason, Reason::Forbidden | Reason::TlsAlert) {
        assert!(answer.len() <= cause.len(), "it amplifies: {got:x?}");
    }
    assert_eq!(answer[..6], cause[6..12], "to whom it came from");
    assert_eq!(answer[6..12], cause[..6], "from whom it went to");
    let sliced = SlicedPacket::from_ethernet(answer).expect("a packet");
    let asked = Ends::of_cause(cause);
    match (
        sliced.net.expect("IP"),
        sliced.transport.expect("a transport"),
    ) {
        (net, TransportSlice::Tcp(tcp)) => {
            let (source, destination, sum) = match &net {
                NetSlice::Ipv4(ip) => {
                    let header = ip.header();
                    assert_eq!(
                        header.header_checksum(),
                        header.to_header().calc_header_checksum()
                    );
                    let ends = (header.source(), header.destination());
                    let sum = tcp.calc_checksum_ipv4(ends.0, ends.1).expect("a sum");
                    (ends.0.to_vec(), ends.1.to_vec(), sum)
                }
                NetSlice::Ipv6(ip) => {
                    let ends = (ip.header().source(), ip.header().destination());
                    let sum = tcp.calc_checksum_ipv6(ends.0, ends.1).expect("a sum");
                    (ends.0.to_vec(), ends.1.to_vec(), sum)
                }
                NetSlice::Arp(_) => panic!("not IP"),
            };
            assert_eq!(tcp.checksum(), sum, "{got:x?}");
            assert_eq!((source, destination), (asked.destination, asked.source));
            let ports = [tcp.destination_port(), tcp.source_port()];
            assert_eq!(ports, asked.ports);
            Said::Tcp(Box::new(tcp.to_header()), tcp.payload().to_vec())
        }
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            let ends = (header.source().to_vec(), header.destination().to_vec());
            assert_eq!(ends, (asked.destination, asked.source));
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 13));
            let sum = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), sum);
            assert_eq!(icmp.payload(), &cause[14..][..28]);
            Said::Prohibited
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let header = ip.header();
            let ends = (header.source().to_vec(), header.destination().to_vec());
            assert_eq!(ends, (asked.destination, asked.source));
            assert_eq!((icmp.type_u8(), icmp.code_u8()), (1, 1));
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            assert_eq!(icmp.payload(), &cause[14..][..48]);
            Said::Prohibited
        }
        other => panic!("an answer nobody asked for: {other:?}"),
    }
}

/// A frame's tags, and the frame without them: the other library does not take as many.
fn split(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut network = 14;
    while matches!(frame[network - 2..network], [0x81, 0] | [0x88, 0xa8]) {
        network += 4;
    }
    let without = [&frame[..12], &frame[network - 2..]].concat();
    (frame[12..network - 2].to_vec(), without)
}

/// Who sent the cause to whom.
struct Ends {
    source: Vec<u8>,
    destination: Vec<u8>,
    ports: [u16; 2],
}

impl Ends {
    fn of_cause(cause: &[u8]) -> Self {
        let network = 14;
        let (addresses, size, mut transport, mut next) = match cause[network] >> 4 {
            4 => (12, 4, usize::from(cause[network] & 15) * 4, 0),
            _ => (8, 16, 40, cause[network + 6]),
        };
        while [0, 43, 60].contains(&next) && size == 16 {
            next = cause[network + transport];
            transport += 8 + 8 * usize::from(cause[network + transport + 1]);
        }
        let address = |at: usize| cause[network + at..network + at + size].to_vec();
        let port = |at: usize| {
            let at = network + transport + at;
            u16::from_be_bytes([cause[at], cause[at + 1]])
        };
        Self {
            source: address(addresses),
            destination: address(addresses + size),
            ports: [port(0), port(2)],
        }
    }
}
