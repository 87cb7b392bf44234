//! A plan that holds only until a deadline, and what to go back to then.
//!
//! Written before the plan is put in force and removed once it is settled, so that whatever dies in
//! between, whoever comes next knows what to do. The deadline is one of the clock that runs since the
//! boot, suspended or not ("clock_gettime(2)", `CLOCK_BOOTTIME`): setting the wall clock does not move
//! it, and another boot is past it.

use std::{fmt, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::store;
use crate::instance::Instance;

/// Where the kernel names this boot ("proc_sys_kernel(5)", `random/boot_id`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a trial is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// A change that is rolled back unless it is confirmed.
    Change,
    /// A filter that is detached for a while.
    Pause,
}

/// A plan that holds only until a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What it is for.
    pub purpose: Purpose,
    /// The name of the inputs in force meanwhile.
    pub(crate) tried: String,
    /// The name of the inputs to go back to; none where nothing was deployed before.
    pub(crate) back: Option<String>,
    /// How long it lasts, in milliseconds.
    lasts: i64,
    /// The boot in which it began.
    boot: String,
    /// When it ends, in milliseconds since that boot.
    end: i64,
}

impl Trial {
    /// One that begins now and lasts that long.
    ///
    /// # Errors
    ///
    /// When the kernel does not name this boot.
    pub(crate) fn new(
        purpose: Purpose,
        tried: String,
        back: Option<String>,
        lasts: SignedDuration,
    ) -> anyhow::Result<Self> {
        let lasts = i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX);
        Ok(Self {
            purpose,
            tried,
            back,
            lasts,
            boot: this_boot()?,
            end: since_boot().saturating_add(lasts),
        })
    }

    /// How much of its time is left; none if it is over, or began before this boot.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        if !self.is_of_this_boot() {
            return None;
        }
        let left = u64::try_from(self.end - since_boot()).ok()?;
        Some(Duration::from_millis(left)).filter(|left| !left.is_zero())
    }

    /// Whether it began in this boot.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        this_boot().is_ok_and(|boot| boot == self.boot)
    }

    /// Its end by the wall clock, as that goes now; none if it is over.
    #[must_use]
    pub fn ends(&self) -> Option<Timestamp> {
        let left = SignedDuration::try_from(self.left()?).ok()?;
        let end = Timestamp::now().checked_add(left).ok()?;
        Timestamp::from_second(end.as_second()).ok()
    }

    /// How long it was to last.
    #[must_use]
    pub fn lasts(&self) -> SignedDuration {
        SignedDuration::from_millis(self.lasts)
    }

    /// Its end in milliseconds since the boot.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The same, over.
    pub(crate) fn given_up(mut self) -> Self {
        self.end = 0;
        self
    }

    /// The one of `instance`, if one is not settled.
    ///
    /// # Errors
    ///
    /// When it can't be read, or the file is damaged.
    pub fn load(instance: &Instance) -> anyhow::Result<Option<Self>> {
        let path = path(instance);
        let Some(bytes) = store::read(&path)? else {
            return Ok(None);
        };
        let trial = serde_json::from_slice(&bytes);
        Ok(Some(trial.with_context(|| {
            format!("`{}` can't be read", path.display())
        })?))
    }

    /// Keeps it for `instance`: once this returns, no crash and no power cut loses it.
    pub(crate) fn save(&self, instance: &Instance) -> anyhow::Result<()> {
        store::write(&path(instance), &serde_json::to_vec(self)?)
    }

    /// Settles the one of `instance`: once this returns, no power cut brings it back.
    ///
    /// # Errors
    ///
    /// When it can't be removed; then it is not settled.
    pub(crate) fn remove(instance: &Instance) -> anyhow::Result<()> {
        store::remove_durably(&path(instance))
    }
}

/// What is to become of it, and when.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasts = shown(self.lasts());
        match (self.purpose, self.ends()) {
            (Purpose::Change, Some(end)) => write!(
                f,
                "until {end}, unless `ipfilter confirm` follows before ({lasts}); `ipfilter rollback` \
                 rolls it back at once"
            ),
            (Purpose::Change, None) => write!(f, "it was not confirmed within {lasts}"),
            (Purpose::Pause, Some(end)) => write!(
                f,
                "until {end} ({lasts}); `ipfilter rollback` attaches it again at once"
            ),
            (Purpose::Pause, None) => write!(f, "it should be attached again since {lasts} passed"),
        }
    }
}

/// A time in its largest units, such as `1m 30s`.
#[must_use]
pub(crate) fn shown(time: SignedDuration) -> String {
    format!("{time:#}")
}

/// Milliseconds since the boot, those in which the machine was suspended included.
pub(crate) fn since_boot() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

fn this_boot() -> anyhow::Result<String> {
    let boot = fs::read_to_string(BOOT_ID).with_context(|| format!("can't read `{BOOT_ID}`"))?;
    ensure!(!boot.trim().is_empty(), "`{BOOT_ID}` is empty");
    Ok(boot.trim().to_owned())
}

fn path(instance: &Instance) -> PathBuf {
    instance.state().join("trial.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(lasts: SignedDuration) -> Trial {
        Trial::new(Purpose::Change, "tried".into(), None, lasts).unwrap()
    }

    #[test]
    fn it_lasts_until_its_end_and_not_into_another_boot() {
        let minute = trial(SignedDuration::from_mins(1));
        let left = minute.left().unwrap();
        assert!(left > Duration::from_secs(50) && left <= Duration::from_mins(1));
        assert!(minute.ends().is_some());
        assert!(minute.to_string().contains("`ipfilter confirm`"));
        assert_eq!(minute.clone().given_up().left(), None);
        let other = Trial {
            boot: "another".into(),
            ..minute
        };
        assert_eq!((other.left(), other.ends()), (None, None));
        assert!(other.to_string().contains("not confirmed within 1m"));
        assert_eq!(trial(SignedDuration::ZERO).left(), None);
    }
}
