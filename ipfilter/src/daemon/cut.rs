//! Closing the established connections of sources that a plan denies. The filter drops their packets;
//! without this, the API's side of them stays until the API or TCP gives up.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use log::{error, info};

use super::Policies;
use crate::{
    failure::Failure,
    kernel::{connections, destroy},
    plan::{Plan, PortTable, Protocol},
};

/// Closes the connections of sources that the plan of this moment denies, and says how many there were.
pub(super) fn close_denied(policies: &Policies) -> Result<String, Failure> {
    let closed = policies.plan(Timestamp::now()).and_then(|plan| {
        let connections = connections()?;
        let ports = plan.port_table();
        let denied = connections
            .iter()
            .filter(|connection| is_denied(&plan, &ports, connection.local(), connection.peer()));
        Ok(destroy(denied)?)
    });
    match closed {
        Ok(closed) => {
            let report = match closed {
                1 => "1 connection of a denied source was closed".to_owned(),
                _ => format!("{closed} connections of denied sources were closed"),
            };
            info!(closed; "{report}");
            Ok(report)
        }
        Err(failure) => {
            error!("established connections of denied sources may be open still: {failure}");
            Err(failure)
        }
    }
}

/// Whether the plan denies what comes over this connection. What this host sends to itself meets no
/// filter.
fn is_denied(plan: &Plan, ports: &PortTable, local: SocketAddr, peer: SocketAddr) -> bool {
    let api = ports.api(Protocol::Tcp, local.port());
    let Some((index, api)) = api.and_then(|index| Some((index, plan.apis.get(index)?))) else {
        return false;
    };
    let protected = plan.addresses.is_empty() || plan.addresses.contains(&local.ip());
    let is_own = peer.ip().is_loopback() || peer.ip() == local.ip();
    let callable = match peer.ip() {
        IpAddr::V4(source) => plan.v4.at(source.to_bits()),
        IpAddr::V6(source) => plan.v6.at(source.to_bits()),
    };
    let may_pass = u32::try_from(index).is_ok_and(|index| callable.has(index));
    protected && api.enforces(peer.ip()) && !is_own && !may_pass
}
