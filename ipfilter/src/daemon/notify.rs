//! Telling the service manager how it goes ("sd_notify(3)"). Nobody listens unless one started us.

use std::time::Duration;

use log::warn;
use sd_notify::NotifyState;

/// We filter; `status` says what.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => warn!("can't tell the service manager of the reload: {error}"),
    }
}

/// What we are at.
pub(super) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// We end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// We are alive.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear that we are alive: twice in the time after which it
/// ends us.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("can't tell the service manager: {error}");
    }
}
