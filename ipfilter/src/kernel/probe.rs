//! Asking the program that is in force what it would do with a packet.
//!
//! The kernel runs it once, apart from all traffic. Its counters are those of the live traffic, so
//! the packet is counted there, and why it was judged as it was is read off the counter that moved:
//! other traffic may move some meanwhile, and then the program is asked again.

use std::net::IpAddr;

use ipfilter_ebpf::{
    abi::{Counter, Outcome, Reason},
    reply::flags,
    wire::field::{ipv4, ipv6, tcp},
};

use super::{
    Interface,
    counters::{Count, Counters},
    error::Error,
    filter::Filter,
    netlink, sys,
    test_run::{self, Action},
};
use crate::{packet::Packet, plan::Protocol};

/// What the program did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// What the hook returns.
    pub action: Action,
    /// What became of the frame.
    pub frame: Vec<u8>,
    /// The API's index, if the packet reached one, and the reason; none where other traffic was
    /// counted at the same time, every time.
    pub counted: Option<(Option<u32>, Reason)>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the program does with it.
    pub outcome: Outcome,
    /// Why; none where other traffic was counted at the same time.
    pub reason: Option<Reason>,
}

impl Probed {
    /// What becomes of `packet`, which was probed; none where the program failed.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Option<Verdict> {
        let (outcome, reason) = match (self.counted, self.action) {
            (_, Action::Aborted) => return None,
            (Some((_, reason)), _) => (reason.outcome(), Some(reason)),
            (None, Action::Pass) => (Outcome::Pass, None),
            (None, Action::Drop) => (Outcome::Drop, None),
            (None, Action::Transmit) => {
                let reason = answer(packet, &self.frame);
                (reason.outcome(), Some(reason))
            }
        };
        Some(Verdict { outcome, reason })
    }
}

/// Which answer a frame is. Answers have the same headers as the packet, and only `respond` accepts
/// a connection.
fn answer(packet: &Packet, frame: &[u8]) -> Reason {
    if packet.protocol == Protocol::Udp {
        return Reason::Prohibited;
    }
    let ip = if packet.source.is_ipv4() {
        ipv4::LEN
    } else {
        ipv6::LEN
    };
    match frame.get(packet.network() + ip + tcp::FLAGS) {
        Some(&SYN_ACK) => Reason::SynAck,
        _ => Reason::Reset,
    }
}

/// The flags of a TCP segment that accepts a connection.
const SYN_ACK: u8 = flags::SYN | flags::ACK;

/// How often other traffic may get in the way.
const ATTEMPTS: usize = 16;

impl Filter {
    /// What the program at `interface` does with an Ethernet frame. The frame is counted; where
    /// other traffic is, several times.
    ///
    /// # Errors
    ///
    /// When nothing is attached there, or the kernel does not run it.
    pub fn probe(&self, interface: &Interface, frame: &[u8], apis: usize) -> Result<Probed, Error> {
        let standing = self.standing()?;
        let mut standing = standing.iter();
        let there = standing.find(|it| it.attachment.interface.index == interface.index);
        let there = there.ok_or_else(|| {
            Error::failed(
                format!("nothing is deployed on `{}`", interface.name),
                "`ipfilter status` shows where",
            )
        })?;
        let program = sys::program_by_id(there.program)
            .map_err(|error| Error::io("can't open the program in force", error))?;
        let kind = there.attachment.hook.kind();
        let counters = Counters::pinned(&self.pins)?;
        let mut attempts = 0;
        loop {
            let before = counters.read(apis)?;
            let (action, left) = test_run::run(&program, kind, frame)?;
            let after = counters.read(apis)?;
            let counted = only_moved(&before, &after, frame.len() as u64, action);
            attempts += 1;
            if counted.is_some() || attempts == ATTEMPTS {
                return Ok(Probed {
                    action,
                    frame: left,
                    counted,
                });
            }
        }
    }
}

impl Interface {
    /// Its hardware address, where it has one.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub fn mac(&self) -> Result<Option<[u8; 6]>, Error> {
        let links = netlink::links()?;
        let link = links.into_iter().find(|link| link.index == self.index);
        Ok(link.and_then(|link| link.mac))
    }

    /// Whether it goes by this name, or by it as an alternative one.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub fn is_called(&self, name: &str) -> Result<bool, Error> {
        let links = netlink::links()?;
        let link = links.iter().find(|link| link.index == self.index);
        Ok(link.map_or(self.name == name, |link| link.is_called(name)))
    }

    /// The host's addresses, this interface's first.
    ///
    /// # Errors
    ///
    /// When the kernel can't be asked.
    pub fn host_addresses(&self) -> Result<Vec<IpAddr>, Error> {
        let mut all = netlink::addresses()?;
        all.sort_by_key(|(index, _)| *index != self.index);
        Ok(all.into_iter().map(|(_, address)| address).collect())
    }
}

/// The one counter that may have counted a frame of `length` bytes that was done `action` to.
fn only_moved(
    before: &[Count],
    after: &[Count],
    length: u64,
    action: Action,
) -> Option<(Option<u32>, Reason)> {
    let mut moved = before
        .iter()
        .zip(after)
        .filter(|(before, after)| {
            may_include(&before.total, &after.total, length) && action_of(after.reason) == action
        })
        .map(|(_, after)| (after.api, after.reason));
    let first = moved.next()?;
    moved.next().is_none().then_some(first)
}

fn may_include(before: &Counter, after: &Counter, length: u64) -> bool {
    let packets = after.packets.wrapping_sub(before.packets);
    let bytes = after.bytes.wrapping_sub(before.bytes);
    match packets {
        0 => false,
        1 => bytes == length,
        _ => bytes > length,
    }
}

/// What the programs do for each reason.
fn action_of(reason: Reason) -> Action {
    match reason.outcome() {
        Outcome::Pass => Action::Pass,
        Outcome::Drop => Action::Drop,
        Outcome::Reject | Outcome::Respond => Action::Transmit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(values: &[(Reason, u64, u64)]) -> Vec<Count> {
        let count = |&(reason, packets, bytes): &(Reason, u64, u64)| Count {
            interface: None,
            api: Some(0),
            reason,
            total: Counter { packets, bytes },
        };
        values.iter().map(count).collect()
    }

    #[test]
    fn the_reason_is_named_when_only_one_is_possible() {
        use Reason::{Allowed, Denied, OtherPort};
        let before = counts(&[(Allowed, 5, 500), (Denied, 7, 700), (OtherPort, 0, 0)]);
        let reason = |after: [(u64, u64); 3], action| {
            let [allowed, denied, other] = after;
            let after = counts(&[
                (Allowed, allowed.0, allowed.1),
                (Denied, denied.0, denied.1),
                (OtherPort, other.0, other.1),
            ]);
            only_moved(&before, &after, 54, action).map(|(_, reason)| reason)
        };
        let still = (0, 0);
        for (after, action, told) in [
            ([(5, 500), (8, 754), still], Action::Drop, Some(Denied)),
            ([(6, 554), (8, 754), still], Action::Drop, Some(Denied)),
            ([(6, 554), (7, 700), (1, 60)], Action::Pass, Some(Allowed)),
            ([(6, 554), (7, 700), (2, 120)], Action::Pass, None),
            ([(5, 500), (7, 700), still], Action::Pass, None),
            ([(5, 500), (8, 760), still], Action::Drop, None),
        ] {
            assert_eq!(reason(after, action), told, "{after:?}");
        }
    }

    fn verdict(
        protocol: Protocol,
        action: Action,
        flags: u8,
        counted: Option<Reason>,
    ) -> Option<(Outcome, Option<Reason>)> {
        let packet = Packet {
            mac: [0; 6],
            vlans: vec![7],
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol,
            port: 443,
            fragment: None,
        };
        let mut frame = vec![0; 60];
        frame[18 + 20 + tcp::FLAGS] = flags;
        let probed = Probed {
            action,
            frame,
            counted: counted.map(|reason| (Some(0), reason)),
        };
        let verdict = probed.verdict(&packet)?;
        Some((verdict.outcome, verdict.reason))
    }

    #[test]
    fn a_verdict_is_found_by_the_counter_or_else_by_the_answer() {
        use {Action::*, Protocol::*};
        for (protocol, action, flags, counted, want) in [
            (
                Tcp,
                Drop,
                2,
                Some(Reason::Denied),
                (Outcome::Drop, Some(Reason::Denied)),
            ),
            (
                Tcp,
                Transmit,
                0x12,
                Some(Reason::SynAck),
                (Outcome::Respond, Some(Reason::SynAck)),
            ),
            (
                Tcp,
                Transmit,
                0x12,
                None,
                (Outcome::Respond, Some(Reason::SynAck)),
            ),
            (
                Tcp,
                Transmit,
                0x14,
                None,
                (Outcome::Reject, Some(Reason::Reset)),
            ),
            (
                Udp,
                Transmit,
                0,
                None,
                (Outcome::Reject, Some(Reason::Prohibited)),
            ),
            (Tcp, Pass, 2, None, (Outcome::Pass, None)),
            (Tcp, Drop, 2, None, (Outcome::Drop, None)),
        ] {
            assert_eq!(verdict(protocol, action, flags, counted), Some(want));
        }
        assert_eq!(verdict(Tcp, Aborted, 2, None), None);
    }
}
