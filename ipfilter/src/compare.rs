//! What changes from one set of APIs and policies to another, at a time or from a time on. No IO.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    addresses::{AddressSet, Difference},
    failure::Failure,
    plan,
    policy::{Cause, Decisions, Effect, Policy, Side, causes},
    prepare::Policies,
};

/// What changes during a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Period {
    /// Its first moment.
    pub(crate) from: Timestamp,
    /// The APIs of both sides: those of the later one in its order, then those that are gone.
    pub(crate) apis: Vec<ApiChange>,
    /// The change in a line.
    pub(crate) summary: String,
    /// Whether the order of the APIs, the protected addresses or settings of the instance change.
    pub(crate) rest: bool,
}

/// What changes of an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiChange {
    pub(crate) name: String,
    /// Who gains and who loses access.
    pub(crate) access: Difference,
    /// Among the sources that may pass before and after: those of which some request is left to the
    /// API only afterwards (gained), or only before (lost).
    pub(crate) undecided: Difference,
    /// The statements behind `access.gained`.
    pub(crate) why_gained: Vec<Cause>,
    /// The statements behind `access.lost`.
    pub(crate) why_lost: Vec<Cause>,
    /// Other things that change, a phrase each.
    pub(crate) settings: Vec<String>,
    /// The change in a line; none if nothing changes.
    pub(crate) summary: Option<String>,
}

impl ApiChange {
    pub(crate) fn is_empty(&self) -> bool {
        self.access.is_empty() && self.undecided.is_empty() && self.settings.is_empty()
    }
}

impl Period {
    pub(crate) fn is_empty(&self) -> bool {
        !self.rest && self.apis.iter().all(ApiChange::is_empty)
    }
}

/// What changes at `at`.
pub(crate) fn at(before: &Policies, after: &Policies, at: Timestamp) -> Result<Period, Failure> {
    let (old, new) = (before.plan(at)?, after.plan(at)?);
    let diff = old.diff(&new);
    let later = new.apis.iter();
    let gone = old.apis.iter();
    let gone = gone.filter(|api| new.api(&api.name).is_none());
    let names = later.chain(gone).map(|api| &api.name);
    let apis = names.map(|name| {
        let pair = [before, after].map(|side| policy(side, name));
        let changed = diff.apis.iter().find(|change| change.name() == name);
        let access = changed.map_or_else(Difference::default, |it| it.access.clone());
        let [why_gained, why_lost] = match pair {
            [Some(old), Some(new)] => causes(&access, old, new, at),
            _ => [Vec::new(), Vec::new()],
        };
        ApiChange {
            name: name.clone(),
            access,
            undecided: undecided(pair, at),
            why_gained,
            why_lost,
            settings: changed.map_or_else(Vec::new, plan::Change::settings),
            summary: changed.map(ToString::to_string),
        }
    });
    Ok(Period {
        from: at,
        apis: apis.collect(),
        summary: diff.to_string(),
        rest: diff.addresses || diff.order || diff.settings,
    })
}

/// What changes from `from` on: a period for each time at which something else begins to.
pub(crate) fn from(
    before: &Policies,
    after: &Policies,
    from: Timestamp,
) -> Result<Vec<Period>, Failure> {
    let mut periods: Vec<Period> = Vec::new();
    let mut next = Some(from);
    while let Some(time) = next {
        let period = at(before, after, time)?;
        let same = periods.last().is_some_and(|last| {
            Period {
                from: time,
                ..last.clone()
            } == period
        });
        if !same {
            periods.push(period);
        }
        let boundaries = [before, after].map(|side| side.next_boundary(time));
        next = boundaries.into_iter().flatten().min();
    }
    Ok(periods)
}

/// All that changes in some period.
pub(crate) fn union(periods: &[Period]) -> Vec<ApiChange> {
    let Some((first, rest)) = periods.split_first() else {
        return Vec::new();
    };
    let mut apis = first.apis.clone();
    let pairs = rest
        .iter()
        .flat_map(|period| period.apis.iter().enumerate());
    for (index, more) in pairs {
        let Some(all) = apis.get_mut(index) else {
            continue;
        };
        all.access = all.access.union(&more.access);
        all.undecided = all.undecided.union(&more.undecided);
        all.why_gained = merged(&all.why_gained, &more.why_gained);
        all.why_lost = merged(&all.why_lost, &more.why_lost);
    }
    apis
}

/// The causes of both, each statement once.
fn merged(these: &[Cause], those: &[Cause]) -> Vec<Cause> {
    let mut all: BTreeMap<(bool, usize), Cause> = BTreeMap::new();
    for cause in these.iter().chain(those) {
        let key = (cause.side == Side::Before, cause.statement);
        all.entry(key)
            .and_modify(|it| it.sources = it.sources.union(&cause.sources))
            .or_insert_with(|| cause.clone());
    }
    let (denies, allows): (Vec<_>, Vec<_>) = all
        .into_values()
        .partition(|cause| cause.effect == Effect::Deny);
    denies.into_iter().chain(allows).collect()
}

fn policy<'a>(side: &'a Policies, name: &str) -> Option<&'a Policy> {
    let mut names = side.spec().apis.iter().map(|api| &api.name);
    side.policy(names.position(|it| it == name)?)
}

fn undecided(pair: [Option<&Policy>; 2], at: Timestamp) -> Difference {
    let [Some(old), Some(new)] = pair.map(|policy| policy.map(|policy| policy.at(at))) else {
        return Difference::default();
    };
    let open = |of: &Decisions| of.may_pass.difference(&of.allowed);
    let both = old.may_pass.intersection(&new.may_pass);
    let only = |set: AddressSet| set.intersection(&both);
    let Difference { gained, lost } = Difference::between(&open(&old), &open(&new));
    Difference {
        gained: only(gained),
        lost: only(lost),
    }
}
