//! The table of verdicts.

use super::*;
use crate::frames::{self as f, AD, IPV4, IPV6, Q, TCP, UDP, flag};
use ipfilter_ebpf::abi::Reason::*;

/// IPv6 extension headers by number: hop-by-hop, routing, fragment, authentication, destination
/// options, mobility, host identity, shim6 (IANA, "IPv6 Extension Header Types").
const EXTENSIONS: [u8; 8] = [0, 43, 44, 51, 60, 135, 139, 140];

fn row(what: impl Into<String>, frame: Vec<u8>, api: Option<u32>, reason: Reason) -> Row {
    Row {
        what: what.into(),
        frame,
        api,
        reason,
    }
}

#[test]
fn what_is_not_ip_passes() {
    let mut rows = Vec::new();
    for (what, ethertype) in [
        ("ARP", 0x0806),
        ("LLDP", 0x88cc),
        ("unknown", 0x1234),
        ("802.3 length", 38),
        ("MPLS", 0x8847),
    ] {
        for tags in [&[][..], &[Q], &[AD, Q, Q, Q]] {
            let frame = f::ethernet(tags, ethertype, &[0; 46]);
            rows.push(row(format!("{what} {tags:x?}"), frame, None, NotIp));
        }
    }
    check(&plan(&[]), &rows);
}

#[test]
fn four_tags_are_looked_through_and_five_are_not() {
    let mut rows = Vec::new();
    for Clients { good, bad, .. } in clients() {
        for kind in [Q, AD] {
            for count in 0..=4 {
                let tags = vec![kind; count];
                let what = |who| format!("{who}, {count} tags of type {kind:x}");
                let frame = |from, port| f::tagged(&tags, from, TCP, &f::syn(port));
                rows.push(row(what(good), frame(good, DROP), Some(DROPPED), Allowed));
                rows.push(row(what(bad), frame(bad, DROP), Some(DROPPED), Denied));
                rows.push(row(what(bad), frame(bad, NOBODY), None, OtherPort));
                rows.push(row(what(bad), frame(bad, REJECT), Some(REJECTED), Reset));
                rows.push(row(what(bad), frame(bad, RESPOND), Some(ANSWERED), SynAck));
            }
            let frame = f::tagged(&[kind; 5], good, TCP, &f::syn(DROP));
            rows.push(row("five tags", frame, None, Unresolved));
        }
    }
    rows.push(row(
        "half a tag",
        f::ethernet(&[], Q, &[0, 7]),
        None,
        Malformed,
    ));
    check(&plan(&[]), &rows);
}

#[test]
fn impossible_ip_headers_are_malformed() {
    let mut rows = Vec::new();
    for Clients { good, .. } in clients() {
        let whole = f::syn_frame(good, DROP);
        let header = if good.is_ipv4() { 20 } else { 40 };
        for version in (0..16).filter(|version| *version != whole[14] >> 4) {
            let mut frame = whole.clone();
            frame[14] = version << 4 | frame[14] & 15;
            let what = format!("{good}: version {version}");
            rows.push(row(what, frame, None, Malformed));
        }
        for length in [1, header - 1] {
            let frame = whole[..14 + length].to_vec();
            let what = format!("{good}: {length} bytes of header");
            rows.push(row(what, frame, None, Malformed));
        }
    }
    let whole = f::syn_frame(clients()[0].good, DROP);
    for words in [0, 1, 4, 11, 15] {
        let mut frame = whole.clone();
        frame[14] = 0x40 | words;
        rows.push(row(format!("IHL {words}"), frame, None, Malformed));
    }
    check(&plan(&[]), &rows);
}

#[test]
fn ipv4_options_are_honoured() {
    let [Clients { good, bad, .. }, _] = clients();
    let mut rows = Vec::new();
    for words in 1..=10 {
        let frame = |from, port| {
            let packet = f::ipv4(from, (TCP, 0), &vec![1; words * 4], &f::syn(port));
            f::ethernet(&[], IPV4, &packet)
        };
        let what = format!("{words} words of options");
        rows.push(row(&what, frame(good, DROP), Some(DROPPED), Allowed));
        rows.push(row(&what, frame(bad, DROP), Some(DROPPED), Denied));
        rows.push(row(&what, frame(bad, NOBODY), None, OtherPort));
        rows.push(row(&what, frame(bad, REJECT), Some(REJECTED), Reset));
        rows.push(row(&what, frame(bad, RESPOND), Some(ANSWERED), SynAck));
    }
    check(&plan(&[]), &rows);
}

#[test]
fn extension_headers_are_walked_to_the_eighth() {
    let [_, Clients { good, half, bad }] = clients();
    let mut rows = Vec::new();
    for kind in EXTENSIONS {
        let frame = |from, count, port| {
            let (next, payload) = f::chain(kind, count, (TCP, &f::syn(port)));
            f::ethernet(&[], IPV6, &f::ipv6(from, next, &payload))
        };
        let what = |count: usize| format!("{count} of extension header {kind}");
        for count in [1, 2, 8] {
            rows.push(row(
                what(count),
                frame(good, count, DROP),
                Some(DROPPED),
                Allowed,
            ));
            rows.push(row(
                what(count),
                frame(bad, count, DROP),
                Some(DROPPED),
                Denied,
            ));
            rows.push(row(what(count), frame(bad, count, NOBODY), None, OtherPort));
        }
        for port in [DROP, NOBODY] {
            rows.push(row(what(9), frame(good, 9, port), None, UnresolvedAllowed));
            rows.push(row(what(9), frame(half, 9, port), None, Unresolved));
            rows.push(row(what(9), frame(bad, 9, port), None, Unresolved));
        }
    }
    let cut = |from| f::ethernet(&[], IPV6, &f::ipv6(from, 43, &[TCP, 200, 0, 0, 0, 0, 0, 0]));
    rows.push(row("past the end", cut(good), None, UnresolvedAllowed));
    rows.push(row("past the end", cut(half), None, Unresolved));
    rows.push(row("past the end", cut(bad), None, Unresolved));
    check(&plan(&[]), &rows);
}

#[test]
fn fragments_have_ports_in_the_first_only() {
    let mut rows = Vec::new();
    for Clients { good, half, bad } in clients() {
        let fragment = |from: IpAddr, protocol, offset: u16, payload: &[u8]| {
            if from.is_ipv4() {
                let packet = f::ipv4(from, (protocol, 0x2000 | offset), &[], payload);
                return f::ethernet(&[], IPV4, &packet);
            }
            let [high, low] = (offset << 3 | 1).to_be_bytes();
            let header = [&[protocol, 0, high, low, 0, 0, 0, 1], payload].concat();
            f::ethernet(&[], IPV6, &f::ipv6(from, 44, &header))
        };
        let first = |from, port| fragment(from, TCP, 0, &f::syn(port)[..8]);
        rows.push(row("first", first(good, DROP), Some(DROPPED), Allowed));
        rows.push(row("first", first(half, DROP), Some(DROPPED), Allowed));
        rows.push(row("first", first(bad, DROP), Some(DROPPED), Denied));
        rows.push(row("first", first(bad, NOBODY), None, OtherPort));
        // Half a packet gets no answer.
        rows.push(row("first", first(bad, REJECT), Some(REJECTED), Unanswered));
        rows.push(row(
            "first",
            first(bad, RESPOND),
            Some(ANSWERED),
            Unanswered,
        ));
        let datagram = fragment(bad, UDP, 0, &f::udp(REJECT, 64));
        rows.push(row("first, UDP", datagram, Some(REJECTED), Unanswered));
        for length in 0..4 {
            let tiny = |from| fragment(from, TCP, 0, &f::syn(DROP)[..length]);
            let what = format!("tiny, {length} bytes");
            rows.push(row(&what, tiny(good), None, UnresolvedAllowed));
            rows.push(row(&what, tiny(half), None, Unresolved));
            rows.push(row(&what, tiny(bad), None, Unresolved));
        }
        for offset in [1, 2, 0x1fff] {
            let later = |from| fragment(from, TCP, offset, &f::syn(DROP));
            rows.push(row("later", later(good), None, LaterFragment));
            rows.push(row("later", later(bad), None, LaterFragment));
        }
    }
    check(&plan(&[]), &rows);
}

#[test]
fn protocols_without_ports_pass() {
    let mut rows = Vec::new();
    for Clients { bad, .. } in clients() {
        for (what, protocol) in [
            ("ICMP", 1),
            ("GRE", 47),
            ("ESP", 50),
            ("ICMPv6", 58),
            ("SCTP", 132),
            ("unknown", 253),
        ] {
            let frame = f::frame(bad, protocol, &[0; 32]);
            rows.push(row(what, frame, None, OtherProtocol));
        }
    }
    check(&plan(&[]), &rows);
}

#[test]
fn transport_headers_that_are_cut_off_are_malformed() {
    let mut rows = Vec::new();
    for Clients { good, .. } in clients() {
        for length in 0..20 {
            let frame = f::frame(good, TCP, &f::syn(DROP)[..length]);
            rows.push(row(format!("TCP, {length} bytes"), frame, None, Malformed));
        }
        for length in 0..8 {
            let frame = f::frame(good, UDP, &f::udp(DROP, 0)[..length]);
            rows.push(row(format!("UDP, {length} bytes"), frame, None, Malformed));
        }
        for offset in [0, 1, 4, 6, 15] {
            let mut header = f::syn(DROP);
            header[12] = offset << 4;
            let frame = f::frame(good, TCP, &header);
            rows.push(row(format!("data offset {offset}"), frame, None, Malformed));
        }
    }
    check(&plan(&[]), &rows);
}

#[test]
fn ports_make_the_api_and_sources_the_verdict() {
    let mut rows = Vec::new();
    for Clients { good, half, bad } in clients() {
        let tcp = |from, port| f::syn_frame(from, port);
        let udp = |from, port| f::frame(from, UDP, &f::udp(port, 64));
        for (port, api_tcp, api_udp) in [
            (DROP, DROPPED, DROPPED),
            (REJECT, REJECTED, REJECTED),
            (RESPOND, ANSWERED, ANSWERED),
            (SPLIT, TCP_ONLY, UDP_ONLY),
        ] {
            rows.push(row("good TCP", tcp(good, port), Some(api_tcp), Allowed));
            rows.push(row("good UDP", udp(good, port), Some(api_udp), Allowed));
        }
        rows.push(row("half TCP", tcp(half, DROP), Some(DROPPED), Allowed));
        rows.push(row("half TCP", tcp(half, REJECT), Some(REJECTED), Reset));
        rows.push(row("half TCP", tcp(half, SPLIT), Some(TCP_ONLY), Denied));
        rows.push(row(
            "half UDP",
            udp(half, SPLIT),
            Some(UDP_ONLY),
            Prohibited,
        ));
        rows.push(row("bad TCP", tcp(bad, DROP), Some(DROPPED), Denied));
        rows.push(row("bad UDP", udp(bad, DROP), Some(DROPPED), Denied));
        rows.push(row("bad TCP", tcp(bad, REJECT), Some(REJECTED), Reset));
        rows.push(row("bad UDP", udp(bad, REJECT), Some(REJECTED), Prohibited));
        rows.push(row("bad TCP", tcp(bad, RESPOND), Some(ANSWERED), SynAck));
        rows.push(row(
            "bad UDP",
            udp(bad, RESPOND),
            Some(ANSWERED),
            Prohibited,
        ));
        for port in [1, NOBODY, DROP - 1, DROP + 1, u16::MAX] {
            rows.push(row("no API's", tcp(bad, port), None, OtherPort));
            rows.push(row("no API's", udp(bad, port), None, OtherPort));
        }
    }
    check(&plan(&[]), &rows);
}

#[test]
fn some_packets_get_no_answer() {
    let mut rows = Vec::new();
    for Clients { bad, .. } in clients() {
        for (port, api) in [(REJECT, REJECTED), (RESPOND, ANSWERED)] {
            for flags in [flag::RST, flag::RST | flag::ACK] {
                let segment = f::segment(&f::Segment {
                    port,
                    flags,
                    ..f::Segment::default()
                });
                rows.push(row(
                    "RST",
                    f::frame(bad, TCP, &segment),
                    Some(api),
                    Unanswered,
                ));
            }
            let short = f::frame(bad, UDP, &f::udp(port, 0));
            rows.push(row("UDP too short to quote", short, Some(api), Unanswered));
            let mut group = f::syn_frame(bad, port);
            group[0] = 1;
            rows.push(row("to an Ethernet group", group, Some(api), Unanswered));
        }
    }
    for (at, byte) in [(26, 0), (26, 127), (26, 224), (26, 255), (30, 239)] {
        let mut frame = f::syn_frame(clients()[0].bad, REJECT);
        frame[at] = byte;
        rows.push(row("no host", frame, Some(REJECTED), Unanswered));
    }
    check(&plan(&[]), &rows);
}

#[test]
fn only_protected_addresses_are_filtered() {
    let host = |family: usize| f::host(clients()[family].bad).to_string();
    let [v4, v6] = [host(0), host(1)];
    for (addresses, protected) in [
        (vec![v4.as_str(), v6.as_str()], [true, true]),
        (vec![v4.as_str()], [true, false]),
        (vec![v6.as_str()], [false, true]),
        (vec!["192.0.2.3", "2001:db8:2::3"], [false, false]),
    ] {
        let mut rows = Vec::new();
        for (Clients { good, bad, .. }, protected) in clients().into_iter().zip(protected) {
            let want = |reason| match protected {
                true => (Some(DROPPED), reason),
                false => (None, OtherAddress),
            };
            for (from, reason) in [(good, Allowed), (bad, Denied)] {
                let (api, reason) = want(reason);
                rows.push(row("address", f::syn_frame(from, DROP), api, reason));
            }
            rows.push(row("port", f::syn_frame(bad, NOBODY), None, OtherPort));
        }
        check(&plan(&addresses), &rows);
    }
}
