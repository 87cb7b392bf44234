//! The verdict on each packet, row by row, from three sides that must agree: the table here, the same
//! code on the host, and the loaded programs of every kind.

mod answers;
mod bad;
mod conversation;
pub(crate) mod equivalence;
mod jumbo;
mod table;

use std::net::IpAddr;

use ipfilter::{
    addresses::AddressSet,
    kernel::Action,
    plan::{Deny, Plan, Protocols},
};
use ipfilter_ebpf::abi::{Outcome, Reason};

use equivalence::{Host, api, blocks};

/// The APIs by index.
const DROPPED: u32 = 0;
const REJECTED: u32 = 1;
const ANSWERED: u32 = 2;
const TCP_ONLY: u32 = 3;
const UDP_ONLY: u32 = 4;

/// Their ports. The last two share one.
const DROP: u16 = 1000;
const REJECT: u16 = 2000;
const RESPOND: u16 = 3000;
const SPLIT: u16 = 4000;
/// A port that is no API's.
const NOBODY: u16 = 5000;

/// One family's clients.
#[derive(Clone, Copy)]
struct Clients {
    /// May call every API.
    good: IpAddr,
    /// May call the first API only.
    half: IpAddr,
    /// May call none.
    bad: IpAddr,
}

fn clients() -> [Clients; 2] {
    let address = |text: &str| text.parse().expect("an address");
    [
        Clients {
            good: address("198.51.100.10"),
            half: address("100.64.0.1"),
            bad: address("203.0.113.10"),
        },
        Clients {
            good: address("2001:db8:100::10"),
            half: address("2001:db8:200::1"),
            bad: address("2001:db8:113::10"),
        },
    ]
}

/// Several APIs with different ports, protocols, policies and deny actions, at these addresses.
fn plan(addresses: &[&str]) -> Plan {
    let all = ["198.51.100.0/24", "2001:db8:100::/48"];
    let first = [&all[..], &["100.64.0.1/32", "2001:db8:200::/64"]].concat();
    let all = || -> AddressSet { blocks(&all) };
    let tcp = Protocols::TCP;
    let udp = Protocols {
        tcp: false,
        udp: true,
    };
    let apis = vec![
        api(
            "dropped",
            "1000",
            Protocols::BOTH,
            Deny::Drop,
            blocks(&first),
        ),
        api("rejected", "2000", Protocols::BOTH, Deny::Reject, all()),
        api("answered", "3000", Protocols::BOTH, Deny::Respond, all()),
        api("tcp-only", "4000", tcp, Deny::Drop, all()),
        api("udp-only", "4000", udp, Deny::Reject, all()),
    ];
    let addresses = addresses
        .iter()
        .map(|text| text.parse().expect("an address"));
    Plan::new(apis, addresses.collect()).expect("a plan")
}

/// What a hook returns when a packet is counted so.
fn action(reason: Reason) -> Action {
    match reason.outcome() {
        Outcome::Pass => Action::Pass,
        Outcome::Drop => Action::Drop,
        Outcome::Reject | Outcome::Respond => Action::Transmit,
    }
}

/// One row: a frame, and its expected verdict.
struct Row {
    what: String,
    frame: Vec<u8>,
    api: Option<u32>,
    reason: Reason,
}

/// Checks the rows on the host and in every kind of program.
fn check(plan: &Plan, rows: &[Row]) {
    let host = Host::new(plan);
    let trials = equivalence::load(plan);
    for Row {
        what,
        frame,
        api,
        reason,
    } in rows
    {
        let verdict = host.judge(frame);
        for (kind, trial) in &trials {
            let Some(got) = equivalence::run(*kind, trial, frame) else {
                continue;
            };
            let want = (action(*reason), *api, *reason);
            assert_eq!((got.action, got.api, got.reason), want, "{kind:?}: {what}");
            assert!(
                host.agrees(&verdict, &got),
                "{kind:?}: {what}: the host says {verdict:?}, the program {got:x?}"
            );
            if got.action == Action::Transmit {
                answers::check(frame, &got);
            } else {
                assert_eq!(&got.frame, frame, "{kind:?}: {what}: it was written to");
            }
        }
    }
}
