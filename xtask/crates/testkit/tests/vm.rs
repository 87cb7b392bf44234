//! A VM without a disk: what it has, and how it ends.

use std::time::Duration;

use anyhow::Result;
use testkit::{
    Architecture, tool,
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

/// The same where programs are those of another architecture.
const FOREIGN_SCENE: &str = r#"
set -e
uname -m
test -s /sys/kernel/btf/vmlinux
grep -q ' /sys/fs/bpf bpf ' /proc/mounts
ip link add left type veth peer name right
ip netns add other
ip link set right netns other
ip addr add 192.0.2.1/24 dev left
ip link set left up
ip -n other addr add 192.0.2.2/24 dev right
ip -n other link set right up
nsenter --net=/run/netns/other curl --version >/dev/null
basename "$(readlink /sys/class/net/eth0/device/driver)"
exit 7
"#;

fn vm(script: &str) -> Result<Vm> {
    let own = Architecture::X86_64;
    Ok(Vm::new(
        Emulator::fetch(own)?,
        Series::V6_1.fetch(own)?,
        script,
    ))
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
fn an_arm64_vm_runs_its_own_programs() {
    let arm64 = Architecture::Arm64;
    let kernel = Series::V6_12.fetch(arm64).unwrap();
    let mut vm = Vm::new(Emulator::fetch(arm64).unwrap(), kernel, FOREIGN_SCENE);
    vm.nics = vec![Nic::Virtio];
    let output = vm.run().unwrap();
    assert_eq!(output.code, 7, "{}\n{}", output.output, output.console);
    assert_eq!(output.output.trim(), "aarch64\nvirtio_net");
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
