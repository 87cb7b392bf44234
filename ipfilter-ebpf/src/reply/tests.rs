//! Every frame that is emitted is taken apart again by another library.

extern crate std;

use std::{vec, vec::Vec};

use etherparse::{
    Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice,
};
use proptest::prelude::*;

use super::{flags::*, *};
use crate::wire::{Family, field::ethernet};

const RESPONSES: Responses = Responses {
    forbidden: 200,
    head: 120,
    alert: 7,
};

/// A TCP segment from a client's port 40000 to port 443.
fn segment(family: Family, flags: u8, sequence: u32, acknowledgement: u32, data: &[u8]) -> Vec<u8> {
    let mut header = TcpHeader::new(40000, 443, sequence, 4096);
    header.acknowledgment_number = acknowledgement;
    header.syn = flags & SYN != 0;
    header.ack = flags & ACK != 0;
    header.rst = flags & RST != 0;
    header.fin = flags & FIN != 0;
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match family {
        Family::V4 => ethernet.ipv4([198, 51, 100, 9], [192, 0, 2, 2], 61),
        Family::V6 => ethernet.ipv6([0x21; 16], [0x22; 16], 61),
    };
    let mut frame = Vec::new();
    ip.tcp_header(header).write(&mut frame, data).unwrap();
    frame
}

fn transport(family: Family) -> usize {
    ethernet::LEN + family.header_len()
}

fn read(frame: &[u8], family: Family) -> (Parties, Tcp) {
    let parties = Parties::read(frame, family, ethernet::LEN, transport(family)).unwrap();
    let places = (ethernet::LEN, transport(family));
    let tcp = Tcp::read(frame, family, places, frame.len()).unwrap();
    (parties, tcp)
}

/// The frame that answers `frame` with `header` and `data`, made as the kernel makes it: what is
/// missing comes in front.
fn answer(frame: &[u8], family: Family, header: &Header, data: &[u8]) -> Vec<u8> {
    let (parties, _) = read(frame, family);
    let start = transport(family) + 20;
    let size = start + data.len();
    let shift = size
        .saturating_sub(frame.len())
        .next_multiple_of(SHIFT_UNIT);
    let mut answer = vec![0xee; shift];
    answer.extend(frame);
    answer.truncate(size);
    let length = u16::try_from(data.len()).unwrap();
    write_tcp(
        answer.as_mut_slice(),
        (shift, ethernet::LEN),
        family,
        parties.ports,
        header,
        (length, sum_bytes(data)),
    )
    .unwrap();
    answer[start..].copy_from_slice(data);
    answer
}

/// Checks what every answer must hold, and returns its TCP header.
fn dissect(frame: &[u8]) -> TcpHeader {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("not TCP")
    };
    let sum = match sliced.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            assert_eq!(
                header.header_checksum(),
                header.to_header().calc_header_checksum()
            );
            assert_eq!(
                (header.source(), header.destination()),
                ([192, 0, 2, 2], [198, 51, 100, 9])
            );
            tcp.calc_checksum_ipv4(header.source(), header.destination())
                .unwrap()
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            assert_eq!(
                (header.source(), header.destination()),
                ([0x22; 16], [0x21; 16])
            );
            tcp.calc_checksum_ipv6(header.source(), header.destination())
                .unwrap()
        }
        NetSlice::Arp(_) => panic!("not IP"),
    };
    assert_eq!(tcp.checksum(), sum);
    assert_eq!(frame[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    assert_eq!((tcp.source_port(), tcp.destination_port()), (443, 40000));
    tcp.to_header()
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

proptest! {
    #[test]
    fn answers_are_whole_and_sum_up(
        family in family(),
        sequence: u32,
        acknowledgement: u32,
        flags in 0_u8..32,
        window: u16,
        data in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let header = Header { sequence, acknowledgement, flags, window };
        let frame = segment(family, ACK, 1, 2, b"GET / HTTP/1.1\r\n\r\n");
        let got = dissect(&answer(&frame, family, &header, &data));
        prop_assert_eq!(got.sequence_number, sequence);
        prop_assert_eq!(got.acknowledgment_number, acknowledgement);
        prop_assert_eq!((got.syn, got.ack, got.rst, got.fin),
            (flags & SYN != 0, flags & ACK != 0, flags & RST != 0, flags & FIN != 0));
    }

    /// RFC 9293, section 3.10.7.1.
    #[test]
    fn resets_are_those_of_a_closed_port(family in family(), flags in 0_u8..32, sequence: u32, acknowledgement: u32, data in prop::collection::vec(any::<u8>(), 0..9)) {
        let (_, tcp) = read(&segment(family, flags, sequence, acknowledgement, &data), family);
        let extra = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        prop_assert_eq!(tcp.data as usize, data.len());
        match reset(&tcp) {
            Answer::Silence => prop_assert!(flags & RST != 0),
            Answer::Reset(header) if flags & ACK != 0 => {
                prop_assert_eq!((header.sequence, header.flags), (acknowledgement, RST));
            }
            Answer::Reset(header) => {
                prop_assert_eq!((header.sequence, header.flags), (0, RST | ACK));
                let next = sequence.wrapping_add(u32::try_from(data.len()).unwrap() + extra);
                prop_assert_eq!(header.acknowledgement, next);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// Nobody who has not seen our SYN-ACK gets data, whatever else they send.
    #[test]
    fn without_a_cookie_there_is_no_data(family in family(), flags: u8, sequence: u32, acknowledgement: u32, data in prop::collection::vec(any::<u8>(), 0..9), cookies: [u32; 2]) {
        prop_assume!(!cookies.map(|cookie| cookie.wrapping_add(1)).contains(&acknowledgement));
        let (_, tcp) = read(&segment(family, flags, sequence, acknowledgement, &data), family);
        let answer = respond(&tcp, family, cookies, &RESPONSES);
        prop_assert!(!matches!(answer, Answer::Data(..)), "{answer:?}");
    }
}

#[test]
fn a_conversation_ends_with_a_refusal_and_no_state() {
    for family in [Family::V4, Family::V6] {
        let cookies = [7000, 9000];
        let say = |flags, sequence, acknowledgement, data: &[u8]| {
            let (_, tcp) = read(
                &segment(family, flags, sequence, acknowledgement, data),
                family,
            );
            respond(&tcp, family, cookies, &RESPONSES)
        };
        let Answer::SynAck(header) = say(SYN, 100, 0, b"") else {
            panic!("no SYN-ACK")
        };
        assert_eq!((header.sequence, header.acknowledgement), (7000, 101));
        assert_eq!(say(ACK, 101, 7001, b""), Answer::Silence);
        for cookie in cookies {
            let Answer::Data(data, header) = say(ACK, 101, cookie + 1, b"GET / HTTP/1.1") else {
                panic!("no data")
            };
            assert_eq!(
                (data, header.sequence, header.acknowledgement),
                (Data::Forbidden, cookie + 1, 101)
            );
            assert_eq!(say(ACK, 115, cookie + 202, b""), Answer::Silence);
        }
        for (begins, data) in [
            (&b"HEAD / HTTP/1.1"[..], Data::ForbiddenHead),
            (&[22, 3, 1, 2, 0, 1][..], Data::Alert),
            (&b"H"[..], Data::Forbidden),
        ] {
            let answer = say(ACK, 101, 7001, begins);
            assert!(
                matches!(answer, Answer::Data(got, _) if got == data),
                "{answer:?}"
            );
        }
        for later in [
            say(ACK, 115, 7202, b"more"),
            say(ACK | FIN, 115, 7202, b""),
            say(ACK, 115, 7300, b""),
            say(SYN | ACK, 115, 7001, b""),
            say(0, 115, 0, b"x"),
        ] {
            assert!(matches!(later, Answer::Reset(_)), "{later:?}");
        }
        assert_eq!(say(RST, 115, 0, b""), Answer::Silence);
    }
}

#[test]
fn padding_is_not_data() {
    for family in [Family::V4, Family::V6] {
        for data in [&b""[..], b"G", b"GE", b"GET", b"GET "] {
            let mut frame = segment(family, ACK, 1, 2, data);
            frame.extend([22; 9]);
            let (_, tcp) = read(&frame, family);
            assert_eq!(tcp.data as usize, data.len());
            let begins = match *data {
                [] => [0; 4],
                [a, b, c, d] => [a, b, c, d],
                [first, ..] => [first, 0, 0, 0],
            };
            assert_eq!(tcp.begins, begins);
        }
    }
}

#[test]
fn data_ends_with_the_frame_whatever_the_header_says() {
    for family in [Family::V4, Family::V6] {
        let frame = segment(family, ACK, 1, 2, b"GET / HTTP/1.1");
        let (_, tcp) = read(&frame[..transport(family) + 20], family);
        assert_eq!((tcp.data, tcp.begins), (0, [0; 4]));
    }
}

/// A client may send its first record in pieces, however small the first one.
#[test]
fn one_byte_tells_tls_from_http() {
    for family in [Family::V4, Family::V6] {
        for length in 1..=4 {
            let answer = |data: &[u8]| {
                let (_, tcp) = read(&segment(family, ACK, 101, 7001, data), family);
                respond(&tcp, family, [7000, 9000], &RESPONSES)
            };
            let hello = answer(&[22, 3, 1, 2][..length]);
            assert!(
                matches!(hello, Answer::Data(Data::Alert, _)),
                "{length}: {hello:?}"
            );
            let get = answer(&b"GET "[..length]);
            assert!(
                matches!(get, Answer::Data(Data::Forbidden, _)),
                "{length}: {get:?}"
            );
        }
    }
}

#[test]
fn groups_and_nobody_are_not_answered() {
    let good = segment(Family::V4, SYN, 1, 0, b"");
    let parties = |frame: &[u8]| Parties::read(frame, Family::V4, 14, 34);
    assert!(parties(&good).is_some());
    for (at, byte) in [
        (0, 1),
        (0, 0xff),
        (6, 1),
        (26, 0),
        (26, 127),
        (26, 224),
        (26, 255),
        (30, 239),
    ] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(parties(&bad), None, "byte {at} is {byte}");
    }
    let good = segment(Family::V6, SYN, 1, 0, b"");
    let parties = |frame: &[u8]| Parties::read(frame, Family::V6, 14, 54);
    assert!(parties(&good).is_some());
    for source in [[0xff; 16], [0; 16], 1_u128.to_be_bytes()] {
        let mut bad = good.clone();
        bad[22..38].copy_from_slice(&source);
        assert_eq!(parties(&bad), None, "{source:?}");
    }
}

#[test]
fn prohibitions_quote_their_cause() {
    for family in [Family::V4, Family::V6] {
        let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = match family {
            Family::V4 => ethernet.ipv4([198, 51, 100, 9], [192, 0, 2, 2], 61),
            Family::V6 => ethernet.ipv6([0x21; 16], [0x22; 16], 61),
        };
        let mut cause = Vec::new();
        ip.udp(40000, 443).write(&mut cause, &[7; 100]).unwrap();
        let mut frame = cause.clone();
        frame.truncate(prohibited_len(family, 14));
        write_prohibited(frame.as_mut_slice(), 14, family).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let quoted = [
            &cause[14..transport(family)],
            &cause[transport(family)..][..8],
        ]
        .concat();
        match (sliced.net.unwrap(), sliced.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
                let header = ip.header();
                assert_eq!(
                    header.header_checksum(),
                    header.to_header().calc_header_checksum()
                );
                assert!(matches!(
                    icmp.icmp_type(),
                    Icmpv4Type::DestinationUnreachable(_)
                ));
                assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 13));
                assert_eq!(
                    icmp.checksum(),
                    icmp.icmp_type().calc_checksum(icmp.payload())
                );
                assert_eq!(icmp.payload(), quoted);
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let header = ip.header();
                assert!(matches!(
                    icmp.icmp_type(),
                    Icmpv6Type::DestinationUnreachable(_)
                ));
                assert_eq!((icmp.type_u8(), icmp.code_u8()), (1, 1));
                assert!(icmp.is_checksum_valid(header.source(), header.destination()));
                assert_eq!(icmp.payload(), quoted);
            }
            other => panic!("{other:?}"),
        }
    }
}
