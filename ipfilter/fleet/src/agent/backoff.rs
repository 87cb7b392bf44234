//! When to try again: later each time, and not when all others do.

use std::time::Duration;

/// The time until the next try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The time until the next try.
    pub(super) fn next(&mut self) -> Duration {
        let time = self.next;
        self.next = (time * 2).min(self.most);
        jitter(time)
    }
}

/// Between half of the time and all of it.
pub(super) fn jitter(time: Duration) -> Duration {
    time.mul_f64(0.5 + random() / 2.0)
}

/// From 0 to 1.
pub(super) fn random() -> f64 {
    // Without random bytes, all try at once.
    f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        for most in [1, 2, 4, 5, 5] {
            let time = backoff.next();
            assert!(time <= Duration::from_secs(most), "{time:?}");
            assert!(time >= Duration::from_millis(most * 500), "{time:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_secs(1));
    }
}
