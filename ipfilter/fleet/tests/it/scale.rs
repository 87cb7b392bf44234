//! Many hosts at one member of etcd. `examples/agents.rs` measures a thousand.

use serde_json::Value;

use crate::group::Group;

const HOSTS: usize = 100;

#[test]
fn a_hundred_hosts_follow_one_member() {
    let group = Group::new("scale", 1);
    let (namespace, url) = (group.desk.namespace.clone(), group.url());
    // Ends with the tests.
    std::thread::spawn(move || {
        namespace.enter().unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(ipfilter_fleet::simulate::run(&url, HOSTS))
    });
    let hosts = || {
        let output = group
            .command(&["status", "--format", "json"])
            .output()
            .unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        status["hosts"].as_array().map_or(0, Vec::len)
    };
    group.wait("all report", || hosts() == HOSTS);
    let (code, said) = group.publish(&["198.51.100.0/24"], &["--canary", "5%", "--soak", "0s"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("trying generation 1"), "{said}");
    assert!(
        said.contains("host-0004\n"),
        "five per cent are five: {said}"
    );
    assert!(said.contains("in force at all 100 hosts"), "{said}");
    let (code, said) = group.run(&["status"]);
    assert_eq!(code, Some(0), "{said}");
}
