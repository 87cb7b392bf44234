//! Both ways from a frame to a verdict: the code on the host, and the loaded programs.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    thread,
};

use ipfilter::{
    addresses::AddressSet,
    kernel::{Action, Count, Kind, Trial},
    plan::{Api, Deny, Lookup, Plan, PortTable, Protocols, Response, Share},
};
use ipfilter_ebpf::{
    abi::{ApiSet, Counter, Reason},
    verdict::{By, Tables, Verdict},
    wire::{Address, Protocol, parse},
};

/// An API that is asked for by name, ports and so on.
pub(crate) fn api(
    name: &str,
    ports: &str,
    protocols: Protocols,
    deny: Deny,
    sources: AddressSet,
) -> Api {
    Api {
        name: name.into(),
        ports: ports.parse().expect("ports"),
        protocols,
        deny,
        enforce: Share::ALL,
        response: Response::default(),
        sources,
    }
}

/// The addresses of these blocks.
pub(crate) fn blocks(blocks: &[&str]) -> AddressSet {
    let nets = blocks.iter().map(|block| block.parse().expect("a block"));
    AddressSet::from_networks(nets)
}

/// A plan's answers, found the obvious way: by asking each API in turn.
struct Naive<'a> {
    plan: &'a Plan,
    ports: PortTable,
}

impl Tables for Naive<'_> {
    fn api(&self, protocol: Protocol, port: u16) -> Option<u32> {
        let protocol = match protocol {
            Protocol::Tcp => ipfilter::plan::Protocol::Tcp,
            Protocol::Udp => ipfilter::plan::Protocol::Udp,
        };
        let mut apis = (0..).zip(&self.plan.apis);
        let found = apis.find(|(_, api)| {
            api.ports.contains(port) && api.protocols.iter().any(|it| it == protocol)
        });
        let by_asking = found.map(|(index, _)| index);
        let table = match protocol {
            ipfilter::plan::Protocol::Tcp => &self.ports.tcp,
            ipfilter::plan::Protocol::Udp => &self.ports.udp,
        };
        let by_table = u32::from(table[usize::from(port)]).checked_sub(1);
        assert_eq!(by_asking, by_table, "{protocol} port {port}");
        by_asking
    }

    fn protects(&self, destination: &Address) -> bool {
        let addresses = &self.plan.addresses;
        addresses.is_empty() || addresses.contains(&ip(destination))
    }

    fn callable(&self, source: &Address) -> ApiSet {
        let source = ip(source);
        let apis = (0..).zip(&self.plan.apis);
        let bits = apis.filter(|(_, api)| api.sources.contains(source));
        ApiSet::from_bits(bits.fold(0, |bits, (index, _)| bits | 1 << index))
    }

    fn apis(&self) -> ApiSet {
        let apis = 0..self.plan.apis.len();
        ApiSet::from_bits(apis.fold(0, |bits, index| bits | 1 << index))
    }
}

fn ip(address: &Address) -> IpAddr {
    match address {
        Address::V4(words) => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Ipv4Addr::from(*bytes.first_chunk::<4>().expect("four bytes")).into()
        }
        Address::V6(words) => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Ipv6Addr::from(*bytes.first_chunk::<16>().expect("sixteen bytes")).into()
        }
    }
}

/// What the host's judge says of a frame, of which `in_sight` bytes are seen.
pub(crate) struct Host<'a> {
    plan: &'a Plan,
    tables: Naive<'a>,
}

impl<'a> Host<'a> {
    pub(crate) fn new(plan: &'a Plan) -> Self {
        let tables = Naive {
            plan,
            ports: plan.port_table(),
        };
        Self { plan, tables }
    }

    pub(crate) fn judge(&self, frame: &[u8]) -> Verdict {
        parse(frame, By(&self.tables))
    }

    /// Whether a program may have done `got` with a frame that the host judges so.
    pub(crate) fn agrees(&self, verdict: &Verdict, got: &Got) -> bool {
        let Got {
            action,
            api,
            reason,
            ..
        } = got;
        match verdict {
            Verdict::Pass(want) => (*action, *api, *reason) == (Action::Pass, None, *want),
            Verdict::Drop(want, _) => (*action, *api, *reason) == (Action::Drop, None, *want),
            Verdict::Allow(want) => {
                (*action, *api, *reason) == (Action::Pass, Some(want.api), Reason::Allowed)
            }
            Verdict::Deny(denied) => {
                let deny = self.plan.apis[denied.api as usize].deny;
                let transmits = *action == Action::Transmit;
                *api == Some(denied.api)
                    && *action != Action::Pass
                    && *action != Action::Aborted
                    && transmits == reason.is_answer()
                    && reasons(deny).contains(reason)
            }
        }
    }
}

/// How a packet that is denied so may be counted.
fn reasons(deny: Deny) -> &'static [Reason] {
    match deny {
        Deny::Drop => &[Reason::Denied],
        Deny::Reject => &[
            Reason::Reset,
            Reason::Prohibited,
            Reason::RejectLimited,
            Reason::Unanswered,
        ],
        Deny::Respond => &[
            Reason::SynAck,
            Reason::Forbidden,
            Reason::TlsAlert,
            Reason::RespondReset,
            Reason::Prohibited,
            Reason::RejectLimited,
            Reason::Unanswered,
        ],
    }
}

/// What a program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) action: Action,
    pub(crate) api: Option<u32>,
    pub(crate) reason: Reason,
    pub(crate) frame: Vec<u8>,
}

/// Runs `frame`; the one counter that moved says why the program did what it did. Nothing if the
/// kernel does not make a packet of it at all.
pub(crate) fn run(kind: Kind, trial: &Trial, frame: &[u8]) -> Option<Got> {
    let before = counters(trial);
    let (action, out) = run_only(kind, trial, frame)?;
    let moved = moved(&before, &counters(trial));
    let [
        Count {
            interface: None,
            api,
            reason,
            total,
        },
    ] = moved[..]
    else {
        panic!("one packet moved these counters: {moved:?}")
    };
    let bytes = frame.len() as u64;
    assert_eq!(total, Counter { packets: 1, bytes }, "{api:?} {reason:?}");
    Some(Got {
        action,
        api,
        reason,
        frame: out,
    })
}

/// As [`run`], whatever counter moves.
pub(crate) fn run_only(kind: Kind, trial: &Trial, frame: &[u8]) -> Option<(Action, Vec<u8>)> {
    match trial.run(frame) {
        Ok(ran) => Some(ran),
        Err(_) if !is_packet(kind, frame) => None,
        Err(error) => panic!("{kind:?}: the kernel does not run {frame:x?}: {error}"),
    }
}

/// Whether the kernel can make a packet of a frame. For traffic control it refuses one that is but an
/// Ethernet header, or has less than an IP header where there should be one (`bpf_prog_test_run_skb`):
/// it has no such packets in real life either, as they are thrown away before.
fn is_packet(kind: Kind, frame: &[u8]) -> bool {
    kind != Kind::Tc
        || match frame[12..14] {
            [0x08, 0x00] => frame.len() >= 34,
            [0x86, 0xdd] => frame.len() >= 54,
            _ => frame.len() > 14,
        }
}

pub(crate) fn counters(trial: &Trial) -> Vec<Count> {
    trial.counters().expect("the counters can be read")
}

/// The counters that moved, and by how much.
pub(crate) fn moved(before: &[Count], after: &[Count]) -> Vec<Count> {
    let differences = before.iter().zip(after).map(|(before, after)| Count {
        total: Counter {
            packets: after.total.packets - before.total.packets,
            bytes: after.total.bytes - before.total.bytes,
        },
        ..after.clone()
    });
    differences
        .filter(|count| count.total != Counter::default())
        .collect()
}

/// The plan under every kind of program and either table of sources. Needs root: it loads them.
pub(crate) fn load(plan: &Plan) -> Vec<(Kind, Trial)> {
    let load = |(kind, lookup)| {
        let mut plan = plan.clone();
        plan.lookup = lookup;
        (kind, load_one(&plan, kind))
    };
    let pairs = [
        (Kind::Xdp, Lookup::Trie),
        (Kind::XdpFrags, Lookup::Intervals),
        (Kind::Tc, Lookup::Trie),
        (Kind::Tc, Lookup::Intervals),
    ];
    assert!(
        Kind::ALL
            .iter()
            .all(|kind| pairs.iter().any(|(it, _)| it == kind))
    );
    pairs.into_iter().map(load).collect()
}

/// The plan under one kind of program. Without optimisation its port table is copied from one place
/// on the stack to the next: more than a test's thread has.
pub(crate) fn load_one(plan: &Plan, kind: Kind) -> Trial {
    testkit::need_root("the verdict tests, which load BPF programs,").expect("root");
    let load = || Trial::load(plan, kind).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    thread::scope(|scope| {
        let roomy = thread::Builder::new().stack_size(STACK);
        let loader = roomy.spawn_scoped(scope, load).expect("a thread");
        loader.join().expect("it loads")
    })
}

/// Bytes of stack to load a plan with.
const STACK: usize = 16 << 20;
