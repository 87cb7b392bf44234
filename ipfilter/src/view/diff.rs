//! What `ipfilter diff` prints.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::impact::ImpactView;
use crate::{
    addresses::{AddressSet, Difference},
    compare::{self, ApiChange, Period},
    policy::{Cause, Effect, Side},
    prepare::Policies,
};

/// The two sides, which know the files and statements.
pub(crate) struct Labels<'a> {
    pub(crate) before: &'a Policies,
    pub(crate) after: &'a Policies,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Each API, with all that changes at some time.
    apis: Vec<Api>,
    /// What changes when, if that is not the same all the time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    periods: Vec<Span>,
    /// The change in a line.
    summary: String,
    /// What it does to the sources that were seen lately, of a change to what is deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    impact: Option<ImpactView>,
}

/// What changes during a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Span {
    from: Timestamp,
    /// None if it does not end.
    until: Option<Timestamp>,
    apis: Vec<Api>,
    summary: String,
}

/// What changes of an API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Api {
    name: String,
    gained: Networks,
    lost: Networks,
    /// Sources that pass before and after, some requests of which are left to the API afterwards
    /// (gained), or were before (lost).
    undecided: Change,
    settings: Vec<String>,
    causes: Vec<CauseView>,
    #[serde(skip)]
    summary: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Change {
    gained: Networks,
    lost: Networks,
}

/// A set in the fewest CIDRs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Networks {
    ipv4: Vec<IpNet>,
    ipv6: Vec<IpNet>,
}

/// A statement behind a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct CauseView {
    change: &'static str,
    /// The policy that it is in.
    policy: &'static str,
    file: String,
    statement: usize,
    sid: Option<String>,
    effect: &'static str,
    sources: Networks,
    #[serde(skip)]
    set: AddressSet,
}

impl From<&AddressSet> for Networks {
    fn from(set: &AddressSet) -> Self {
        Self {
            ipv4: set.networks_v4().collect(),
            ipv6: set.networks_v6().collect(),
        }
    }
}

impl Networks {
    fn iter(&self) -> impl Iterator<Item = &IpNet> {
        self.ipv4.iter().chain(&self.ipv6)
    }
}

impl From<&Difference> for Change {
    fn from(difference: &Difference) -> Self {
        Self {
            gained: Networks::from(&difference.gained),
            lost: Networks::from(&difference.lost),
        }
    }
}

impl Report {
    /// The report on what changes in these periods.
    pub(crate) fn new(periods: &[Period], labels: &Labels<'_>, impact: Option<ImpactView>) -> Self {
        let apis = |apis: &[ApiChange]| apis.iter().map(|api| Api::new(api, labels)).collect();
        let ends = periods.iter().skip(1).map(|next| Some(next.from));
        let spans = periods.iter().zip(ends.chain([None]));
        let several = periods.len() > 1;
        Self {
            apis: apis(&compare::union(periods)),
            periods: spans
                .filter(|_| several)
                .map(|(period, until)| Span {
                    from: period.from,
                    until,
                    apis: apis(&period.apis),
                    summary: period.summary.clone(),
                })
                .collect(),
            summary: periods
                .first()
                .map_or_else(String::new, |it| it.summary.clone()),
            impact,
        }
    }
}

impl Api {
    fn new(api: &ApiChange, labels: &Labels<'_>) -> Self {
        let view = |change, causes: &[Cause]| -> Vec<CauseView> {
            let views = causes.iter();
            views
                .map(|cause| CauseView::new(change, cause, &api.name, labels))
                .collect()
        };
        let mut causes = view("gained", &api.why_gained);
        causes.extend(view("lost", &api.why_lost));
        let Change { gained, lost } = Change::from(&api.access);
        Self {
            name: api.name.clone(),
            gained,
            lost,
            undecided: Change::from(&api.undecided),
            settings: api.settings.clone(),
            causes,
            summary: api.summary.clone().or_else(|| {
                (!api.undecided.is_empty())
                    .then(|| format!("{}: nobody gains or loses access", api.name))
            }),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(summary) = &self.summary else {
            return Ok(());
        };
        writeln!(f, "{summary}")?;
        for (sign, change, networks) in [("-", "lost", &self.lost), ("+", "gained", &self.gained)] {
            for network in networks.iter() {
                writeln!(
                    f,
                    "  {sign} {:<18} {}",
                    network.to_string(),
                    self.why(change, network)
                )?;
            }
        }
        for (networks, what) in [
            (
                &self.undecided.gained,
                "passes as before, but some requests are now left to the API",
            ),
            (
                &self.undecided.lost,
                "passes as before, and now every request is allowed",
            ),
        ] {
            for network in networks.iter() {
                writeln!(f, "  ~ {:<18} {what}", network.to_string())?;
            }
        }
        Ok(())
    }

    /// The statements behind what happens to a network.
    fn why(&self, change: &str, network: &IpNet) -> String {
        let causes = self.causes.iter();
        let causes = causes.filter(|cause| cause.change == change && cause.concerns(network));
        let phrases: Vec<String> = causes.map(ToString::to_string).collect();
        phrases.join(", ")
    }
}

impl CauseView {
    fn new(change: &'static str, cause: &Cause, api: &str, labels: &Labels<'_>) -> Self {
        let (policy, policies) = match cause.side {
            Side::Before => ("old", labels.before),
            Side::After => ("new", labels.after),
        };
        let apis = &policies.spec().apis;
        let index = apis.iter().position(|it| it.name == api);
        let named = index.and_then(|index| Some((apis.get(index)?, policies.policy(index)?)));
        Self {
            change,
            policy,
            file: named.map_or_else(String::new, |(api, _)| api.policy.display().to_string()),
            statement: cause.statement,
            sid: named.and_then(|(_, policy)| policy.sid(cause.statement).map(ToOwned::to_owned)),
            effect: match cause.effect {
                Effect::Allow => "allow",
                Effect::Deny => "deny",
            },
            sources: Networks::from(&cause.sources),
            set: cause.sources.clone(),
        }
    }

    fn concerns(&self, network: &IpNet) -> bool {
        self.set.overlaps_network(network)
    }
}

impl fmt::Display for CauseView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            "deny" => "Deny",
            _ => "Allow",
        };
        match &self.sid {
            Some(sid) => write!(f, "{effect} `{sid}` of the {} policy", self.policy),
            None => write!(
                f,
                "{effect} `Statement[{}]` of the {} policy",
                self.statement, self.policy
            ),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.periods.is_empty() {
            write(f, &self.apis, &self.summary)?;
        }
        for span in &self.periods {
            match span.until {
                Some(until) => writeln!(f, "from {} until {until}:", span.from)?,
                None => writeln!(f, "from {} on:", span.from)?,
            }
            write(f, &span.apis, &span.summary)?;
        }
        match &self.impact {
            Some(impact) => impact.fmt(f),
            None => Ok(()),
        }
    }
}

fn write(f: &mut fmt::Formatter<'_>, apis: &[Api], summary: &str) -> fmt::Result {
    if apis.iter().all(|api| api.summary.is_none()) {
        return writeln!(f, "{summary}");
    }
    apis.iter().try_for_each(|api| api.write(f))
}
