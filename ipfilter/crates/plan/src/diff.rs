//! What changes from one plan to the next, for `diff`, for the log and for the answer to a reload.

use std::fmt;

use ipfilter_addresses::{AddressSet, Difference, words};

use super::{Api, Lookup, Plan, Share};

/// What is different in a later plan. APIs are the same if their names are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diff<'a> {
    /// The APIs that are not alike in both plans: those of the later plan in its order, then those
    /// that only the earlier one has.
    pub apis: Vec<Change<'a>>,
    /// Whether the destination addresses differ.
    pub addresses: bool,
    /// Whether the APIs that both have are in another order.
    pub order: bool,
    /// Whether limits, logging or the kind of table differ.
    pub settings: bool,
}

/// An API that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// As it was; none if it is new. Its ports were then open to everyone.
    pub before: Option<&'a Api>,
    /// As it will be; none if it is gone. Its ports are then open to everyone.
    pub after: Option<&'a Api>,
    /// Who gains and who loses access.
    pub access: Difference,
}

impl<'a> Diff<'a> {
    pub(super) fn between(before: &'a Plan, after: &'a Plan) -> Self {
        let later = after.apis.iter();
        let later = later.map(|api| (before.api(&api.name), Some(api)));
        let gone = before.apis.iter();
        let gone = gone.filter(|api| after.api(&api.name).is_none());
        let pairs = later.chain(gone.map(|api| (Some(api), None)));
        let changed = pairs.filter(|(before, after)| before != after);
        Self {
            apis: changed
                .map(|(before, after)| Change::between(before, after))
                .collect(),
            addresses: before.addresses != after.addresses,
            order: !common(before, after).eq(common(after, before)),
            settings: settings(before) != settings(after),
        }
    }

    pub(super) fn first(plan: &'a Plan) -> Self {
        let apis = plan.apis.iter();
        let new = apis.map(|api| Change::between(None, Some(api)));
        Self {
            apis: new.collect(),
            addresses: false,
            order: false,
            settings: false,
        }
    }

    /// Whether the plans enforce the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.apis.is_empty() && !self.addresses && !self.order && !self.settings
    }
}

/// What a plan has beside its APIs and addresses.
fn settings(plan: &Plan) -> (u32, u32, u32, u32, bool, Lookup) {
    (
        plan.reject_rate,
        plan.respond_rate,
        plan.events,
        plan.callers,
        plan.log_denied,
        plan.lookup,
    )
}

/// The names that both plans have, in the order of the first.
fn common<'a>(these: &'a Plan, those: &'a Plan) -> impl Iterator<Item = &'a str> {
    let names = these.apis.iter().map(|api| api.name.as_str());
    names.filter(|name| those.api(name).is_some())
}

impl<'a> Change<'a> {
    fn between(before: Option<&'a Api>, after: Option<&'a Api>) -> Self {
        let everyone = AddressSet::all();
        let sources = |api: Option<&'a Api>| api.map(|api| &api.sources);
        let (was, is) = (sources(before), sources(after));
        Self {
            before,
            after,
            access: Difference::between(was.unwrap_or(&everyone), is.unwrap_or(&everyone)),
        }
    }

    /// What changes beside the sources, a phrase each.
    #[must_use]
    pub fn settings(&self) -> Vec<String> {
        let (before, after) = match (self.before, self.after) {
            (Some(before), Some(after)) => (before, after),
            (None, Some(after)) => {
                let new = format!("new, ports {}", after.ports);
                return [new].into_iter().chain(after.enforce.leniency()).collect();
            }
            (Some(before), None) => {
                return vec![format!("gone, ports {} are open to everyone", before.ports)];
            }
            (None, None) => return Vec::new(),
        };
        let moved = |what, old: &dyn fmt::Display, new: &dyn fmt::Display| {
            let (old, new) = (old.to_string(), new.to_string());
            (old != new).then(|| format!("{what} {old} become {new}"))
        };
        let deny = (before.deny != after.deny)
            .then(|| format!("deny action {} becomes {}", before.deny, after.deny));
        let response = (before.response != after.response).then(|| "another response".to_owned());
        let enforce = (before.enforce != after.enforce).then(|| {
            after
                .enforce
                .leniency()
                .unwrap_or_else(|| match before.enforce {
                    Share::NONE => "enforced, no longer monitored only".to_owned(),
                    share => format!(
                        "enforced for all sources, no longer for {} only",
                        share.percent()
                    ),
                })
        });
        let phrases = [
            moved("ports", &before.ports, &after.ports),
            moved("protocols", &before.protocols, &after.protocols),
            deny,
            response,
            enforce,
        ];
        phrases.into_iter().flatten().collect()
    }
}

impl Change<'_> {
    /// The API's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.after.or(self.before).map_or("", |api| &api.name)
    }

    /// Who may call now, where that is everyone or nobody.
    fn extreme(&self) -> Option<String> {
        let sources = &self.after?.sources;
        let extreme = sources.is_empty() || *sources == AddressSet::all();
        extreme.then(|| format!("{} may call", words::sources(sources)))
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moves = self.before.is_some() && self.after.is_some() && !self.access.is_empty();
        let mut phrases = Vec::new();
        if moves {
            phrases.push(words::change(&self.access));
            phrases.extend(self.extreme());
        }
        phrases.extend(self.settings());
        if let (None, Some(after)) = (self.before, self.after) {
            phrases.push(format!("{} may call", words::sources(&after.sources)));
        }
        write!(f, "{}: {}", self.name(), phrases.join("; "))
    }
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let apis = self.apis.iter().map(ToString::to_string);
        let addresses = self.addresses.then(|| "other addresses".to_owned());
        let order = self.order.then(|| "APIs in another order".to_owned());
        let settings = self
            .settings
            .then(|| "other limits, logging or tables".to_owned());
        let rest = addresses.into_iter().chain(order).chain(settings);
        let all: Vec<_> = apis.chain(rest).collect();
        if all.is_empty() {
            return f.write_str("nothing changes");
        }
        f.write_str(&all.join(". "))
    }
}
