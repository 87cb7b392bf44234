//! How long ago something was, and how long it is until something.

use jiff::{SignedDuration, SpanRound, Timestamp, Unit};

/// The time since `instant`, in its largest units.
pub(super) fn age(instant: Timestamp) -> String {
    words(Timestamp::now().duration_since(instant))
}

/// The time until `instant`.
pub(super) fn until(instant: Timestamp) -> String {
    words(instant.duration_since(Timestamp::now()))
}

fn words(duration: SignedDuration) -> String {
    let smallest = match duration.as_hours() {
        0 => Unit::Second,
        1..24 => Unit::Minute,
        _ => Unit::Hour,
    };
    let round = SpanRound::new()
        .largest(Unit::Day)
        .smallest(smallest)
        .days_are_24_hours();
    let span = jiff::Span::try_from(duration.max(SignedDuration::ZERO));
    let span = span.and_then(|span| span.round(round));
    span.map_or_else(|_| "some time".into(), |span| format!("{span:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_units_that_matter() {
        for (seconds, shown) in [
            (5, "5s"),
            (3_725, "1h 2m"),
            (200_000, "2d 8h"),
            (0, "0s"),
            (-3, "0s"),
        ] {
            assert_eq!(words(SignedDuration::from_secs(seconds)), shown);
        }
    }
}
