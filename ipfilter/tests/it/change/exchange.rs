//! `import` and `export`, as operators and scripts meet them.

use serde_json::Value;

use super::{Folder, allow};
use crate::corpus::{Case, EXACT, lines};

#[test]
fn what_is_imported_is_a_policy_without_remarks() {
    let folder = Folder::new();
    for (name, list, who) in [
        (
            "plain",
            "192.0.2.0/24 # office\n10.1.0.0/16\n2001:db8::/32\n",
            "65,792 IPv4 addresses in 2 networks, 1 IPv6 network",
        ),
        (
            "nginx",
            "deny 192.0.2.7;\nallow 192.0.2.0/24;\ndeny all;\n",
            "255 IPv4 addresses in 8 networks, no IPv6",
        ),
        (
            "blocked",
            "deny 192.0.2.0/24;\nallow all;\n",
            "everyone but 1 IPv4 network (less than 0.01 %)",
        ),
        ("everyone", "allow all;\n", "everyone"),
        (
            "ipset",
            "create a hash:net family inet\nadd a 192.0.2.0/24\n",
            "256 IPv4 addresses in 1 network, no IPv6",
        ),
        (
            "private",
            "10.0.0.0/7\n",
            "33,554,432 IPv4 addresses in 1 network, no IPv6",
        ),
    ] {
        folder.write(name, list);
        let policy = folder.text(&["import", name], 0);
        folder.write("policy.json", policy);
        let text = folder.text(&["check", "policy.json"], 0);
        assert_eq!(text.lines().count(), 1, "{name}: a remark is made: {text}");
        assert!(
            text.trim_end().ends_with(&format!("; may call: {who}")),
            "{name}: {text}"
        );
    }
    folder.write("list", "192.0.2.0/24\n");
    let policy = folder.text(&["import", "--deny", "list"], 0);
    folder.write("policy.json", policy);
    let text = folder.text(&["check", "policy.json"], 0);
    assert!(text.contains("everyone but 1 IPv4 network"), "{text}");
}

#[test]
fn what_is_no_list_is_refused_with_its_place() {
    let folder = Folder::new();
    folder.write("list", "192.0.2.0/24\nexample.org\n");
    let output = folder.run(&["import", "list"], b"");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("error: list:2:1: `example.org` is no address"),
        "{said}"
    );
    folder.text(&["import", "none"], 1);
    folder.write("empty", "# nothing\n");
    folder.text(&["import", "empty"], 1);
    folder.text(&["import", "--from", "smoke", "list"], 2);
}

#[test]
fn what_a_list_can_not_say_is_refused() {
    let folder = Folder::new();
    folder.write("good.json", allow(&["192.0.2.0/24"]));
    assert_eq!(
        folder.text(&["export", "--policy", "good.json", "--to", "plain"], 0),
        "192.0.2.0/24\n"
    );
    let mut policy: Value = serde_json::from_str(&allow(&["192.0.2.0/24"])).unwrap();
    policy["Statement"][0]["Condition"]["DateLessThan"] =
        serde_json::json!({"aws:CurrentTime": "2099-01-01T00:00:00Z"});
    folder.write("time.json", policy.to_string());
    folder.text(&["export", "--policy", "time.json", "--to", "plain"], 1);
    let at = [
        "export",
        "--policy",
        "time.json",
        "--to",
        "plain",
        "--at",
        "2030-01-01T00:00:00Z",
    ];
    assert_eq!(folder.text(&at, 0), "192.0.2.0/24\n");
    let partial = allow(&["192.0.2.0/24"]).replace("execute-api:/*", "execute-api:/prod/GET/x");
    folder.write("partial.json", partial);
    folder.text(&["export", "--policy", "partial.json", "--to", "nft"], 4);
    folder.write("bad.json", "{");
    folder.text(&["export", "--policy", "bad.json", "--to", "nft"], 3);
}

/// Through another program's form and back, each policy of the corpus means the same.
#[test]
fn the_corpus_survives_the_way_there_and_back() {
    let folder = Folder::new();
    for (number, case) in lines::<Case<'_>>(EXACT).enumerate() {
        let target = ["nft", "ipset", "iptables", "nginx", "waf", "plain"][number % 6];
        folder.write("policy.json", case.policy.get());
        let output = folder.run(&["export", "--policy", "policy.json", "--to", target], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(1) && said.contains("can't say \"nobody\"") {
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{}: {said}", case.name);
        folder.write("list", &output.stdout);
        let output = folder.run(&["import", "list"], b"");
        let said = String::from_utf8_lossy(&output.stderr);
        let nobody = said.contains("there is no address in it");
        if nobody && ["ipset", "waf"].contains(&target) {
            continue;
        }
        assert_eq!(
            output.status.code(),
            Some(0),
            "{} ({target}): {said}",
            case.name
        );
        folder.write("back.json", &output.stdout);
        let text = folder.text(&["diff", "--exit-code", "policy.json", "back.json"], 0);
        assert_eq!(text, "nothing changes\n", "{} ({target})", case.name);
    }
}
