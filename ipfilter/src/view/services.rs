//! The authorization services that read the policies from a process, as that process knows them.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The authorization services of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// SHA-256 of the plan that they are to decide by, in hexadecimal.
    pub plan: String,
    /// When the last one disconnected, if none is connected; nothing if none has been since the process started.
    pub gone: Option<Timestamp>,
    /// Those that are connected, the first to connect first.
    pub connected: Vec<Service>,
}

/// A connected authorization service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The user that it runs as.
    pub uid: u32,
    /// Its process, where the kernel says which it is.
    pub pid: Option<i32>,
    /// How far it is.
    pub state: ServiceState,
    /// Since when it is.
    pub since: Timestamp,
    /// SHA-256 of the plan that it says it decides by, in hexadecimal; none before the first one.
    pub digest: Option<String>,
    /// The requests that it says it has allowed.
    pub allowed: u64,
    /// Those that it says it has denied.
    pub denied: u64,
}

/// How far an authorization service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// It decides by what is in force.
    Serving,
    /// It decides by something else, or does not listen where it is to.
    Late,
    /// It can't read the policies in force, and denies every request.
    Unusable,
}

impl Services {
    /// How many decide by what is in force.
    #[must_use]
    pub fn current(&self) -> usize {
        let connected = self.connected.iter();
        let current = connected.filter(|one| one.state == ServiceState::Serving);
        current.count()
    }

    /// How many do not, or not yet.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.connected.len() - self.current()
    }
}

impl fmt::Display for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.current(), self.behind()) {
            (0, 0) => f.write_str("no authorization service reads the policies from this process"),
            (1, 0) => f.write_str("the authorization service decides by it"),
            (current, 0) => write!(f, "{current} authorization services decide by it"),
            (current, behind) => write!(
                f,
                "of {} authorization services, {behind} do not decide by it yet: see their logs",
                current + behind
            ),
        }
    }
}
