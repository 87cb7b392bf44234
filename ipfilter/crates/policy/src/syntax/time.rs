//! Instants in conditions: the W3C forms of ISO 8601 and seconds since 1970.
//!
//! Follows the IAM User Guide's "IAM JSON policy elements: Condition operators" (date condition
//! operators) and "AWS global condition context keys" (`aws:CurrentTime`, `aws:EpochTime`). The clock
//! is read in whole seconds, as both keys are; so `DateEquals` holds for one second.

use jiff::{Timestamp, civil::DateTime};

use crate::text::problem::{Advice, clip};

const NANOSECONDS: i128 = 1_000_000_000;

/// Nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instant(i128);

/// How a time is compared with a condition's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Comparison {
    Equals,
    Less,
    LessEquals,
    Greater,
    GreaterEquals,
}

impl Comparison {
    /// Whether the second that holds `now` compares so with `value`.
    pub(crate) fn holds(self, now: Timestamp, value: Instant) -> bool {
        self.compares(&Instant::of_second(whole_second(now)), &value)
    }

    /// Whether `left` compares so with `right`.
    pub(crate) fn compares<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equals => left == right,
            Self::Less => left < right,
            Self::LessEquals => left <= right,
            Self::Greater => left > right,
            Self::GreaterEquals => left >= right,
        }
    }

    /// The seconds at which the comparison with `value` can change.
    pub(crate) fn boundaries(self, value: Instant) -> impl Iterator<Item = Timestamp> {
        let from = value.0.div_euclid(NANOSECONDS);
        [from, from + 1]
            .into_iter()
            .filter_map(|second| Timestamp::from_second(i64::try_from(second).ok()?).ok())
    }
}

/// The second `now` lies in, counted from 1970.
pub(crate) fn whole_second(now: Timestamp) -> i64 {
    let second = now.as_second();
    if now.subsec_nanosecond() < 0 {
        second - 1
    } else {
        second
    }
}

impl Instant {
    fn of_second(second: i64) -> Self {
        Self(i128::from(second) * NANOSECONDS)
    }

    /// A date condition's value: ISO 8601, or seconds since 1970.
    pub(crate) fn from_date(text: &str) -> Result<Self, Advice> {
        if text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let advice = Advice::new(format!("`{text}` could be a year or seconds since 1970"));
            return Err(advice.hint(format!(
                "write `{text}-01-01` for the beginning of the year"
            )));
        }
        Self::from_number(text)
            .or_else(|_| from_iso(text))
            .map_err(|()| date_advice(text))
    }

    /// A numeric condition's value: seconds since 1970, with or without decimals.
    pub(crate) fn from_number(text: &str) -> Result<Self, ()> {
        if let Ok(seconds) = text.parse::<i64>()
            && !text.starts_with('+')
        {
            return Ok(Self::of_second(seconds));
        }
        let plain = text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
            && text.ends_with(|last: char| last.is_ascii_digit());
        if !plain {
            return Err(());
        }
        let seconds: f64 = text.parse().map_err(|_| ())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "far beyond the clock's range it saturates, which compares the same"
        )]
        let nanoseconds = (seconds * 1e9) as i128;
        Ok(Self(nanoseconds))
    }

    /// Whether a number this large must be milliseconds: read as seconds it is past the year 5000.
    pub(crate) fn looks_like_milliseconds(self) -> bool {
        self.0.abs() > 100_000_000_000 * NANOSECONDS
    }
}

/// `YYYY-MM`, `YYYY-MM-DD`, or a date and time with its offset from UTC.
fn from_iso(text: &str) -> Result<Instant, ()> {
    let shape: String = text
        .chars()
        .map(|character| {
            if character.is_ascii_digit() {
                '9'
            } else {
                character
            }
        })
        .collect();
    let full = match shape.as_str() {
        "9999-99" => format!("{text}-01T00:00:00Z"),
        "9999-99-99" => format!("{text}T00:00:00Z"),
        _ if is_date_time(&shape) => text.to_owned(),
        _ => return Err(()),
    };
    // A `Timestamp` ends a day before the calendar does, whose end is often written for "never".
    let (local, offset) = match full.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => split_offset(&full).ok_or(())?,
    };
    let local: DateTime = local.parse().map_err(|_| ())?;
    let since_epoch = local.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    Ok(Instant(
        since_epoch.as_nanos() - i128::from(offset) * NANOSECONDS,
    ))
}

/// A date and time, and its offset from UTC in seconds.
fn split_offset(text: &str) -> Option<(&str, i32)> {
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+99:99".len())?)?;
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = (hours * 60 + minutes) * 60;
    let legal = hours <= 25 && minutes < 60;
    legal.then_some((
        local,
        if offset.starts_with('-') {
            -seconds
        } else {
            seconds
        },
    ))
}

/// Whether `shape`, digits being 9, is a date and time with `Z` or an offset.
fn is_date_time(shape: &str) -> bool {
    let Some(rest) = shape.strip_prefix("9999-99-99T99:99") else {
        return false;
    };
    let rest = rest.strip_prefix(":99").unwrap_or(rest);
    let rest = match rest.strip_prefix('.') {
        Some(fraction) if fraction.starts_with('9') => fraction.trim_start_matches('9'),
        _ => rest,
    };
    matches!(rest, "Z" | "+99:99" | "-99:99")
}

fn date_advice(text: &str) -> Advice {
    let advice = Advice::new(format!("`{}` is not a date", clip(text)));
    if text.contains("${") {
        return advice.hint("date operators take no policy variables: write the date itself");
    }
    if is_date_time(&format!(
        "{}Z",
        text.replace(|c: char| c.is_ascii_digit(), "9")
    )) {
        return advice.hint(format!("say in which zone: `{text}Z` is UTC"));
    }
    advice.hint("write `2026-01-31`, `2026-01-31T12:00:00Z`, or seconds since 1970")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> Option<i128> {
        Instant::from_date(text).ok().map(|instant| instant.0)
    }

    #[test]
    fn all_documented_forms_are_read() {
        let second = Some(1_767_225_600 * NANOSECONDS);
        for text in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T01:30:00+01:30",
            "2025-12-31T19:00:00.000-05:00",
            "2026-01-01",
            "2026-01",
            "1767225600",
            "1767225600.0",
            "1.7672256e9",
        ] {
            assert_eq!(instant(text), second, "{text}");
        }
        assert_eq!(
            instant("2026-01-01T00:00:00.5Z"),
            second.map(|s| s + NANOSECONDS / 2)
        );
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "tomorrow",
            "2026",
            "2026-1-1",
            "2026-13-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00Z[UTC]",
            "2026-01-01 00:00:00Z",
            "2026-02-30",
            "+5",
            "1e",
            "nan",
            "inf",
            "${aws:CurrentTime}",
            "2026-01-01T00:00:00z",
            "2026-01-01T25:00:00Z",
            "2026-01-01T00:00:00+26:00",
            "2026-01-01T00:00:00+01:60",
        ] {
            assert_eq!(instant(text), None, "{text}");
        }
    }

    /// The end of the calendar is a common way to write "never".
    #[test]
    fn the_end_of_the_calendar_is_a_time_that_never_comes() {
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-31",
            "9999-12-31T23:59:59.999-23:59",
        ] {
            let end = Instant::from_date(text).unwrap();
            assert!(Comparison::Less.holds(Timestamp::MAX, end), "{text}");
            assert!(!Comparison::Greater.holds(Timestamp::MAX, end), "{text}");
            assert_eq!(Comparison::Less.boundaries(end).count(), 0, "{text}");
        }
    }

    #[test]
    fn comparisons_change_only_at_their_boundaries() {
        for text in ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "-1.5"] {
            let value = Instant::from_date(text).unwrap();
            for comparison in [
                Comparison::Equals,
                Comparison::Less,
                Comparison::LessEquals,
                Comparison::Greater,
                Comparison::GreaterEquals,
            ] {
                let at: Vec<_> = comparison.boundaries(value).collect();
                let start = at[0].as_second() - 3;
                for half in 0..12 {
                    let moment =
                        |half: i64| Timestamp::from_millisecond(start * 1000 + half * 500).unwrap();
                    let changed = comparison.holds(moment(half), value)
                        != comparison.holds(moment(half + 1), value);
                    assert!(
                        !changed || at.contains(&moment(half + 1)),
                        "{text} {comparison:?}"
                    );
                }
            }
        }
    }
}
