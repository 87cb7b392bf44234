//! `replay` of files that are broken, lie, or are endless.

use std::{
    io::{Read as _, Write as _},
    ops::RangeInclusive,
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use super::{Folder, allow, replay::pcap};
use crate::frames::syn_frame;

const LINE: &str = "192.0.2.1 - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 1\n";

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A capture of this many packets.
fn capture(packets: usize) -> Vec<u8> {
    let source = "192.0.2.1".parse().expect("an address");
    pcap(&vec![syn_frame(source, 443); packets])
}

/// The same with a number in it replaced.
fn with(mut bytes: Vec<u8>, at: usize, word: u32) -> Vec<u8> {
    bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    bytes
}

/// A block of a pcapng file, whose length is said to be `said`.
fn block(kind: u32, body: &[u8], said: Option<u32>) -> Vec<u8> {
    let length = u32::try_from(body.len() + 12).expect("a length");
    let said = said.unwrap_or(length).to_le_bytes();
    [&kind.to_le_bytes()[..], &said, body, &said].concat()
}

/// A pcapng file: a section, an interface with this resolution of time, and then these blocks.
fn pcapng(resolution: u8, blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut section = vec![0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    section.extend([0xff; 8]);
    let mut interface = vec![1, 0, 0, 0, 0, 0, 0, 0];
    interface.extend([9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0]);
    let head = [
        block(0x0a0d_0d0a, &section, None),
        block(1, &interface, None),
    ]
    .concat();
    [head, blocks.concat()].concat()
}

/// An enhanced packet block of interface `interface`, which says that so many bytes are there.
fn packet(interface: u32, captured: Option<u32>) -> Vec<u8> {
    let mut frame = syn_frame("192.0.2.1".parse().expect("an address"), 443);
    let length = u32::try_from(frame.len()).expect("a length");
    frame.resize(frame.len().next_multiple_of(4), 0);
    let words = [
        interface,
        u32::MAX,
        u32::MAX,
        captured.unwrap_or(length),
        length,
    ];
    let head: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    block(6, &[head, frame].concat(), None)
}

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    records: RangeInclusive<u64>,
    /// How much could not be read.
    unreadable: u64,
}

fn case(name: &'static str, bytes: impl Into<Vec<u8>>, records: u64, unreadable: u64) -> Case {
    Case {
        name,
        bytes: bytes.into(),
        records: records..=records,
        unreadable,
    }
}

/// Where the header of a capture's first packet is.
const FIRST: usize = 24;

/// How much of it can be read depends on how it was compressed.
const HALF: &str = "half of a gzip";

fn cases() -> Vec<Case> {
    let log = LINE.repeat(3);
    let compressed = gz(LINE.repeat(50_000).as_bytes());
    let mut cases = vec![
        // Captures that are cut off, or lie about lengths.
        case("a magic number alone", &capture(0)[..4], 0, 1),
        case("half a header", &capture(0)[..20], 0, 1),
        case("no packets", capture(0), 0, 0),
        case("half a packet's header", &capture(2)[..FIRST + 7], 0, 1),
        case(
            "a packet that ends too soon",
            &capture(2)[..FIRST + 30],
            0,
            1,
        ),
        case(
            "a packet of 4 GB",
            with(capture(2), FIRST + 8, u32::MAX),
            0,
            1,
        ),
        case(
            "a packet of 20 MB",
            with(capture(2), FIRST + 8, 20 << 20),
            0,
            1,
        ),
        case(
            "no bytes of a packet",
            with(capture(1), FIRST + 8, 0)[..FIRST + 16].to_vec(),
            0,
            1,
        ),
        case("a link that nobody knows", with(capture(2), 20, 9999), 0, 2),
        case(
            "a pcap that is zeros",
            [&capture(0)[..], &[0; 160]].concat(),
            10,
            0,
        ),
        case("another version", with(capture(2), 4, 0x00ff_00ff), 2, 0),
        case(
            "a section that never ends",
            pcapng(6, &[packet(0, None)])[..40].to_vec(),
            0,
            1,
        ),
        case(
            "an interface that is not there",
            pcapng(6, &[packet(7, None)]),
            0,
            1,
        ),
        case(
            "a packet longer than its block",
            pcapng(6, &[packet(0, Some(1 << 30))]),
            0,
            1,
        ),
        case(
            "a block of 4 GB",
            pcapng(6, &[block(6, &[0; 8], Some(u32::MAX - 3))]),
            0,
            1,
        ),
        case(
            "a block of no bytes",
            pcapng(6, &[block(6, &[0; 8], Some(0))]),
            0,
            1,
        ),
        // Clocks that jump.
        case(
            "a time before 1970 is no time of a packet",
            with(capture(2), FIRST, 0),
            2,
            0,
        ),
        case(
            "the last second of 32 bits",
            with(capture(2), FIRST, u32::MAX),
            2,
            0,
        ),
        case(
            "microseconds beyond a second",
            with(capture(1), FIRST + 4, u32::MAX),
            1,
            0,
        ),
        case("units of 2^-127 s", pcapng(0xff, &[packet(0, None)]), 1, 0),
        case("units of 10^-127 s", pcapng(127, &[packet(0, None)]), 1, 0),
        // Logs with garbage.
        case("nothing", "", 0, 0),
        case("nothing but empty lines", "\n\n\r\n\n", 0, 1),
        case(
            "bytes between lines",
            [log.as_bytes(), &[0, 159, 146, 150, 10], log.as_bytes()].concat(),
            6,
            1,
        ),
        case(
            "a line that is cut off",
            format!("{log}192.0.2.1 - - [01/Ja"),
            3,
            1,
        ),
        case(
            "a day that there is none",
            LINE.replace("01/Jan", "31/Feb") + &log,
            3,
            1,
        ),
        case(
            "a line of 3 MB",
            log.clone() + &"x".repeat(3 << 20) + "\n" + &log,
            6,
            1,
        ),
        case(
            "JSON as deep as it gets",
            format!("{{\"ip\":\"192.0.2.1\"}}\n{}\n", "[".repeat(500_000)),
            1,
            1,
        ),
        case(
            "JSON of another kind",
            "{\"ip\":\"192.0.2.1\"}\n{\"ip\":7}\n{}\n[]\n{\"ip\":\n",
            1,
            4,
        ),
        case(
            "times that jump",
            format!(
                "{log}{}{}{log}",
                LINE.replace("2026", "1970"),
                LINE.replace("2026", "9998")
            ),
            8,
            0,
        ),
        // What is not what it claims to be.
        case(
            "a picture",
            [&[0x89, b'P', b'N', b'G', 13, 10, 26, 10][..], &[0xaa; 400]].concat(),
            0,
            1,
        ),
        case(
            "a capture in what claims to be gzip",
            [&[0x1f, 0x8b][..], &capture(2)].concat(),
            0,
            1,
        ),
        case(HALF, &compressed[..compressed.len() / 2], 0, 1),
        case(
            "a log in gzip, then garbage",
            [&gz(log.as_bytes())[..], b"garbage"].concat(),
            3,
            1,
        ),
        case(
            "zstd that is none",
            [0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff],
            0,
            1,
        ),
        case(
            "a capture named in a log",
            [log.as_bytes(), &capture(3)].concat(),
            3,
            1,
        ),
    ];
    for case in &mut cases {
        if case.name == HALF {
            case.records = 1000..=49_000;
        }
    }
    cases
}

/// `ipfilter`, which may take no more memory than this, in kilobytes.
fn bounded(folder: &Folder, kilobytes: u32, arguments: &str) -> Command {
    let binary = env!("CARGO_BIN_EXE_ipfilter");
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {kilobytes}; exec {binary} {arguments}");
    command.args(["-c", &script]).current_dir(folder.path());
    command
}

const REPLAY: &str = "replay --policy policy.json --format json";

/// Memory enough for the largest block that is taken, and not for one that lies.
const MEMORY: u32 = 600 << 10;
const LITTLE: u32 = 300 << 10;

#[test]
fn nothing_that_is_wrong_with_a_file_is_fatal() {
    let folder = Folder::new();
    folder.write("policy.json", allow(&["192.0.2.0/24"]));
    folder.write("good.log", LINE);
    let mut wrong = Vec::new();
    for case in cases() {
        let name = case.name;
        folder.write("bad", &case.bytes);
        // What is after it is read all the same.
        let arguments = format!("{REPLAY} bad good.log");
        let output = bounded(&folder, MEMORY, &arguments).output();
        let output = output.expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {errors}");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let of = |field: &str| report[field].as_u64().expect("a number");
        let (records, unreadable) = (of("records") - 1, of("unreadable"));
        let examples = report["examples"].as_array().expect("a list");
        let named = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("bad"));
        if !case.records.contains(&records)
            || unreadable != case.unreadable
            || examples.is_empty() != (unreadable == 0)
            || !examples.iter().all(named)
        {
            wrong.push(format!("{name}: {records} records; {report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Less memory than there is garbage.
#[test]
fn a_long_log_takes_no_more_memory_than_a_short_one() {
    const CHUNK: usize = 1 << 20;
    const LINES: usize = 8;
    const GARBAGE: usize = 400;
    let folder = Folder::new();
    folder.write("policy.json", allow(&["192.0.2.0/24"]));
    let lines = CHUNK / LINE.len();
    let chunk = LINE.repeat(lines);
    for garbage in ["", "\0\u{1}garbage without an end "] {
        let mut child = bounded(&folder, LITTLE, &format!("{REPLAY} -"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(chunk.as_bytes()).expect("it reads");
        let (text, times) = if garbage.is_empty() {
            (chunk.clone(), LINES)
        } else {
            (garbage.repeat(CHUNK / garbage.len()), GARBAGE)
        };
        for _ in 1..times {
            input.write_all(text.as_bytes()).expect("it reads");
        }
        drop(input);
        let mut said = String::new();
        child
            .stdout
            .take()
            .expect("a pipe")
            .read_to_string(&mut said)
            .expect("UTF-8");
        assert!(child.wait().expect("it ends").success(), "{said}");
        let report: Value = serde_json::from_str(&said).expect("JSON");
        let wanted = if garbage.is_empty() {
            LINES * lines
        } else {
            lines
        };
        assert_eq!(report["records"].as_u64(), Some(wanted as u64), "{report}");
        assert_eq!(
            report["unreadable"],
            u64::from(!garbage.is_empty()),
            "{report}"
        );
    }
}
