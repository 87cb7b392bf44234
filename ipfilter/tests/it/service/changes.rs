//! Each deployment says in one line what it changes: in its answer, in the log and in the history.

use crate::lab::{BAD, GOOD, Lab, allow};

#[test]
fn each_deployment_says_what_it_changes() {
    let lab = Lab::empty("changes");
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
    assert!(said.contains("; api: new, ports 80; "), "{said}");
    // The next process takes over what it finds.
    lab.write("policy.json", allow(&[GOOD[0], GOOD[1], BAD[0]]));
    let filter = lab.filter(&["--policy", &policy]);
    let gains = "api: 1 network gains access; 256 addresses";
    lab.wait_log("run", gains, 1);

    let (_, said) = lab.tell(&["reload"]);
    assert!(said.ends_with(" is in force; nothing changes\n"), "{said}");
    lab.write("policy.json", allow(&[GOOD[1]]));
    let loses = "api: 2 networks lose access; 512 addresses";
    let (_, said) = lab.tell(&["reload"]);
    assert!(
        said.ends_with(&format!(" is in force; {loses}\n")),
        "{said}"
    );
    lab.wait_log("run", loses, 1);
    let (_, said) = lab.tell(&["rollback"]);
    assert!(
        said.contains("2 networks gain access; 512 addresses"),
        "{said}"
    );
    let (_, said) = lab.tell(&["block", "198.51.100.7", "--for", "1h"]);
    assert!(said.contains("in force"), "{said}");
    lab.wait_log(
        "run",
        "overrides changed: api: 1 network loses access; 1 address",
        1,
    );

    let history = lab.status()["history"].clone();
    let history = history.as_array().expect("a list");
    let changes: Vec<_> = history
        .iter()
        .map(|it| it["change"].as_str().expect("text"))
        .collect();
    assert_eq!(changes.len(), 5, "{changes:?}");
    assert_eq!((changes[2], changes[3]), (loses, gains));
    lab.detach(filter);
}
