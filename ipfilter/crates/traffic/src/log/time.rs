//! Times as logs write them.

use jiff::{Timestamp, civil};

/// `10/Oct/2000:13:55:36 -0700`.
pub(super) fn clf(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let month = MONTHS
        .iter()
        .position(|name| text.get(3..6) == Some(*name))?;
    let time = civil::DateTime::new(
        text.get(7..11)?.parse().ok()?,
        i8::try_from(month + 1).ok()?,
        number(0, 2)?,
        number(12, 14)?,
        number(15, 17)?,
        number(18, 20)?,
        0,
    );
    let zone = text.get(21..26)?;
    let minutes =
        zone.get(1..3)?.parse::<i32>().ok()? * 60 + zone.get(3..5)?.parse::<i32>().ok()?;
    let seconds = if zone.starts_with('-') {
        -minutes * 60
    } else {
        minutes * 60
    };
    jiff::tz::Offset::from_seconds(seconds)
        .ok()?
        .to_timestamp(time.ok()?)
        .ok()
}

/// Any of the forms that logs have: RFC 3339, that of access logs, or seconds or milliseconds since 1970.
pub(super) fn any(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<f64>() {
        return epoch(number);
    }
    text.parse()
        .ok()
        .or_else(|| clf(text.trim_matches(['[', ']'])))
}

/// Seconds since 1970, or milliseconds or finer where seconds would be far in the future.
pub(super) fn epoch(number: f64) -> Option<Timestamp> {
    const SECONDS: f64 = 1e11;
    let mut seconds = number;
    while seconds.abs() > SECONDS {
        seconds /= 1000.0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 10^11 seconds, in microseconds"
    )]
    let micros = (seconds * 1e6).round() as i64;
    Timestamp::from_microsecond(micros).ok()
}
