//! Denied packets that are kept on disk.

use crate::lab::{GOOD, Lab, ONLY_GOOD, allow, statuses, wait_for};

/// What was denied is there to be asked about after the process has ended.
#[test]
fn denied_packets_are_kept_and_shown_later() {
    let lab = Lab::new("kept");
    lab.write("policy.json", allow(&GOOD));
    let config = lab.write(
        "ipfilter.json",
        r#"{"interfaces": ["eth0"], "record": {"days": 1, "max_bytes": 65536},
            "apis": [{"name": "api", "ports": [80], "policy": "policy.json"}]}"#,
    );
    let filter = lab.run(&["run", "--config", &config], &[]);
    let (code, said) = lab.tell(&["events", "--since", "1h"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the setting `record`"), "{said}");
    assert_eq!(statuses(&lab), ONLY_GOOD);
    let shown = |more: &[&str]| {
        let arguments = [&["events", "--since", "1h"], more].concat();
        let (code, said) = lab.tell(&arguments);
        (code == Some(0)).then_some(said).unwrap_or_default()
    };
    wait_for("it is kept", || shown(&[]).contains("api drop denied tcp from 203.0.113."));
    assert!(!lab.log("run").contains("drop denied"), "it is not logged as well");
    lab.detach(filter);
    let said = shown(&["--format", "json", "--source", "203.0.113.0/24"]);
    let first = said.lines().next().expect("a line");
    let event: serde_json::Value = serde_json::from_str(first).expect("JSON");
    assert_eq!((&event["api"], &event["port"]), (&"api".into(), &80.into()));
    assert_eq!(shown(&["--source", "198.51.100.0/24"]), "");
    assert_eq!(shown(&["--until", "2001-01-01T00:00:00Z"]), "");
}
