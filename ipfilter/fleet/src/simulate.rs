//! Many agents in one process, of hosts without filters: for measuring what a group of that size asks of etcd.

use std::sync::{Arc, Mutex, PoisonError};

use ipfilter_bundle::{
    Digest, Kind, SignedRelease,
    message::{AgentReport, HostState, InForce, Outcome},
};
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{
    agent::{Agent, Host, Metrics},
    etcd::{Credentials, Place},
};

/// A host that accepts what has the digest that it should, and enforces nothing.
#[derive(Clone, Debug, Default)]
struct Hollow(Arc<Mutex<HostState>>);

impl Host for Hollow {
    async fn state(&self, _: AgentReport) -> Result<HostState, String> {
        Ok(self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    async fn offer(
        &self,
        release: SignedRelease,
        content: Arc<Vec<u8>>,
    ) -> Result<Outcome, String> {
        let release = release.release;
        if Digest::of(&content) != release.digest {
            return Ok(Outcome::Refused("another digest".to_owned()));
        }
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let in_force = Some(InForce {
            generation: release.generation,
            digest: release.digest,
            since: Timestamp::now(),
        });
        match release.kind {
            Kind::Bundle => {
                state.bundle = in_force;
                state.highest = release.generation;
            }
            Kind::Overrides => state.overrides = in_force,
        }
        Ok(Outcome::InForce)
    }
}

/// Runs the agents of so many hosts, which follow the group at `url`, until it is dropped.
///
/// # Errors
///
/// When `url` is none of a group.
pub async fn run(url: &str, hosts: usize) -> Result<(), String> {
    let place: Place = url.parse()?;
    let mut agents = JoinSet::new();
    for number in 0..hosts {
        let agent = Agent {
            place: place.clone(),
            credentials: Credentials::default(),
            name: format!("host-{number:04}"),
            id: format!("{number:012}"),
            host: Hollow::default(),
            metrics: Metrics::new().map_err(|error| error.to_string())?,
        };
        agents.spawn(agent.run());
    }
    // They run for ever.
    agents.join_all().await;
    Ok(())
}
