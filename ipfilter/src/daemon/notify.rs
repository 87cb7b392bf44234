//! Reporting to the service manager ("sd_notify(3)"), if one started us. A manager that does not read
//! makes the sender wait: all but [`alive`] are for a thread that may.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use log::warn;
use sd_notify::NotifyState;

/// We filter; `status` says what.
pub(super) fn ready(status: &str) {
    report(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload begins.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => report(&[NotifyState::Reloading, now]),
        Err(error) => warn!("can't report the reload to the service manager: {error}"),
    }
}

/// What we are at.
pub(super) fn status(status: &str) {
    report(&[NotifyState::Status(status)]);
}

/// We end.
pub(super) fn stopping() {
    report(&[NotifyState::Stopping]);
}

/// We are alive. Does not wait: a manager that has not read the last ones needs no more.
pub(super) fn alive() {
    match try_alive() {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            warn!("can't report to the service manager: {error}");
        }
        _ => {}
    }
}

fn try_alive() -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(b"WATCHDOG=1", &address).map(drop)
}

/// How often the service manager wants to hear that we are alive: twice in the time after which it
/// ends us.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn report(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("can't report to the service manager: {error}");
    }
}
