//! `replay`, against what the policies say of single sources, and against the program in the kernel.

use std::net::IpAddr;

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{Folder, allow};
use crate::{frames, generate};

/// A pcap of Ethernet frames, a second apart.
pub(super) fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (second, frame) in (1_767_225_600_u32..).zip(frames) {
        let length = u32::try_from(frame.len()).expect("a length");
        for word in [second, 0, length, length] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn counts(report: &Value) -> [u64; 4] {
    ["allow", "deny", "depends", "other"]
        .map(|name| report["decisions"][name].as_u64().expect("a number"))
}

#[test]
fn packets_are_judged_by_port_and_source() {
    let folder = Folder::new();
    folder.write("policy.json", allow(&["192.0.2.0/24"]));
    let (good, bad) = (address("192.0.2.1"), address("203.0.113.9"));
    let mut packets = vec![
        frames::syn_frame(good, 443),
        frames::syn_frame(bad, 443),
        frames::syn_frame(bad, 443),
        frames::syn_frame(bad, 22),
        frames::tagged(&[frames::Q], bad, 6, &frames::syn(443)),
        frames::frame(bad, 17, &frames::udp(443, 20)),
    ];
    packets.push(vec![0xff; 60]);
    folder.write("x.pcap", pcap(&packets));
    let arguments = [
        "replay",
        "x.pcap",
        "--policy",
        "policy.json",
        "--port",
        "443",
    ];
    let report = folder.json(&arguments, 0);
    assert_eq!(report["records"], 7);
    assert_eq!(counts(&report), [1, 3, 0, 3]);
    let denied = &report["sources"][0];
    assert_eq!(
        denied,
        &json!({"source": "203.0.113.9", "decision": "deny", "count": 3,
            "first": "2026-01-01T00:00:01Z", "last": "2026-01-01T00:00:04Z"})
    );
    let text = folder.text(&arguments, 0);
    assert!(
        text.starts_with("7 records: 1 allow, 3 deny, 0 depends, 3 other; 0 unreadable\n"),
        "{text}"
    );
    // Without a port, every one is the API's.
    let report = folder.json(&["replay", "x.pcap", "--policy", "policy.json"], 0);
    assert_eq!(counts(&report), [1, 4, 0, 2]);
    // A capture that ends too soon is read to its end.
    let bytes = pcap(&packets);
    folder.write("cut.pcap", &bytes[..bytes.len() - 5]);
    let report = folder.json(&["replay", "cut.pcap", "--policy", "policy.json"], 0);
    assert_eq!(
        (report["records"].as_u64(), report["unreadable"].as_u64()),
        (Some(6), Some(1))
    );
}

#[test]
fn logs_are_judged_and_compared() {
    let folder = Folder::new();
    folder.write("new.json", allow(&["192.0.2.0/24"]));
    folder.write("old.json", allow(&["192.0.2.0/25", "203.0.113.0/24"]));
    let line = |source: &str| {
        format!("{source} - - [01/Jan/2026:00:00:00 +0000] \"GET / HTTP/1.1\" 200 1\n")
    };
    let lines = [
        "192.0.2.1",
        "192.0.2.200",
        "203.0.113.9",
        "203.0.113.9",
        "8.8.8.8",
    ]
    .map(line);
    folder.write("access.log", format!("{}what is this\n", lines.concat()));
    let report = folder.json(&["replay", "access.log", "--policy", "new.json"], 0);
    assert_eq!(counts(&report), [2, 3, 0, 0]);
    assert_eq!(report["unreadable"], 1);
    assert_eq!(
        report["examples"],
        json!(["access.log:6: there is no time in brackets"])
    );
    let report = folder.json(
        &[
            "replay",
            "access.log",
            "--policy",
            "new.json",
            "--against",
            "old.json",
        ],
        0,
    );
    assert_eq!(
        report["changed"],
        json!([{"was": "deny", "decision": "allow", "count": 1}, {"was": "allow", "decision": "deny", "count": 2}])
    );
    assert_eq!(report["sources"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["sources"][0]["source"], "203.0.113.9");
    assert_eq!(report["sources"][0]["was"], "allow");
    // Nothing that can be read is a failure, but not the end.
    folder.write("strange", "a\nb\n");
    let report = folder.json(
        &["replay", "strange", "access.log", "--policy", "new.json"],
        0,
    );
    assert_eq!(report["unreadable"], 2);
    folder.json(&["replay", "strange", "--policy", "new.json"], 1);
    folder.text(&["replay", "none", "--policy", "new.json"], 1);
    folder.text(&["replay", "access.log"], 2);
    folder.write("bad.json", "{");
    folder.text(&["replay", "access.log", "--policy", "bad.json"], 3);
}

#[test]
fn a_log_without_ports_needs_to_know_its_api() {
    let folder = Folder::new();
    folder.write("a.json", allow(&["192.0.2.0/24"]));
    folder.write("b.json", allow(&["203.0.113.0/24"]));
    let api = |name: &str, port: u16, policy: &str| json!({"name": name, "ports": [port], "policy": policy});
    let config =
        json!({"interfaces": ["eth0"], "apis": [api("a", 443, "a.json"), api("b", 444, "b.json")]});
    folder.write("two.conf", config.to_string());
    folder.write(
        "flow.log",
        "srcaddr dstport protocol\n203.0.113.9 443 6\n203.0.113.9 444 6\n203.0.113.9 80 6\n",
    );
    let report = folder.json(&["replay", "flow.log", "--config", "two.conf"], 0);
    assert_eq!(counts(&report), [1, 1, 0, 1]);
    folder.write("x.jsonl", "{\"ip\":\"203.0.113.9\"}\n");
    folder.text(&["replay", "x.jsonl", "--config", "two.conf"], 2);
    let report = folder.json(
        &["replay", "x.jsonl", "--config", "two.conf", "--api", "b"],
        0,
    );
    assert_eq!(counts(&report), [1, 0, 0, 0]);
    assert_eq!(report["apis"][0]["name"], "b");
}

#[test]
fn records_are_judged_at_their_time() {
    let folder = Folder::new();
    let mut policy: Value = serde_json::from_str(&allow(&["192.0.2.0/24"])).unwrap();
    policy["Statement"][0]["Condition"]["DateLessThan"] =
        json!({"aws:CurrentTime": "2026-01-01T00:00:02Z"});
    folder.write("policy.json", policy.to_string());
    let packets = vec![frames::syn_frame(address("192.0.2.1"), 443); 4];
    folder.write("x.pcap", pcap(&packets));
    let report = folder.json(&["replay", "x.pcap", "--policy", "policy.json"], 0);
    assert_eq!(counts(&report), [2, 2, 0, 0]);
    let arguments = [
        "replay",
        "x.pcap",
        "--policy",
        "policy.json",
        "--at",
        "2025-01-01T00:00:00Z",
    ];
    assert_eq!(counts(&folder.json(&arguments, 0)), [4, 0, 0, 0]);
}

#[test]
fn whole_requests_are_decided_where_a_log_has_them() {
    let folder = Folder::new();
    let mut policy: Value = serde_json::from_str(&allow(&["192.0.2.0/24"])).unwrap();
    let deny = json!({"Effect": "Deny", "Principal": "*", "Action": "execute-api:Invoke",
        "Resource": "execute-api:/prod/DELETE/*"});
    policy["Statement"]
        .as_array_mut()
        .expect("a list")
        .push(deny);
    folder.write("policy.json", policy.to_string());
    let combined = |source: &str, request: &str| {
        format!("{source} - - [01/Jan/2026:00:00:00 +0000] \"{request}\" 200 1\n")
    };
    let lines = [
        combined("192.0.2.1", "GET /pets?all=1 HTTP/1.1"),
        combined("192.0.2.1", "DELETE /pets/7 HTTP/1.1"),
        combined("203.0.113.9", "GET /pets HTTP/1.1"),
        combined("192.0.2.1", "-"),
    ];
    folder.write("access.log", lines.concat());
    let objects = [
        json!({"ip": "192.0.2.1", "httpMethod": "DELETE", "path": "/pets/7"}),
        json!({"remote_addr": "192.0.2.1", "request": "DELETE /pets/7 HTTP/1.1"}),
        json!({"request": {"remote_ip": "192.0.2.1", "method": "GET", "uri": "/pets"}}),
    ];
    folder.write(
        "x.jsonl",
        objects.map(|object| object.to_string() + "\n").concat(),
    );
    let replay = |stage: &[&str]| {
        let arguments = [
            "replay",
            "access.log",
            "x.jsonl",
            "--policy",
            "policy.json",
            "--allow-partial",
        ];
        counts(&folder.json(&[&arguments, stage].concat(), 0))
    };
    assert_eq!(replay(&[]), [0, 1, 6, 0]);
    assert_eq!(replay(&["--stage", "prod"]), [2, 4, 1, 0]);
    assert_eq!(replay(&["--stage", "test"]), [5, 1, 1, 0]);
}

/// Frames of all sorts from these sources.
fn traffic() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let sources: Vec<IpAddr> = generate::sources().collect();
    let frame = (
        select(sources),
        0..7_u8,
        select(vec![443_u16, 444, 80]),
        any::<u8>(),
    );
    let frame = frame.prop_map(|(source, kind, port, noise)| match kind {
        0 | 1 => frames::syn_frame(source, port),
        2 => frames::tagged(&[frames::AD, frames::Q], source, 6, &frames::syn(port)),
        3 => frames::frame(source, 17, &frames::udp(port, 20)),
        4 => frames::tagged(&[frames::Q; 5], source, 6, &frames::syn(port)),
        5 => {
            let whole = frames::syn_frame(source, port);
            whole[..14 + usize::from(noise) % (whole.len() - 14)].to_vec()
        }
        _ => {
            let mut whole = frames::syn_frame(source, port);
            let place = usize::from(noise) % whole.len();
            whole[place] ^= noise;
            whole
        }
    });
    prop::collection::vec(frame, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20, ..ProptestConfig::with_cases(8) })]

    #[test]
    fn the_kernel_agrees_packet_for_packet(policy in generate::policy(), frames in traffic()) {
        testkit::need_root("running programs in the kernel").expect("root");
        let folder = Folder::new();
        folder.write("policy.json", policy.to_string());
        folder.write("x.pcap", pcap(&frames));
        let report = folder.json(
            &["replay", "x.pcap", "--policy", "policy.json", "--allow-partial", "--api-arn", generate::API,
              "--port", "443", "--udp", "--kernel"],
            0,
        );
        prop_assert_eq!(report["kernel"]["packets"].as_u64(), Some(frames.len() as u64));
        prop_assert_eq!(report["kernel"]["different"].as_u64(), Some(0));
        prop_assert_eq!(report["records"].as_u64(), Some(frames.len() as u64));
        prop_assert_eq!(counts(&report).iter().sum::<u64>(), frames.len() as u64);
    }

    #[test]
    fn requests_are_decided_as_explain_decides_them(
        policy in generate::policy(),
        method in select(vec!["GET", "DELETE", "POST"]),
        path in select(vec!["/pets", "/pets/7", "/", "/a/b"]),
        stage in select(vec!["prod", "test"]),
        time in select(generate::times().collect::<Vec<_>>()),
    ) {
        let folder = Folder::new();
        folder.write("policy.json", policy.to_string());
        let sources: std::collections::BTreeSet<IpAddr> = generate::sources().collect();
        let log: String = sources.iter().map(|source| {
            let agent = "curl/8";
            json!({"ip": source, "time": time, "method": method, "path": path, "user_agent": agent}).to_string() + "\n"
        }).collect();
        folder.write("x.jsonl", log);
        let report = folder.json(
            &["replay", "x.jsonl", "--policy", "policy.json", "--allow-partial", "--api-arn", generate::API, "--stage", stage],
            0,
        );
        let policy = super::diff::read(&policy);
        let replayed = report["sources"].as_array().expect("a list");
        prop_assert_eq!(replayed.len(), sources.len());
        for source in sources {
            let request = json!({"source": source, "method": method, "stage": stage, "path": path, "time": time,
                "headers": {"user-agent": "curl/8"}});
            let request = serde_json::from_value(request).expect("a request");
            let want = match policy.decide(&request).decision {
                ipfilter::policy::Decision::Allow => "allow",
                ipfilter::policy::Decision::Deny => "deny",
                ipfilter::policy::Decision::Depends => "depends",
            };
            let text = source.to_string();
            let got = replayed.iter().find(|it| it["source"] == text.as_str()).expect("it is there");
            prop_assert_eq!(&got["decision"], want, "{}", source);
        }
    }

    #[test]
    fn a_log_is_judged_as_explain_judges(
        policy in generate::policy(),
        lines in prop::collection::vec((select(generate::sources().collect::<Vec<_>>()), select(generate::times().collect::<Vec<_>>())), 1..40),
    ) {
        let folder = Folder::new();
        folder.write("policy.json", policy.to_string());
        let log: String = lines.iter().map(|(source, time)| json!({"ip": source, "time": time}).to_string() + "\n").collect();
        folder.write("x.jsonl", log);
        let report = folder.json(
            &["replay", "x.jsonl", "--policy", "policy.json", "--allow-partial", "--api-arn", generate::API],
            0,
        );
        let policy = super::diff::read(&policy);
        let mut want = [0_u64; 4];
        for (source, time) in &lines {
            want[match policy.explain(*source, *time).decision {
                ipfilter::policy::Decision::Allow => 0,
                ipfilter::policy::Decision::Deny => 1,
                ipfilter::policy::Decision::Depends => 2,
            }] += 1;
        }
        prop_assert_eq!(counts(&report), want);
    }
}
