//! How many instructions a packet of each kind takes, held as one holds the size of a type.
//!
//! What is counted is the program as the running kernel has translated it. Each kind's number is that of
//! a packet in a flood, when no report is due.

use std::net::IpAddr;

use ipfilter::{
    addresses::AddressSet,
    kernel::{Kind, Stepper, Trial},
    plan::{Deny, Plan, Protocols},
};
use testkit::lists::{Family, List, Shape};

use super::verdicts::equivalence::api;
use crate::frames::{Q, TCP, frame, syn, tagged};

/// XDP_DROP and XDP_PASS.
const DROP: u32 = 1;
const PASS: u32 = 2;

const PORT: u16 = 443;

/// Packets before the one that is counted: more than are reported in one second.
const BEFORE: usize = 1300;

/// A plan that lets the prefixes of a list through.
fn plan(family: Family, size: usize) -> (Plan, List) {
    let list = List::new(Shape::Sparse, family, size);
    let networks = list.texts().map(|text| text.parse().expect("a prefix"));
    let sources = AddressSet::from_networks(networks);
    let api = api("api", "443", Protocols::TCP, Deny::Drop, sources);
    (Plan::new(vec![api], Vec::new()).expect("a plan"), list)
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(u32::try_from(bits).expect("32 bits").into()),
        Family::V6 => IpAddr::V6(bits.into()),
    }
}

/// Instructions for a packet among others of its kind.
fn count(stepper: &mut Stepper, frame: &[u8], returned: u32) -> usize {
    let counts = (0..3).map(|_| {
        let steps = stepper.run(frame).expect("steps");
        assert_eq!(steps.returned, returned);
        steps.instructions
    });
    counts.min().expect("three counts")
}

/// Sends packets until no more are reported, or looked at one by one.
fn flood(stepper: &mut Stepper, frame: &[u8]) {
    for _ in 0..BEFORE {
        stepper.run(frame).expect("steps");
    }
}

struct Case {
    family: Family,
    prefixes: usize,
    /// Denied at a place far from every prefix, denied beside a prefix, allowed.
    budgets: [usize; 3],
}

/// Roots that hold prefixes are allowed 160, those with one answer 130 (IPv4) and 150 (IPv6); slots that
/// need a list have what the search takes.
const CASES: [Case; 6] = [
    Case {
        family: Family::V4,
        prefixes: 10,
        budgets: [155, 155, 140],
    },
    Case {
        family: Family::V4,
        prefixes: 1000,
        budgets: [155, 300, 240],
    },
    Case {
        family: Family::V4,
        prefixes: 100_000,
        budgets: [130, 180, 167],
    },
    Case {
        family: Family::V6,
        prefixes: 10,
        budgets: [130, 285, 275],
    },
    Case {
        family: Family::V6,
        prefixes: 1000,
        budgets: [235, 285, 275],
    },
    Case {
        family: Family::V6,
        prefixes: 100_000,
        budgets: [140, 430, 360],
    },
];

/// Behind a VLAN tag, ten prefixes: judged like a packet without one, but for a call.
const TAGGED: usize = 200;

#[test]
fn packets_take_no_more_instructions_than_their_budgets() {
    let mut report = String::new();
    let mut over = false;
    for case in &CASES {
        let (plan, list) = plan(case.family, case.prefixes);
        for kind in [Kind::Xdp, Kind::XdpFrags] {
            let trial = Trial::load(&plan, kind).expect("a loaded plan");
            let mut stepper = trial.stepper().expect("a translated program");
            let prefix = list.prefixes[list.prefixes.len() / 2];
            let far = match case.family {
                Family::V4 => "240.1.2.3".parse().expect("an address"),
                Family::V6 => "3fff:ffff::1".parse().expect("an address"),
            };
            let inside = address(case.family, prefix.first);
            let beside = address(case.family, prefix.first - 1);
            flood(&mut stepper, &frame(far, TCP, &syn(PORT)));
            flood(&mut stepper, &frame(inside, TCP, &syn(PORT)));
            let frames = [(far, DROP), (beside, DROP), (inside, PASS)];
            let counts = frames.map(|(source, returned)| {
                count(&mut stepper, &frame(source, TCP, &syn(PORT)), returned)
            });
            over |= counts
                .iter()
                .zip(case.budgets)
                .any(|(count, budget)| *count > budget);
            report += &format!(
                "{} {:>7} {kind:?}: {counts:?} of {:?}; {} in all\n",
                case.family,
                case.prefixes,
                case.budgets,
                stepper.length()
            );
            if case.prefixes == 10 {
                let other = count(&mut stepper, &frame(inside, TCP, &syn(444)), PASS);
                let vlan = count(&mut stepper, &tagged(&[Q], far, TCP, &syn(PORT)), DROP);
                over |= vlan > TAGGED;
                report +=
                    &format!("  other port {other}, denied behind a tag {vlan} of {TAGGED}\n");
            }
        }
    }
    eprint!("{report}");
    assert!(!over, "{report}");
}
