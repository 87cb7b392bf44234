//! Waking up when a policy's answers change, by the wall clock.

use std::{mem, os::fd::OwnedFd};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, Unit};
use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::readable::Readable;
use crate::state::since_boot;

/// An alarm at a time of the wall clock, which also goes off when that clock is set: whoever waits
/// then looks at what time it is now ("timerfd_create(2)", `TFD_TIMER_CANCEL_ON_SET`).
#[derive(Debug)]
pub(super) struct Clock {
    timer: Readable,
}

impl Clock {
    /// A clock that does not go off until [`Self::set`] is called. Needs a runtime to be entered.
    pub(super) fn new() -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags).context("no timer")?;
        let timer = Readable::new(timer).context("no timer")?;
        Ok(Self { timer })
    }

    /// Lets it go off at `time`, or at once if that is past, and whenever the clock is set.
    pub(super) fn set(&self, time: Timestamp) -> anyhow::Result<()> {
        // Zero would switch it off; there is no alarm to be had before 1970.
        let value = Timespec {
            tv_sec: time.as_second().max(0),
            tv_nsec: i64::from(time.subsec_nanosecond()).max(1),
        };
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let alarm = Itimerspec {
            it_interval: none,
            it_value: value,
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(self.timer.get(), flags, &alarm).context("can't set the timer")?;
        Ok(())
    }

    /// Waits until it goes off. Returns whether the clock was set.
    pub(super) async fn tick(&self) -> anyhow::Result<bool> {
        tick(&self.timer).await
    }
}

/// The wall clock compared with the one that runs since the boot, which nobody sets.
#[derive(Debug)]
pub(super) struct Wall {
    /// By how much it is ahead.
    ahead: SignedDuration,
}

impl Wall {
    /// As the two go now.
    pub(super) fn now() -> Self {
        let boot = SignedDuration::from_millis(since_boot());
        Self {
            ahead: Timestamp::now().as_duration() - boot,
        }
    }

    /// By how much it was set forward, or back, since this was last asked; nothing if by less than a second, as
    /// clocks are adjusted.
    pub(super) fn moved(&mut self) -> Option<SignedDuration> {
        let before = mem::replace(self, Self::now()).ahead;
        let moved = (self.ahead - before).round(Unit::Second).ok()?;
        (!moved.is_zero()).then_some(moved)
    }
}

/// An alarm at a time since the boot, which goes on while the machine is suspended and which setting
/// the clock does not move.
#[derive(Debug)]
pub(super) struct Deadline {
    timer: Readable,
    /// In milliseconds since the boot.
    pub(super) at: i64,
}

impl Deadline {
    /// One that goes off at this time, or at once if that is past. Needs a runtime to be entered.
    pub(super) fn new(at: i64) -> anyhow::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags).context("no timer")?;
        let due = Timespec {
            tv_sec: at.max(0) / 1000,
            // Zero would switch it off.
            tv_nsec: (at.max(0) % 1000 * 1_000_000).max(1),
        };
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let alarm = Itimerspec {
            it_interval: none,
            it_value: due,
        };
        let set = timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &alarm);
        set.context("can't set the timer")?;
        let timer = Readable::new(timer).context("no timer")?;
        Ok(Self { timer, at })
    }

    /// Waits until it goes off.
    pub(super) async fn tick(&self) -> anyhow::Result<()> {
        tick(&self.timer).await.map(drop)
    }
}

/// Waits for a timer. Returns whether its clock was set.
async fn tick(timer: &Readable) -> anyhow::Result<bool> {
    let read = |timer: &OwnedFd| match rustix::io::read(timer, &mut [0; 8]) {
        Ok(_) => Ok(false),
        Err(Errno::CANCELED) => Ok(true),
        Err(errno) => Err(errno.into()),
    };
    timer.read(read).await.context("can't read the timer")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_that_was_set_is_noticed_and_one_that_was_adjusted_is_not() {
        let day = SignedDuration::from_hours(24);
        let adjusted = SignedDuration::from_millis(400);
        for (by, want) in [(day, Some(-day)), (-day, Some(day)), (adjusted, None)] {
            let mut wall = Wall::now();
            wall.ahead += by;
            assert_eq!(wall.moved(), want);
            assert_eq!(wall.moved(), None);
        }
    }

    #[tokio::test]
    async fn a_deadline_is_met_or_is_past() {
        for after in [200, -1000, i64::MIN / 2] {
            let at = since_boot() + after;
            Deadline::new(at).unwrap().tick().await.unwrap();
            assert!(since_boot() >= at);
        }
    }

    #[tokio::test]
    async fn it_goes_off_at_its_time_and_not_before() {
        let clock = Clock::new().unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(50), clock.tick()).await;
        assert!(quiet.is_err(), "went off without having been set");
        let start = Timestamp::now();
        let due = start + SignedDuration::from_millis(200);
        clock.set(due).unwrap();
        clock.tick().await.unwrap();
        assert!(Timestamp::now() >= due);
        clock.set(start).unwrap();
        clock.tick().await.unwrap();
    }
}
