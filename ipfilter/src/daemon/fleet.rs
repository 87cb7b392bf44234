//! What is known of the fleet that this host belongs to, and which of its releases may be put in force.
//!
//! The agent that hands them in (`agents`) has no privileges and may be in a stranger's hands, as may the store that it reads: it hands over releases,
//! and everything about them is checked here. A release that is not to be put in force changes nothing.

mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::anyhow;
use ipfilter_bundle::{
    Bundle, Digest, Kind, Release, SignedRelease,
    message::{AgentReport, Outcome},
};
use jiff::Timestamp;
use log::{error, warn};

pub(super) use self::state::host_state;
use crate::{
    config::{Config, ConfigSource, Fleet, User},
    failure::Failure,
    instance::Instance,
    state::{Accepted, Admitted, InputFile, Inputs, forget_bundle, keep_bundle},
};

/// Where releases are handed in, and what is known of the fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// The bundle that is being decided on.
    offer: Mutex<Option<Arc<Offer>>>,
    /// Held by who hands in a release: one at a time is read, and decided on.
    turn: tokio::sync::Mutex<()>,
}

/// What is known of the fleet.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The host's settings; none where it belongs to no fleet.
    fleet: Option<Fleet>,
    /// The release whose bundle is in force.
    in_force: Option<Release>,
    accepted: Accepted,
    /// Why it is not known what was accepted.
    unreadable: Option<String>,
    /// When an agent has asked the last time, and how it said to be.
    agent: Option<(Timestamp, AgentReport)>,
    /// The last release that was refused or has to wait, and why.
    turned_down: Option<(Release, String)>,
}

/// A bundle that is offered.
#[derive(Debug)]
pub(super) struct Offer {
    release: SignedRelease,
    bundle: Bundle,
    bytes: Vec<u8>,
    /// What was accepted before, once this is written down as accepted.
    before: Mutex<Option<Accepted>>,
}

impl Desk {
    /// Whether the host belongs to a fleet.
    pub(super) fn is_wanted(&self) -> bool {
        self.known().fleet.is_some()
    }

    /// Takes note of what is in force.
    pub(super) fn know(&self, instance: &Instance, spec: &Config) {
        if spec.fleet.is_some() {
            self.reread(instance);
        }
        let mut known = self.known();
        known.fleet.clone_from(&spec.fleet);
        known.in_force.clone_from(&spec.release);
        let is_in_force = |it: &(Release, String)| spec.release.as_ref() == Some(&it.0);
        if known.turned_down.as_ref().is_some_and(is_in_force) {
            known.turned_down = None;
        }
    }

    /// Takes note of what was accepted.
    pub(super) fn reread(&self, instance: &Instance) {
        // Held meanwhile: who reads last has the last word.
        let mut known = self.known();
        (known.accepted, known.unreadable) = match Accepted::load(instance) {
            Ok(accepted) => (accepted, None),
            Err(error) => (Accepted::default(), Some(format!("{error:#}"))),
        };
    }

    /// Writes down how it went with the bundle that was decided on.
    pub(super) fn settle(&self, offer: &Offer, instance: &Instance, result: Result<(), &str>) {
        offer.settle(instance, result);
        self.reread(instance);
    }

    /// Takes note of an agent that asks, and of what it says of itself.
    pub(super) fn asked(&self, report: Option<AgentReport>) {
        let mut known = self.known();
        let before = known.agent.take();
        let report = report.or(before.map(|(_, report)| report));
        known.agent = Some((Timestamp::now(), report.unwrap_or_default()));
    }

    /// Waits for the turn of who hands in a release.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.0.turn.lock().await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The user that may ask, if anybody may.
    pub(super) fn user(&self) -> Option<User> {
        self.known().fleet.as_ref().map(|fleet| fleet.user.clone())
    }

    /// The bundle that is being decided on.
    pub(super) fn offer(&self) -> Option<Arc<Offer>> {
        let offer = self.0.offer.lock();
        offer.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has this bundle be decided on next, or none.
    pub(super) fn set_offer(&self, offer: Option<Arc<Offer>>) {
        *self.0.offer.lock().unwrap_or_else(PoisonError::into_inner) = offer;
    }

    /// Takes note of a release that is not put in force. Says whether that is news.
    pub(super) fn turn_down(&self, release: &Release, why: &str) -> bool {
        let turned_down = Some((release.clone(), why.to_owned()));
        let mut known = self.known();
        let is_news = known.turned_down != turned_down;
        known.turned_down = turned_down;
        is_news
    }

    /// Whether `release`, of which these are the bytes, may be put in force; else what is to be answered.
    pub(super) fn admit(
        &self,
        instance: &Instance,
        release: &SignedRelease,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<(), Outcome> {
        let known = self.known().clone();
        let refuse = |why: String| Err(Outcome::Refused(why));
        let Some(fleet) = known.fleet else {
            return refuse(
                "this host follows no fleet: its configuration has no `fleet`".to_owned(),
            );
        };
        let Release { digest, .. } = release.release;
        if release.release.kind != kind {
            return refuse(format!(
                "it is of {}, and {kind} was offered",
                release.release.kind
            ));
        }
        if Digest::of(bytes) != digest {
            return refuse(format!(
                "what arrived is not {digest:.12}: it was damaged or changed on its way"
            ));
        }
        let accepted = Accepted::load(instance).map_err(|error| {
            Outcome::Refused(format!(
                "it is not known what this host has accepted before, so nothing is: {error:#}"
            ))
        })?;
        match accepted.admit(release, &fleet) {
            Err(why) => refuse(why),
            Ok(Admitted::New) => Ok(()),
            Ok(Admitted::Known) if kind == Kind::Overrides => Err(Outcome::Unchanged),
            Ok(Admitted::Known) if known.in_force.as_ref() == Some(&release.release) => {
                Err(Outcome::Unchanged)
            }
            Ok(Admitted::Known) => Err(Outcome::Waiting(
                "this host had it in force and went back from it, by `ipfilter rollback` or for want of a confirmation: \
                 `ipfilter reload` there puts it in force again"
                    .to_owned(),
            )),
        }
    }
}

impl Offer {
    pub(super) fn new(release: SignedRelease, bundle: Bundle, bytes: Vec<u8>) -> Self {
        Self {
            release,
            bundle,
            bytes,
            before: Mutex::default(),
        }
    }

    /// What it comes to on this host.
    pub(super) fn inputs(
        &self,
        source: &ConfigSource,
        instance: &Instance,
    ) -> Result<Inputs, Failure> {
        let config = InputFile::of_config(source);
        let host = source.read()?;
        let fleet = host.fleet.as_ref();
        let fleet =
            fleet.ok_or_else(|| Failure::Usage("this host follows no fleet any more".into()))?;
        let admitted = Accepted::load(instance)?.admit(&self.release, fleet);
        admitted.map_err(Failure::Usage)?;
        Inputs::of_bundle((source, &host), &self.release.release, &self.bundle, config)
    }

    /// Writes down that it is accepted, before it is in force: a start from now on reads it.
    pub(super) fn accept(&self, instance: &Instance) -> anyhow::Result<()> {
        keep_bundle(instance, &self.bytes, self.release.release.digest)?;
        let before = Accepted::accept(instance, self.release.clone())?;
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(())
    }

    fn settle(&self, instance: &Instance, result: Result<(), &str>) {
        let release = &self.release.release;
        let before = self
            .before
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let settled = match (result, before) {
            (Ok(()), _) => Accepted::forget_others(instance),
            (Err(why), Some(before)) => before
                .restore(instance)
                .and_then(|()| Accepted::refuse(instance, release.clone(), why)),
            (Err(why), None) => Accepted::refuse(instance, release.clone(), why),
        };
        let settled = settled.and_then(|()| forget_bundle(instance, release.digest));
        if let Err(failure) = settled {
            warn!("what became of {release} can't be written down: {failure:#}");
        }
    }
}

/// Writes down that the group's overrides are in force.
pub(super) fn accept_overrides(instance: &Instance, release: SignedRelease) {
    if let Err(failure) = Accepted::accept(instance, release) {
        error!(
            "the group's overrides are in force, and the next start does not know which: {failure:#}"
        );
    }
}

/// There is no offer where one should be.
pub(super) fn no_offer() -> Failure {
    Failure::Other(anyhow!(
        "the agent that offered it is gone: nothing is changed"
    ))
}

impl Instance {
    /// The socket that agents ask at. It is beside the runtime directory, which no other user may enter.
    pub(super) fn agents(&self) -> std::path::PathBuf {
        self.runtime().with_extension("fleet")
    }
}
