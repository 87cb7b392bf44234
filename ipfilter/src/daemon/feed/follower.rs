//! How far one service is, by what it says. Nothing of that is to be believed, or decides anything.

use ipfilter_feed::Report;
use jiff::Timestamp;

use super::{Order, plan_of};
use crate::view::services::{Service, ServiceState};

/// The characters of SHA-256 in hexadecimal.
const DIGEST: usize = 64;

/// A connected service.
#[derive(Debug)]
pub(super) struct Follower {
    uid: u32,
    pid: Option<i32>,
    connected: Timestamp,
    /// The policies that it has answered for last.
    pub(super) answered: Answered,
    /// The order that it decides by, and since when.
    pub(super) serving: String,
    serving_since: Timestamp,
    /// Whether it was waited for in vain: then nothing waits for it until it decides by what is in force.
    pub(super) is_late: bool,
    /// What it has decided so far.
    pub(super) report: Report,
}

/// What a service says of policies.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Which ones.
    pub(super) digest: String,
    /// Whether it can decide by them.
    is_usable: bool,
}

impl Follower {
    /// One of this user and process that has just connected.
    pub(super) fn new(uid: u32, pid: Option<i32>) -> Self {
        let now = Timestamp::now();
        Self {
            uid,
            pid,
            connected: now,
            answered: Answered::default(),
            serving: String::new(),
            serving_since: now,
            is_late: false,
            report: Report::default(),
        }
    }

    pub(super) fn answered(&mut self, digest: String, is_usable: bool) {
        self.answered = Answered { digest, is_usable };
    }

    pub(super) fn serves(&mut self, order: String, is_current: bool) {
        self.is_late &= !is_current;
        self.serving = order;
        self.serving_since = Timestamp::now();
    }

    /// How far it is, where it is to decide as `order` says.
    pub(super) fn status(&self, order: &Order) -> Service {
        let is_serving = self.serving == order.name;
        let answered = &self.answered;
        let can_serve = answered.digest != order.digest || answered.is_usable;
        let state = match (is_serving, can_serve) {
            (true, true) => ServiceState::Serving,
            (true, false) => ServiceState::Unusable,
            (false, _) => ServiceState::Late,
        };
        let since = match is_serving {
            true => self.serving_since,
            false => self.connected.max(order.since),
        };
        let of = |allowed| {
            let decided = self.report.decided.iter();
            let decided = decided.filter(|one| one.allowed == allowed);
            decided.fold(0, |sum: u64, one| sum.saturating_add(one.requests))
        };
        let refused = self.report.refused.iter();
        let denied = refused.fold(of(false), |sum, one| sum.saturating_add(one.requests));
        Service {
            uid: self.uid,
            pid: self.pid,
            state,
            since,
            digest: digest(plan_of(&self.serving)),
            allowed: of(true),
            denied,
        }
    }
}

/// A digest that a service names, unless it is none: what it says is shown on a terminal.
fn digest(text: &str) -> Option<String> {
    let is_digest = text.len() == DIGEST && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| text.to_owned())
}
