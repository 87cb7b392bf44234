//! How much the kernel's verifier has to go through, whatever the policy: it gives up at a million
//! instructions (`BPF_COMPLEXITY_LIMIT_INSNS` of `linux/bpf_verifier.h`), and takes a second for them.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
};

use aya::programs::loaded_programs;
use ipfilter::{
    addresses::AddressSet,
    kernel::{Kind, Trial},
    plan::{Api, Deny, Plan, Protocols},
};
use testkit::lists::{Family, List, Shape};

use super::verdicts::equivalence::{api, blocks, load_one};

/// A fifth of what a kernel takes.
const LIMIT: u32 = 200_000;

/// Instructions that the verifier of this kernel went through.
fn verified(trial: &Trial) -> u32 {
    let fd = trial.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("a descriptor");
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("prog_id:"))
        .expect("a program's");
    let id: u32 = id.trim().parse().expect("a number");
    let mut programs = loaded_programs().map(|info| info.expect("a program"));
    let info = programs.find(|info| info.id() == id).expect("the program");
    let count = info.verified_instruction_count();
    count.expect("a kernel since 5.16")
}

fn one(sources: AddressSet, deny: Deny) -> Api {
    api("one", "443", Protocols::BOTH, deny, sources)
}

#[test]
fn no_shape_of_list_makes_the_verifier_go_through_much() {
    let shapes = [
        (Family::V4, Shape::Dense, 1_000),
        (Family::V4, Shape::Dense, 10_000),
        (Family::V4, Shape::Dense, 160_000),
        (Family::V4, Shape::Sparse, 1_000),
        (Family::V4, Shape::Sparse, 50_000),
        (Family::V6, Shape::Clusters, 10_000),
        (Family::V6, Shape::Long, 1_000),
    ];
    for (family, shape, size) in shapes {
        let list = List::new(shape, family, size);
        let networks = list.texts().map(|text| text.parse().expect("a prefix"));
        let sources = AddressSet::from_networks(networks);
        // More answers than two.
        let other = api(
            "other",
            "8443",
            Protocols::TCP,
            Deny::Drop,
            blocks(&["198.51.100.0/24"]),
        );
        for (deny, several) in [
            (Deny::Drop, false),
            (Deny::Respond, false),
            (Deny::Drop, true),
        ] {
            let mut apis = vec![one(sources.clone(), deny)];
            apis.extend(several.then(|| other.clone()));
            let plan = Plan::new(apis, Vec::new()).expect("a plan");
            for kind in [Kind::Xdp, Kind::Tc] {
                let count = verified(&load_one(&plan, kind));
                let case =
                    format!("{family} {shape} {size}, {deny:?}, several: {several}, {kind:?}");
                eprintln!("{case}: {count}");
                assert!(count > 0 && count < LIMIT, "{case}: {count}");
            }
        }
    }
}
