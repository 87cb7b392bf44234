//! `explain --live`: the policy, the table and the kernel side by side, and what happens where they
//! differ.

use jiff::Timestamp;
use serde_json::Value;

use crate::lab::{BAD, GOOD, Lab, allow};

const SOURCES: &str = "198.51.100.10,203.0.113.10,2001:db8:100::10,2001:db8:113::10";

fn answers(said: &str) -> Vec<Value> {
    let lines = said.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn three_answers_agree_for_each_api_and_table() {
    let lab = Lab::new("threefold");
    lab.write("good.json", allow(&GOOD));
    lab.write("bad.json", allow(&BAD));
    let config = lab.write(
        "ipfilter.json",
        r#"{"interfaces": ["eth0"], "apis": [
            {"name": "good", "ports": [80], "policy": "good.json", "deny": "respond"},
            {"name": "bad", "ports": ["81-90"], "policy": "bad.json", "protocols": ["udp"]}]}"#,
    );
    let live = ["explain", "--live", "--format", "json", "--source", SOURCES];
    let (code, said) = lab.tell(&live);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nothing is deployed"), "{said}");
    for lookup in ["trie", "intervals"] {
        let filter = lab.run(&["run", "--config", &config, "--lookup", lookup], &[]);
        let (code, said) = lab.tell(&live);
        assert_eq!(code, Some(0), "{said}");
        let told: Vec<String> = answers(&said)
            .iter()
            .map(|answer| {
                assert_eq!(answer["table"]["table"], lookup);
                assert_eq!(answer["kernel"][0]["interface"], "eth0");
                [
                    &answer["api"],
                    &answer["protocol"],
                    &answer["port"],
                    &answer["policy"]["decision"],
                    &answer["table"]["verdict"],
                    &answer["kernel"][0]["verdict"],
                ]
                .map(ToString::to_string)
                .join(" ")
                .replace('"', "")
            })
            .collect();
        let (passes, denied) = (
            "good tcp 80 allow pass pass",
            "good tcp 80 deny deny respond",
        );
        let (not, others) = ("bad udp 81 deny deny drop", "bad udp 81 allow pass pass");
        let wanted = [passes, not, denied, others, passes, not, denied, others];
        assert_eq!(told, wanted, "{said}");
        drop(filter);
    }
    let one = [&live[..], &["--api", "bad", "--port", "90"]].concat();
    let (code, said) = lab.tell(&one);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(answers(&said).len(), 4);
    for (more, why) in [
        (&["--api", "ugly"][..], "there are `good`, `bad`"),
        (
            &["--api", "good", "--port", "81"],
            "port 81 is not the API's",
        ),
        (&["--policy", "x"], "cannot be used with"),
    ] {
        let (code, said) = lab.tell(&[&live[..], more].concat());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
    // What the files say by now is not what is asked.
    lab.write("good.json", allow(&BAD));
    let text = [
        "explain",
        "--live",
        "--format",
        "text",
        "--source",
        "198.51.100.10",
        "--port",
        "80",
    ];
    let (code, said) = lab.tell(&text);
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "198.51.100.10 to API `good`, tcp port 80\n  policy  allow (",
        "the file says something else by now",
        "  table   pass (intervals, plan ",
        "  kernel  pass (allowed), API `good`, on `eth0` (native)\n  they agree\n",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// A record that is another deployment's: the kernel is not what it says.
#[test]
fn a_difference_is_an_error() {
    let lab = Lab::new("differ");
    let policy = lab.write("policy.json", allow(&GOOD));
    let deploy = [
        "deploy",
        "--interface",
        "eth0",
        "--port",
        "80",
        "--policy",
        &policy,
    ];
    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(0), "{said}");
    let state = lab.folder.join("state");
    let kept = lab.folder.join("kept");
    std::fs::rename(&state, &kept).expect("a state");
    lab.write("policy.json", allow(&BAD));
    let (code, said) = lab.tell(&deploy);
    assert_eq!(code, Some(0), "{said}");
    std::fs::remove_dir_all(&state).expect("a state");
    std::fs::rename(&kept, &state).expect("a state");
    let live = ["explain", "--live", "--source", "198.51.100.10", "--format"];
    let (code, said) = lab.tell(&[&live[..], &["text"]].concat());
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "  table   pass (intervals, plan ",
        "  kernel  drop (denied)",
        "THEY DIFFER: `eth0` has plan ",
        "THEY DIFFER: the policy says allow, `eth0` drop (denied)",
        "error: the answers differ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = lab.tell(&[&live[..], &["json"]].concat());
    assert_eq!(code, Some(1), "{said}");
    let answers = answers(&said);
    let count = answers[0]["disagreements"]
        .as_array()
        .expect("a list")
        .len();
    assert_eq!(count, 2, "{said}");
    lab.tell(&["detach"]);
    lab.assert_nothing_is_left();
}

/// What was in force at a time is asked of the policy of then, whatever is in force now.
#[test]
fn the_policy_of_then_is_asked() {
    let lab = Lab::empty("then");
    let policy = lab.write("policy.json", allow(&GOOD));
    let filter = lab.filter(&["--policy", &policy]);
    let then = Timestamp::now().to_string();
    lab.write("policy.json", allow(&BAD));
    let (code, said) = lab.tell(&["reload"]);
    assert_eq!(code, Some(0), "{said}");
    let now = Timestamp::now().to_string();
    let ask = |at: &str| {
        let (code, said) = lab.tell(&[
            "explain",
            "--live",
            "--at",
            at,
            "--format",
            "json",
            "--source",
            "198.51.100.10",
        ]);
        assert_eq!(code, Some(0), "{said}");
        answers(&said).remove(0)
    };
    for (at, decision, cause) in [(&then, "allow", "start"), (&now, "deny", "command")] {
        let answer = ask(at);
        assert_eq!(answer["decision"], decision, "{answer}");
        assert_eq!(answer["cause"], cause);
        assert_eq!(answer["exact"], true);
    }
    let long_ago = [
        "explain",
        "--live",
        "--at",
        "2001-01-01T00:00:00Z",
        "--source",
        "192.0.2.1",
    ];
    let (code, said) = lab.tell(&long_ago);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the history begins at"), "{said}");
    lab.detach(filter);
}
