//! Frames of which the kernel has only the beginning in one piece, as some drivers hand them over.

use crate::lab::{Lab, allow};

/// Sends the datagrams of an allowed and of a denied client through a packet socket: this long, with
/// so many bytes in the first piece. The header before each frame is a `struct virtio_net_hdr`
/// ("packet(7)", `PACKET_VNET_HDR`; `linux/virtio_net.h`), whose third field says the latter.
const SEND: &str = "
import socket, struct, sys
piece, length, tags, options = map(int, sys.argv[1:])
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sender.setsockopt(263, 15, 1)
sender.bind(('eth0', 0))
for source in '198.51.100.10', '203.0.113.10':
    tag = b'\\x81\\0\\0\\1' * tags
    data = bytes(length - 14 - len(tag) - 20 - options - 8)
    udp = struct.pack('!HHHH', 40000, 80, 8 + len(data), 0) + data
    ip = struct.pack('!BBHHHBBH', 0x45 + options // 4, 0, 20 + options + len(udp), 0, 0, 64, 17, 0)
    ip += socket.inet_aton(source) + socket.inet_aton('192.0.2.2') + b'\\1' * options
    frame = b'\\2\\0\\0\\0\\0\\1' + b'\\2\\0\\0\\0\\0\\2' + tag + b'\\x08\\0' + ip + udp
    sender.send(struct.pack('=BBHHHH', 0, 0, piece, 0, 0, 0) + frame)
";

/// How many bytes are in the first piece, how long the frame is (where it fits a page the kernel
/// has it in one piece), how many VLAN tags and bytes of IP options it has.
const FRAMES: [[u32; 4]; 6] = [
    [14, 5000, 0, 0],
    [34, 5000, 0, 0],
    [60, 5000, 0, 0],
    [14, 8000, 4, 40],
    [20, 4200, 1, 0],
    [14, 200, 0, 0],
];

#[test]
fn headers_that_are_not_in_one_piece_are_judged_all_the_same() {
    let lab = Lab::empty("linear");
    for namespace in [&lab.network.host, &lab.network.router] {
        let jumbo = ["link", "set", "eth0", "mtu", "9000"];
        namespace.ip(jumbo).expect("veth takes any");
    }
    let policy = lab.write("policy.json", allow(&["198.51.100.0/24"]));
    for mode in ["tc", "generic", "native"] {
        let filter = lab.filter(&["--policy", &policy, "--udp", "--mode", mode]);
        let mut before = counted(&lab);
        for frame in FRAMES {
            let numbers = frame.map(|number| number.to_string());
            let mut python = lab.network.router.command("python3");
            let output = python.args(["-c", SEND]).args(numbers).output();
            let output = output.expect("python3, which is needed here");
            assert!(output.status.success(), "{output:?}");
            let now = counted(&lab);
            // Traffic control has the outer tag elsewhere.
            let tag = if mode == "tc" && frame[2] > 0 { 4 } else { 0 };
            let length = u64::from(frame[1] - tag);
            let told = ["allowed", "denied", "malformed", "unresolved"];
            let more = [0, 1, 2, 3].map(|place| now[place] - before[place]);
            assert_eq!(more, [length, length, 0, 0], "{mode} {frame:?}: {told:?}");
            before = now;
        }
        lab.detach(filter);
    }
}

/// Bytes by reason.
fn counted(lab: &Lab) -> [u64; 4] {
    let status = lab.status();
    let counters = status["counters"].as_array().expect("counters");
    ["allowed", "denied", "malformed", "unresolved"].map(|reason| {
        let rows = counters.iter().filter(|row| row["reason"] == reason);
        rows.map(|row| row["bytes"].as_u64().expect("a number"))
            .sum()
    })
}
