//! How a host is in its fleet: for its agent, and for its operator.

use ipfilter_bundle::{
    Kind,
    message::{HostState, InForce, Packets, Verified},
};
use ipfilter_ebpf::abi::{Outcome, Reason};
use jiff::{SignedDuration, Timestamp};

use super::{Desk, Known};
use crate::view::{fleet::FleetState, snapshot::Snapshot};

/// How long an agent that runs has nothing to ask, at most.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

impl Desk {
    /// How the host is in its fleet, if it belongs to one.
    pub(in super::super) fn state(&self) -> Option<FleetState> {
        let known = self.known().clone();
        let fleet = known.fleet.as_ref()?;
        let group = fleet.follow.group().clone();
        let in_force = known.in_force.as_ref().map(|release| {
            let accepted = known.accepted.bundle.as_ref();
            let accepted = accepted.filter(|it| it.release.release == *release);
            InForce {
                generation: release.generation,
                digest: release.digest,
                since: accepted.map_or(Timestamp::UNIX_EPOCH, |it| it.since),
            }
        });
        let overrides = known.accepted.overrides.as_ref();
        let overrides = overrides.filter(|it| it.release.release.group == group);
        let refused = known.accepted.refused.as_ref();
        let refused = refused.map(|refused| (refused.release.generation, refused.why.clone()));
        let turned_down = known.turned_down.as_ref();
        let turned_down = turned_down.map(|(release, why)| (release.generation, why.clone()));
        let (agent_seen, report) = known.agent.clone().unzip();
        let report = report.unwrap_or_default();
        let mut state = FleetState {
            follow: fleet.follow.to_string(),
            highest: known.accepted.highest(&group, Kind::Bundle),
            group: group.to_string(),
            in_force,
            desired: report.desired,
            overrides: overrides.map(|it| InForce {
                generation: it.release.release.generation,
                digest: it.release.release.digest,
                since: it.since,
            }),
            trusted_keys: fleet.trusted_keys.len(),
            turned_down: turned_down.or(refused),
            agent_seen,
            agent_problem: report.problem,
            problems: Vec::new(),
        };
        state.problems = problems(&state, &known);
        Some(state)
    }
}

/// What keeps the host from what its group is to have.
fn problems(state: &FleetState, known: &Known) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(why) = &known.unreadable {
        problems.push(format!(
            "it is not known what this host has accepted, so it accepts nothing: {why}"
        ));
    }
    match &known.in_force {
        None => problems.push(format!(
            "no bundle of group `{}` is in force: what this host's own configuration says is",
            state.group
        )),
        Some(release) if release.group.as_str() != state.group => problems.push(format!(
            "the bundle in force is one of group `{}`, until the first of `{}` is",
            release.group, state.group
        )),
        Some(_) => {}
    }
    if let Some((generation, why)) = &state.turned_down {
        problems.push(format!("generation {generation} is not in force: {why}"));
    }
    let silent = |seen: Timestamp| Timestamp::now().duration_since(seen) > SILENCE;
    match state.agent_seen {
        None => problems.push(
            "no agent has asked since this process started: is `ipfilter-fleet` running?"
                .to_owned(),
        ),
        Some(seen) if silent(seen) => problems.push(format!(
            "no agent has asked since {seen:.0}: is `ipfilter-fleet` running?"
        )),
        Some(_) => {}
    }
    problems.extend(state.agent_problem.clone());
    problems
}

/// How the host is, as its agent reports it.
pub(in super::super) fn host_state(snapshot: &Snapshot) -> HostState {
    let fleet = snapshot.fleet.as_ref();
    let ailments = snapshot.ailments();
    let problems = ailments.iter().map(ToString::to_string);
    HostState {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        group: fleet.and_then(|fleet| fleet.group.parse().ok()),
        bundle: fleet.and_then(|fleet| fleet.in_force),
        overrides: fleet.and_then(|fleet| fleet.overrides),
        highest: fleet.map_or(0, |fleet| fleet.highest),
        plan: snapshot
            .deployed
            .as_ref()
            .map(|(digest, _)| digest.clone())
            .unwrap_or_default(),
        problems: problems.collect(),
        verified: snapshot.verified.map(|verified| Verified {
            at: verified.time,
            equal: verified.differences == 0,
        }),
        packets: packets(snapshot),
    }
}

fn packets(snapshot: &Snapshot) -> Packets {
    let mut packets = Packets::default();
    for count in snapshot.counts.iter().flatten() {
        let of = match count.reason {
            Reason::Allowed => &mut packets.allowed,
            Reason::WouldDeny => &mut packets.would_deny,
            reason if reason.outcome() != Outcome::Pass => &mut packets.denied,
            _ => continue,
        };
        *of = of.saturating_add(count.total.packets);
    }
    packets
}
