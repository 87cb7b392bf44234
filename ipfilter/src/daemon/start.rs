//! What a process begins with.

mod trial;

use std::{sync::Arc, time::SystemTime};

use anyhow::{Context as _, anyhow};
use jiff::{SignedDuration, Timestamp};
use log::{error, info, warn};

use super::{
    Daemon,
    addresses::warn_of_open,
    build::{keep, report},
    clock::Wall,
    cut,
    deploy::{report_missing, require},
    feed::Feed,
    fleet::Desk,
    guard::guard,
    in_force::InForce,
    machine::Span,
    settle::settle_trial,
    upkeep::announce,
    worker::Worker,
};
use crate::config::{Config, ConfigSource, OnError};
use crate::failure::Failure;
use crate::instance::Instance;
use crate::overrides::Overrides;
use crate::session::Session;
use crate::state::{
    Cause, Entry, History, InputFile, Inputs, Kind, PlanRecord, Purpose, Requester, Trial,
    load_overrides, note,
};
use crate::{
    kernel::{Bound, Deployment, Filter, Found, Interface},
    lock::Lock,
    plan::Plan,
    prepare::{self, Policies},
    progress::Progress,
    view::{
        failure::{in_a_line, plain},
        snapshot::Tally,
    },
};

/// Where what is deployed first comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// What a trial that is not settled says.
    Trial,
    /// The files.
    Files,
    /// What was in force last.
    LastGood,
    /// The files, as far as they are whole; what is broken shuts everyone out.
    Shut,
}

impl Origin {
    /// What is tried, in this order. An unconfirmed change in the files is not deployed once more; a
    /// filter that was detached for a while comes back as the files say.
    fn after(on_error: Option<OnError>, trial: Option<Purpose>) -> Vec<Self> {
        let first: &[Self] = match trial {
            None => &[Self::Files],
            Some(Purpose::Change) => &[Self::Trial],
            Some(Purpose::Pause) => &[Self::Files, Self::Trial],
        };
        let then: &[Self] = match on_error {
            None => &[],
            Some(OnError::Fail) => &[Self::LastGood],
            Some(OnError::DenyAll) => &[Self::LastGood, Self::Shut],
        };
        [first, then].concat()
    }
}

impl Daemon {
    /// Deploys for the first time. If the files won't do and a person is there to read why, that is
    /// all. Unattended (where `on_error` says what to do, given what is asked for if that can be read)
    /// the last good plan is taken up, or else what it says; and interfaces that are not there are waited for.
    ///
    /// # Errors
    ///
    /// When nothing could be deployed; then nothing has changed.
    pub fn start(
        mut lock: Lock,
        source: ConfigSource,
        guarded: Vec<Session>,
        on_error: impl FnOnce(Option<&Config>) -> Option<OnError>,
    ) -> Result<Self, Failure> {
        let instance = lock.instance().clone();
        let config = InputFile::of_config(&source);
        let (spec, mut unread) = split(source.read().map_err(Failure::from));
        let on_error = on_error(spec.as_ref());
        let (inputs, unreadable) = split(
            spec.clone()
                .ok_or_else(nothing)
                .and_then(|spec| Inputs::asked((&source, spec), config, &instance)),
        );
        unread = unread.or(unreadable);
        let mut start = Start::of(instance, Frozen::No);
        start.unattended = on_error.is_some();
        start.guarded = guarded;
        start.confirm = source
            .service(spec.as_ref().unwrap_or(&Config::default()))
            .confirm;
        let unsettled = start.unsettled(&source);
        let purpose = unsettled.as_ref().map(|trial| trial.purpose);
        start.history.record.last_reload = None;
        let mut why: Option<Failure> = None;
        for origin in Origin::after(on_error, purpose) {
            let taken = match origin {
                Origin::Trial => start.resume(unsettled.as_ref()),
                Origin::Files => match (&inputs, unread.take()) {
                    (Some(inputs), None) => start.files(inputs),
                    (_, failure) => Err(failure.unwrap_or_else(nothing)),
                },
                Origin::LastGood => start.last_good(&source, why.as_ref()),
                Origin::Shut => start.shut(spec.as_ref(), why.as_ref()),
            };
            match taken {
                Ok(started) => {
                    // The directory may have been made only now.
                    lock.claim_pins()?;
                    start.history.save();
                    start.note(
                        if origin == Origin::Trial && start.history.record.degraded.is_some() {
                            Kind::ConfirmMissed
                        } else {
                            Kind::Start
                        },
                        &started,
                    );
                    if unsettled.is_some() && start.trial.is_none() && origin != Origin::LastGood {
                        settle_trial(&start.history.instance);
                    }
                    // A failure is in the log; the filter is needed all the more.
                    let _: Result<(), Failure> = cut_if_asked(&started.policies);
                    let worker = |name| Worker::start(name).context("can't start a thread");
                    let as_asked = start.history.record.degraded.is_none();
                    return Ok(Self {
                        last_read: inputs.and_then(|inputs| inputs.name().ok()),
                        lock,
                        source,
                        history: start.history,
                        filter: start.filter,
                        policies: Arc::new(started.policies),
                        plan: Arc::new(started.plan),
                        feed: Feed::default(),
                        desk: Desk::default(),
                        span: started.span,
                        deployment: started.deployment,
                        renamed: Vec::new(),
                        unattached: String::new(),
                        unrepaired: String::new(),
                        wall: Wall::now(),
                        overdue: None,
                        trial: start.trial,
                        return_at: None,
                        ended: None,
                        ends: Vec::new(),
                        builder: worker("builder")?,
                        keeper: worker("keeper")?,
                        tally: Tally::begin(as_asked),
                    });
                }
                Err(failure) if why.is_none() => {
                    if start.unattended {
                        error!("the plan of the files can't be deployed: {failure}");
                        start.note_failure(&failure);
                    }
                    why = Some(failure);
                }
                Err(failure) => error!("{failure}"),
            }
        }
        Err(why.unwrap_or_else(nothing))
    }
}

fn split<T>(result: Result<T, Failure>) -> (Option<T>, Option<Failure>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(failure) => (None, Some(failure)),
    }
}

pub(super) fn nothing() -> Failure {
    Failure::Other(anyhow!("there is nothing to deploy"))
}

/// A start that is under way.
pub(super) struct Start {
    pub(super) filter: Filter,
    pub(super) history: History,
    unattended: bool,
    /// Whether a plan that the clock changes is deployed by someone who does not stay to follow it.
    frozen: Frozen,
    pub(super) overrides: Arc<Overrides>,
    /// Those of the deployment in force.
    overrides_before: Arc<Overrides>,
    /// Sessions that no plan may cut off.
    pub(super) guarded: Vec<Session>,
    /// How long the plan of the files is on trial, if it is to be.
    pub(super) confirm: Option<SignedDuration>,
    /// What the plan that was deployed is tried for, if it is.
    trial: Option<Trial>,
}

/// What becomes of boundaries of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frozen {
    /// They are followed.
    No,
    /// Nobody follows them, as was asked for.
    Yes,
    /// Nobody would follow them: such a plan is refused.
    Refused,
}

/// What is in force.
pub(super) struct Started {
    pub(super) policies: Policies,
    plan: Plan,
    pub(super) record: PlanRecord,
    span: Span,
    deployment: Deployment,
}

pub(super) type Taken = Result<Started, Failure>;

impl Start {
    /// One of `instance`, with a person there. Overrides that can't be read are lost, which is logged:
    /// the policies hold without them.
    pub(super) fn of(instance: Instance, frozen: Frozen) -> Self {
        let loaded = load_overrides(&instance);
        let lost = loaded.as_ref().err().map(|error| {
            format!("the overrides are lost, and the policies apply without them: {error:#}")
        });
        if let Some(lost) = &lost {
            error!("{lost}");
        }
        let filter = Filter::of(&instance);
        let mut history = History::open(instance);
        history.record.overrides_lost = lost;
        let overrides_before = loaded.unwrap_or_default();
        let mut overrides = overrides_before.clone();
        overrides.forget_ended(Timestamp::now());
        Self {
            filter,
            history,
            unattended: false,
            frozen,
            overrides: Arc::new(overrides),
            overrides_before: Arc::new(overrides_before),
            guarded: Vec::new(),
            confirm: None,
            trial: None,
        }
    }

    /// Takes up what the files say, unless an operator has turned just that away before.
    pub(super) fn files(&mut self, inputs: &Inputs) -> Taken {
        let turned_away = self.history.record.turned_away.as_ref();
        if self.unattended && turned_away.is_some_and(|name| inputs.is_called(name)) {
            return Err(Failure::Other(anyhow!(
                "it was rolled back; `ipfilter reload` deploys it all the same"
            )));
        }
        let confirm = self.confirm;
        let started = self.deploy(inputs)?;
        self.confirm = None;
        report(&started.policies);
        self.keep(inputs, &started, Cause::Start);
        match (&self.trial, confirm) {
            (Some(trial), _) => warn!("plan {} is in force; {trial}", started.record.digest),
            (None, Some(_)) => info!("this plan was in force before: there is nothing to confirm"),
            (None, None) => {}
        }
        Ok(started)
    }

    /// Takes up what was in force last, if the same was asked for.
    fn last_good(&mut self, source: &ConfigSource, why: Option<&Failure>) -> Taken {
        let inputs = self.history.last_good()?;
        // Detached was the filter by a change that was not confirmed: then that stays so.
        let is_detached = inputs.is_nowhere() && self.history.record.turned_away.is_some();
        if !source.is_for(&inputs.spec) && !is_detached {
            return Err(Failure::Other(anyhow!(
                "the earlier deployment can't be restored: something else was asked for"
            )));
        }
        let started = self.deploy(&inputs)?;
        error!("degraded: the last good plan is in force, not that of the files");
        let history = &mut self.history;
        history.deployed(&inputs.spec, started.record.clone(), Cause::Clock, None);
        history.record.degraded = why.map(plain);
        Ok(started)
    }

    /// Shuts everyone out where a policy is broken.
    fn shut(&mut self, spec: Option<&Config>, why: Option<&Failure>) -> Taken {
        let spec = spec.ok_or_else(|| {
            Failure::Other(anyhow!(
                "it is not known which ports to close: the configuration must be repaired"
            ))
        })?;
        if spec.awaits_bundle() {
            return Err(Failure::Other(anyhow!(
                "it is not known which ports to close: no bundle of the fleet can be read"
            )));
        }
        let inputs = prepare::shut_the_broken(spec);
        let started = self.deploy(&inputs)?;
        error!("degraded: APIs with a broken policy are shut to everyone until it is repaired");
        let why = why.map(plain).unwrap_or_default();
        self.history.degraded(spec, started.record.clone(), why);
        Ok(started)
    }

    pub(super) fn deploy(&mut self, inputs: &Inputs) -> Taken {
        if inputs.spec.awaits_bundle() && !self.filter.inspect()?.is_empty() {
            return Err(Failure::Other(anyhow!(
                "a filter is attached, and this host does not remember what it was made from: nothing is changed. \
                 Write `interfaces` and `apis` into the configuration, which are in force until the fleet's first bundle \
                 is, or remove the filter with `ipfilter detach`"
            )));
        }
        let policies = Policies::of(inputs, Arc::clone(&self.overrides))?;
        let now = Timestamp::now();
        self.check_boundaries(&policies, now)?;
        let plan = policies.plan(now)?;
        guard(&self.guarded, &plan, &policies, &inputs.policies, now)?;
        let protected = inputs.spec.protected();
        let matched = Interface::matching(&inputs.spec.interfaces, &self.bound())?
            .with_addresses(&protected)?;
        require(&matched, |_| self.unattended)?;
        let change = if inputs.is_nowhere() {
            "nothing is filtered".to_owned()
        } else {
            self.change_to(&plan)
        };
        let progress = Progress::of("loading tables");
        let prepared = self
            .filter
            .prepare(&plan, inputs.spec.mode, SystemTime::now())?;
        // Now that what takes long is done, since its time begins here.
        if let Err(failure) = self.begin_trial(inputs) {
            drop(prepared);
            if self.filter.inspect()?.is_empty() {
                // It leaves no pins behind.
                self.filter.detach()?;
            }
            return Err(failure);
        }
        let deployed = prepared.deploy(&matched);
        drop(progress);
        let deployment = match deployed {
            Ok(deployment) => deployment,
            Err(error) => {
                self.give_up_trial();
                return Err(error.into());
            }
        };
        deployment.attached().iter().for_each(announce);
        report_missing(&matched);
        warn_of_open(&protected)?;
        for (name, interface) in &matched.renamed {
            warn!(
                "`{name}` is called `{}` now and stays filtered",
                interface.name
            );
        }
        self.history.record.waiting = matched.missing;
        self.history.record.bound = matched.bound;
        let span = policies.span(now);
        let record = PlanRecord::new(&plan, (now, span.until), change, inputs.files.clone());
        info!(digest = record.digest.as_str(), change = record.change.as_str(); "plan {}; {}", record.digest, record.change);
        Ok(Started {
            record,
            span,
            policies,
            plan,
            deployment,
        })
    }

    /// What changes by `plan`, in a line.
    fn change_to(&self, plan: &Plan) -> String {
        let digest = |found: Found| found.config.map(|config| config.digest);
        let found = self.filter.inspect();
        let digests: Option<Vec<_>> = found
            .ok()
            .map(|found| found.into_iter().map(digest).collect());
        let own = Some(plan.digest().0);
        match digests.as_deref() {
            Some([]) => plan.first_diff().to_string(),
            Some(digests) if digests.iter().all(|digest| *digest == own) => {
                "nothing changes".to_owned()
            }
            _ => self.plan_before().map_or_else(
                |failure| format!("what changes is not known: {}", plain(&failure)),
                |before| before.diff(plan).to_string(),
            ),
        }
    }

    /// The plan in force.
    fn plan_before(&self) -> Result<Plan, Failure> {
        let History { instance, record } = &self.history;
        let overrides = Arc::clone(&self.overrides_before);
        InForce::recorded(instance, record, overrides)?.deployed()
    }

    /// Refuses or reports boundaries of time that nobody would follow.
    fn check_boundaries(&self, policies: &Policies, now: Timestamp) -> Result<(), Failure> {
        let Some(next) = policies.next_boundary(now) else {
            return Ok(());
        };
        match self.frozen {
            Frozen::No => {}
            Frozen::Yes => warn!(
                "the plan changes at {next}, by a policy or an override, and nothing will deploy it: \
                 use `ipfilter run`"
            ),
            Frozen::Refused => {
                return Err(Failure::Usage(format!(
                    "another plan is due from {next} on, by a policy or an override, and `deploy` leaves no \
                     process to deploy it: use `ipfilter run`, or keep the plan of this moment with \
                     `--freeze-time`"
                )));
            }
        }
        Ok(())
    }

    /// The interfaces that this instance is attached to by names which they may not have any more.
    fn bound(&self) -> Vec<Bound> {
        let found = self.filter.inspect().unwrap_or_default();
        let mut bound = self.history.record.bound.clone();
        bound.retain(|bound| {
            found
                .iter()
                .any(|found| found.interface.index == bound.index)
        });
        bound
    }

    /// Notes that something was deployed.
    pub(super) fn note(&self, kind: Kind, started: &Started) {
        let attached = started.deployment.attached().iter();
        let attached: Vec<_> = attached
            .map(|one| format!("{} ({})", one.interface.name, one.hook.name()))
            .collect();
        let degraded = self.history.record.degraded.is_some();
        let degraded = if degraded {
            "degraded: not the plan of the files, "
        } else {
            ""
        };
        let PlanRecord { digest, change, .. } = started.record.clone();
        let what = match attached.as_slice() {
            [] => format!("{degraded}no interface is there yet; {change}"),
            _ => format!("{degraded}at {}; {change}", attached.join(", ")),
        };
        let entry = Entry::now(kind, Requester::own(), Some(digest), &what);
        note(&self.history.instance, &[entry]);
    }

    fn note_failure(&self, failure: &Failure) {
        let what = format!("start: {}", in_a_line(failure));
        let entry = Entry::now(Kind::Failure, Requester::own(), None, &what);
        note(&self.history.instance, &[entry]);
    }

    /// Records what was deployed, and keeps its inputs.
    pub(super) fn keep(&mut self, inputs: &Inputs, started: &Started, cause: Cause) {
        let kept = keep(inputs, &self.history.instance);
        self.history
            .deployed(&inputs.spec, started.record.clone(), cause, kept);
        if let Err(error) =
            Inputs::forget_but(&self.history.instance, &self.history.record.inputs())
        {
            warn!("can't remove what is no longer needed: {error:#}");
        }
    }
}

/// Closes the connections of denied sources, if that is asked for.
pub(super) fn cut_if_asked(policies: &Policies) -> Result<(), Failure> {
    if policies.spec().cut {
        cut::close_denied(policies)?;
    }
    Ok(())
}
