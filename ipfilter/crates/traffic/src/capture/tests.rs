use proptest::prelude::*;

use super::*;

/// A pcap of packets, each with its time in seconds and the length that it had.
fn pcap(link: u32, packets: &[(u32, &[u8], u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, link] {
        bytes.extend(word.to_le_bytes());
    }
    for (time, data, length) in packets {
        let captured = u32::try_from(data.len()).unwrap();
        for word in [*time, 500_000, captured, *length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(*data);
    }
    bytes
}

/// A block of pcapng.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    body.resize(body.len().next_multiple_of(4), 0);
    let length = u32::try_from(body.len() + 12).unwrap();
    [
        &kind.to_le_bytes()[..],
        &length.to_le_bytes(),
        &body,
        &length.to_le_bytes(),
    ]
    .concat()
}

/// A pcapng of one interface, whose times are in `resolution`.
fn pcapng(link: u16, resolution: u8, packets: &[(u64, &[u8])]) -> Vec<u8> {
    let section = [
        &0x1a2b_3c4d_u32.to_le_bytes()[..],
        &[1, 0, 0, 0],
        &[0xff; 8],
    ]
    .concat();
    let options = [9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
    let interface = [
        &link.to_le_bytes()[..],
        &[0, 0],
        &65535_u32.to_le_bytes(),
        &options,
    ]
    .concat();
    let mut bytes = [block(0x0a0d_0d0a, &section), block(1, &interface)].concat();
    for (time, data) in packets {
        let length = u32::try_from(data.len()).unwrap().to_le_bytes();
        let high = u32::try_from(time >> 32).unwrap().to_le_bytes();
        let low = u32::try_from(time & 0xffff_ffff).unwrap().to_le_bytes();
        let body = [
            &0_u32.to_le_bytes()[..],
            &high,
            &low,
            &length,
            &length,
            data,
        ]
        .concat();
        bytes.extend(block(6, &body));
    }
    bytes
}

fn items(bytes: &[u8]) -> Vec<String> {
    let mut items = Vec::new();
    read(bytes, |item| {
        items.push(match item {
            Item::Packet(packet) => format!(
                "{} {} bytes{}{}",
                packet.time.map_or("-".into(), |it| it.to_string()),
                packet.frame.len(),
                if packet.cut { ", cut" } else { "" },
                if packet.outgoing { ", outgoing" } else { "" },
            ),
            Item::Unreadable(what) => what,
        });
    });
    items
}

#[test]
fn packets_have_their_times() {
    let frame = [0_u8; 60];
    let bytes = pcap(1, &[(0, &frame, 60), (1, &frame[..20], 60)]);
    assert_eq!(
        items(&bytes),
        [
            "1970-01-01T00:00:00.5Z 60 bytes",
            "1970-01-01T00:00:01.5Z 20 bytes, cut"
        ]
    );
    let bytes = pcapng(1, 9, &[(1_500_000_000, &frame)]);
    assert_eq!(items(&bytes), ["1970-01-01T00:00:01.5Z 60 bytes"]);
    let bytes = pcapng(1, 0x80 | 10, &[(1536, &frame)]);
    assert_eq!(items(&bytes), ["1970-01-01T00:00:01.5Z 60 bytes"]);
}

#[test]
fn other_links_become_ethernet() {
    let packet = [0x60_u8; 40];
    let mut frames = Vec::new();
    let cooked = [
        &[0, 4, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0x86, 0xdd][..],
        &packet,
    ]
    .concat();
    let cooked2 = [
        &[
            0x86, 0xdd, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0,
        ][..],
        &packet,
    ]
    .concat();
    for (link, data) in [(101, &packet[..]), (113, &cooked), (276, &cooked2)] {
        read(pcap(link, &[(0, data, 0)]).as_slice(), |item| {
            if let Item::Packet(packet) = item {
                frames.push((packet.frame.to_vec(), packet.outgoing));
            }
        });
    }
    let ethernet = [&[0; 12][..], &[0x86, 0xdd], &packet].concat();
    assert_eq!(
        frames,
        [
            (ethernet.clone(), false),
            (ethernet.clone(), true),
            (ethernet, false)
        ]
    );
}

#[test]
fn what_is_broken_is_said_with_its_place() {
    let frame = [0_u8; 60];
    let good = pcap(1, &[(0, &frame, 60), (1, &frame, 60)]);
    let cut = &good[..good.len() - 10];
    assert_eq!(
        items(cut)[1],
        "at byte 100: the capture ends inside a packet"
    );
    // A packet that claims four gigabytes.
    let mut lying = good.clone();
    lying[24 + 8..24 + 12].fill(0xff);
    let problems = items(&lying);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("at byte 24: "), "{problems:?}");
    assert!(items(&good[..10])[0].starts_with("at byte 0"));
    assert_eq!(
        items(&pcap(147, &[(0, &frame, 60)])),
        ["at byte 24: packets of link type 147 are not understood"]
    );
    assert_eq!(
        items(&pcap(113, &[(0, &[0; 3], 3)])),
        ["at byte 24: a packet is too short for its link type"]
    );
    let mut stranger = pcapng(1, 6, &[(0, &frame)]);
    let packet = stranger.len() - 12 - 60 - 20;
    stranger[packet + 8] = 7;
    assert!(
        items(&stranger)[0].contains("is not described"),
        "{:?}",
        items(&stranger)
    );
}

#[test]
fn a_large_block_is_no_reason_to_stop() {
    let frame = vec![0_u8; 3 << 20];
    let length = u32::try_from(frame.len()).unwrap();
    assert_eq!(
        items(&pcap(1, &[(0, &frame, length), (1, &[0; 60], 60)])).len(),
        2
    );
}

proptest! {
    #[test]
    fn damage_is_no_panic(place in 0..300_usize, value: u8, cut in 0..300_usize, ng: bool) {
        let frame = [0x45_u8; 60];
        let mut bytes = if ng {
            pcapng(1, 6, &[(0, &frame), (1, &frame)])
        } else {
            pcap(1, &[(0, &frame, 60), (1, &frame, 60)])
        };
        let length = bytes.len();
        bytes[place % length] = value;
        bytes.truncate(length - cut % length);
        let mut seen = 0;
        read(bytes.as_slice(), |_| seen += 1);
        prop_assert!(seen <= 40, "{seen}");
    }
}
