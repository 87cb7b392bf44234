//! What `probe` prints.

use std::fmt;

use ipfilter_ebpf::{
    reply::flags,
    wire::field::{ipv4, ipv6, tcp},
};
use serde::Serialize;

use crate::{
    kernel::{Action, Probed},
    packet::Packet,
    plan::Protocol,
};

/// What an interface would do with a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `pass`, `drop`, `reject` or `respond`.
    pub(super) verdict: &'static str,
    /// As the counters name it; `unclear` where other traffic was counted at the same time.
    pub(super) reason: &'static str,
    /// The API that the packet is for; none where it reached none.
    api: Option<String>,
    pub(super) interface: String,
    mode: &'static str,
}

const SYN_ACK: u8 = flags::SYN | flags::ACK;

impl Report {
    /// The outcome for `packet`; none where the program failed. `name` gives an API's name.
    #[must_use]
    pub fn new(
        packet: &Packet,
        probed: &Probed,
        interface: &str,
        mode: &'static str,
        name: impl FnOnce(u32) -> String,
    ) -> Option<Self> {
        let (verdict, reason) = match (probed.counted, probed.action) {
            (_, Action::Aborted) => return None,
            (Some((_, reason)), _) => (reason.outcome().name(), reason.name()),
            (None, Action::Pass) => ("pass", "unclear"),
            (None, Action::Drop) => ("drop", "unclear"),
            (None, Action::Transmit) => answer(packet, &probed.frame),
        };
        Some(Self {
            verdict,
            reason,
            api: probed.counted.and_then(|(api, _)| api).map(name),
            interface: interface.into(),
            mode,
        })
    }
}

/// Which answer a frame is. Answers have the same headers as the packet, and only `respond` accepts
/// a connection.
fn answer(packet: &Packet, frame: &[u8]) -> (&'static str, &'static str) {
    if packet.protocol == Protocol::Udp {
        return ("reject", "prohibited");
    }
    let ip = if packet.source.is_ipv4() {
        ipv4::LEN
    } else {
        ipv6::LEN
    };
    match frame.get(packet.network() + ip + tcp::FLAGS) {
        Some(&SYN_ACK) => ("respond", "syn_ack"),
        _ => ("reject", "reset"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.verdict, self.reason)?;
        if let Some(api) = &self.api {
            write!(f, ", API `{api}`")?;
        }
        writeln!(f, ", on `{}` ({})", self.interface, self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipfilter_ebpf::abi::Reason;

    fn packet(protocol: Protocol) -> Packet {
        Packet {
            mac: [0; 6],
            vlans: vec![7],
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol,
            port: 443,
            fragment: None,
        }
    }

    fn told(protocol: Protocol, action: Action, flags: u8, counted: Option<Reason>) -> String {
        let mut frame = vec![0; 60];
        frame[18 + 20 + tcp::FLAGS] = flags;
        let probed = Probed {
            action,
            frame,
            counted: counted.map(|reason| (Some(0), reason)),
        };
        let report = Report::new(&packet(protocol), &probed, "eth0", "native", |index| {
            format!("api{index}")
        });
        report.map_or_else(|| "failed".to_owned(), |report| report.to_string())
    }

    #[test]
    fn a_verdict_is_shown_with_and_without_a_reason() {
        for (protocol, action, flags, counted, want) in [
            (
                Protocol::Tcp,
                Action::Drop,
                2,
                Some(Reason::Denied),
                "drop (denied), API `api0`, on `eth0` (native)\n",
            ),
            (
                Protocol::Tcp,
                Action::Transmit,
                0x12,
                Some(Reason::SynAck),
                "respond (syn_ack), API `api0`, on `eth0` (native)\n",
            ),
            (
                Protocol::Tcp,
                Action::Transmit,
                0x12,
                None,
                "respond (syn_ack), on `eth0` (native)\n",
            ),
            (
                Protocol::Tcp,
                Action::Transmit,
                0x14,
                None,
                "reject (reset), on `eth0` (native)\n",
            ),
            (
                Protocol::Udp,
                Action::Transmit,
                0,
                None,
                "reject (prohibited), on `eth0` (native)\n",
            ),
            (
                Protocol::Tcp,
                Action::Pass,
                2,
                None,
                "pass (unclear), on `eth0` (native)\n",
            ),
            (Protocol::Tcp, Action::Aborted, 2, None, "failed"),
        ] {
            assert_eq!(told(protocol, action, flags, counted), want);
        }
    }
}
