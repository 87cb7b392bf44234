//! The authorization services beside the filter: whether they decide by the same plan.

use jiff::Timestamp;
use serde::Serialize;

use super::age::age;
use crate::{
    addresses::words::count,
    view::services::{Service, ServiceState, Services},
};

/// The authorization services of an instance.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Authorization {
    /// Where they are to listen; none where none is configured any more.
    listen: Option<String>,
    state: AuthorizationState,
    /// SHA-256 of the plan that they are to decide by, where a process hands it to them.
    digest: Option<String>,
    /// When the last one disconnected, if none is connected.
    gone: Option<Timestamp>,
    services: Vec<Service>,
}

/// What can be said of all of them: the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum AuthorizationState {
    /// Each decides by the plan in force.
    Serving,
    /// One does not.
    Late,
    /// One can't read the policies in force, and denies every request.
    Unusable,
    /// None is connected.
    Gone,
    /// One is connected, and none is configured: it denies every request.
    Unconfigured,
    /// No process says.
    Unknown,
}

impl Authorization {
    /// Nothing where none is configured or connected. `listen`: where they are to; `known`: what the process that
    /// hands them the policies knows, if there is one.
    pub(super) fn new(listen: Option<String>, known: Option<Services>) -> Option<Self> {
        let is_known = known.is_some();
        let Services {
            plan,
            gone,
            connected,
        } = known.unwrap_or_default();
        if listen.is_none() && connected.is_empty() {
            return None;
        }
        let has = |state| connected.iter().any(|one| one.state == state);
        let state = match listen {
            None => AuthorizationState::Unconfigured,
            _ if !is_known => AuthorizationState::Unknown,
            _ if connected.is_empty() => AuthorizationState::Gone,
            _ if has(ServiceState::Unusable) => AuthorizationState::Unusable,
            _ if has(ServiceState::Late) => AuthorizationState::Late,
            _ => AuthorizationState::Serving,
        };
        Some(Self {
            listen,
            state,
            digest: is_known.then_some(plan),
            gone,
            services: connected,
        })
    }

    /// What is wrong with them, if anything is.
    pub(super) fn problem(&self) -> Option<String> {
        match self.state {
            AuthorizationState::Serving => None,
            _ => Some(self.words()),
        }
    }

    /// All of it in a sentence.
    pub(super) fn words(&self) -> String {
        let worst = self.services.iter().find(|one| match self.state {
            AuthorizationState::Late => one.state == ServiceState::Late,
            AuthorizationState::Unusable => one.state == ServiceState::Unusable,
            _ => true,
        });
        let number = match self.services.len() {
            0 | 1 => String::new(),
            many => format!("{}, of which ", count(many, "service", "services")),
        };
        let one = worst.map(Service::words);
        match (self.state, one) {
            (AuthorizationState::Serving, Some(one)) if number.is_empty() => one,
            (AuthorizationState::Serving, Some(one)) => format!("{number}the first is {one}"),
            (AuthorizationState::Unconfigured, _) => {
                let connected = count(self.services.len(), "service", "services");
                format!(
                    "no `authorize` section is in force: {connected} connected, which denies every request"
                )
            }
            (AuthorizationState::Unknown, _) => {
                "no process hands out the policies: a service that \
                runs decides by those it was handed last"
                    .to_owned()
            }
            (_, Some(one)) => format!("{number}one is {one}"),
            (_, None) => {
                let since = match self.gone {
                    Some(gone) => format!("gone since {gone:.0} ({} ago)", age(gone)),
                    None => "none has connected yet".to_owned(),
                };
                format!(
                    "{since}: where none answers, proxies refuse every request. See the log of \
                     ipfilter-authorize"
                )
            }
        }
    }

    /// Each service, in a line of its own.
    pub(super) fn each(&self) -> impl Iterator<Item = String> + '_ {
        self.services.iter().map(|one| {
            let pid = one
                .pid
                .map_or_else(String::new, |pid| format!("process {pid}, "));
            format!("{pid}user {}: {}", one.uid, one.words())
        })
    }
}

impl Service {
    fn words(&self) -> String {
        let plan = self.digest.as_deref();
        let plan = plan.map(|plan| plan.get(..12).unwrap_or(plan));
        let plan = plan.map_or_else(|| "no plan yet".to_owned(), |plan| format!("plan {plan}"));
        let since = age(self.since);
        match self.state {
            ServiceState::Serving => format!(
                "serving {plan} for {since}; {} allowed, {} denied",
                count(
                    usize::try_from(self.allowed).unwrap_or(usize::MAX),
                    "request",
                    "requests"
                ),
                self.denied
            ),
            ServiceState::Late => {
                format!(
                    "late for {since}: it serves {plan}, or does not listen where it is to; see its log"
                )
            }
            ServiceState::Unusable => format!(
                "unable to read the policies for {since}, and denies every request; see its log"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn service(state: ServiceState) -> Service {
        Service {
            uid: 998,
            pid: Some(4242),
            state,
            since: Timestamp::now() - SignedDuration::from_mins(3),
            digest: Some("0123456789abcdef".repeat(4)),
            allowed: 1,
            denied: 7,
        }
    }

    fn of(connected: Vec<Service>) -> Authorization {
        let known = Services {
            plan: "f".repeat(64),
            gone: Some(Timestamp::UNIX_EPOCH).filter(|_| connected.is_empty()),
            connected,
        };
        Authorization::new(Some("unix:/s".into()), Some(known)).unwrap()
    }

    #[test]
    fn the_worst_is_said_of_them() {
        use ServiceState::{Late, Serving, Unusable};
        for (states, wrong, said) in [
            (
                &[Serving][..],
                false,
                "serving plan 0123456789ab for 3m; 1 request allowed, 7 denied",
            ),
            (
                &[Serving, Serving],
                false,
                "2 services, of which the first is serving plan ",
            ),
            (
                &[Serving, Late],
                true,
                "2 services, of which one is late for 3m: it serves plan 0123456789ab",
            ),
            (
                &[Late, Unusable],
                true,
                "2 services, of which one is unable to read the policies for 3m, and denies every",
            ),
            (&[], true, "gone since 1970-01-01T00:00:00Z ("),
        ] {
            let all = of(states.iter().map(|state| service(*state)).collect());
            let words = all.words();
            assert!(words.starts_with(said), "{words}");
            assert_eq!(all.problem(), wrong.then_some(words));
            assert_eq!(all.each().count(), states.len());
        }
        let mut never = of(Vec::new());
        never.gone = None;
        assert!(
            never.words().starts_with("none has connected yet: "),
            "{}",
            never.words()
        );
    }

    #[test]
    fn what_is_not_configured_is_shown_only_where_it_is_connected() {
        assert!(Authorization::new(None, None).is_none());
        assert!(Authorization::new(None, Some(Services::default())).is_none());
        let left = Services {
            connected: vec![service(ServiceState::Serving)],
            ..Services::default()
        };
        let left = Authorization::new(None, Some(left)).unwrap();
        assert!(left.problem().unwrap().contains("denies every request"));
        // Without a process it is not known how far they are.
        let unknown = Authorization::new(Some("127.0.0.1:9478".into()), None).unwrap();
        assert_eq!(
            (unknown.state, unknown.digest.as_ref()),
            (AuthorizationState::Unknown, None)
        );
        assert!(unknown.problem().unwrap().contains("handed last"));
    }
}
