//! A VM without a disk: what it has, and how it ends.

use std::time::Duration;

use anyhow::Result;
use testkit::{
    tool,
    vm::{Emulator, Nic, Series, Vm},
};

/// What VMs have that programs rely on.
const SCENE: &str = r#"
set -e
test -s /sys/kernel/btf/vmlinux
grep -q ' /sys/fs/bpf bpf ' /proc/mounts
ip link add left type veth peer name right
ip netns add other
ip link set right netns other
ip link add link left name left.7 type vlan id 7
for nic in eth0 eth1; do
    basename "$(readlink /sys/class/net/$nic/device/driver)"
done
cat /opt/given
exit 7
"#;

fn vm(script: &str) -> Result<Vm> {
    Ok(Vm::new(Emulator::fetch()?, Series::V6_1.fetch()?, script))
}

#[test]
#[ignore = "boots a VM, and fetches its kernel when it is not there yet"]
fn a_vm_has_the_programs_files_and_cards_it_was_given() {
    let mut vm = vm(SCENE).unwrap();
    vm.nics = vec![Nic::Virtio, Nic::E1000e];
    vm.programs = vec![tool("ip", "iproute2").unwrap()];
    vm.files = vec![("src/vm/init.sh".into(), "/opt/given".into())];
    let output = vm.run().unwrap();
    assert_eq!(output.code, 7, "{}", output.output);
    assert!(
        output
            .output
            .starts_with("virtio_net\ne1000e\n#!/bin/busybox"),
        "{}",
        output.output
    );
}

#[test]
#[ignore = "boots a VM, and fetches its kernel when it is not there yet"]
fn a_vm_that_takes_too_long_is_ended_and_quoted() {
    let mut vm = vm("echo still here; sleep 1000").unwrap();
    vm.timeout = Duration::from_secs(20);
    let error = format!("{:#}", vm.run().unwrap_err());
    assert!(error.contains("did not end within 20s"), "{error}");
    assert!(error.contains("still here"), "{error}");
}
