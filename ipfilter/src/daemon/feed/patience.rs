//! How long services may keep plans waiting in vain: a stock that is used up by waiting and fills up slowly. Without it
//! one that is hostile could delay every plan, by being on time once and late the next time, or by connecting anew.

use std::time::{Duration, Instant};

/// The stock when it is full.
const FULL: Duration = Duration::from_secs(15);

/// The part of the time that passes by which it fills up: full again after 25 minutes.
const REGAINED: u32 = 100;

/// What is left of the stock, and when that was so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience(Option<(Duration, Instant)>);

impl Patience {
    /// How long services may be waited for at `now`.
    pub(super) fn left(&mut self, now: Instant) -> Duration {
        let left = self.0.map_or(FULL, |(left, since)| {
            let regained = now.saturating_duration_since(since) / REGAINED;
            FULL.min(left.saturating_add(regained))
        });
        self.0 = Some((left, now));
        left
    }

    /// Takes off what was waited in vain.
    pub(super) fn spend(&mut self, waited: Duration) {
        if let Some((left, _)) = &mut self.0 {
            *left = left.saturating_sub(waited);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_in_vain_comes_back_slowly() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        assert_eq!(patience.left(start), FULL);
        patience.spend(FULL + FULL);
        assert_eq!(patience.left(start), Duration::ZERO);
        assert_eq!(patience.left(after(100)), Duration::from_secs(1));
        assert_eq!(patience.left(after(100)), Duration::from_secs(1));
        assert_eq!(patience.left(after(100_000)), FULL);
    }
}
