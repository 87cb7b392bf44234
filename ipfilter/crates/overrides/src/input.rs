//! What operators write: sources and durations.

use ipnet::IpNet;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// The longest that an override with an end may last.
pub const LONGEST_DAYS: i64 = 31;

/// One address, or a block without host bits.
///
/// # Errors
///
/// When it is neither, with what to write instead.
pub fn parse_source(text: &str) -> Result<IpNet, String> {
    let address = text
        .parse::<std::net::IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse());
    let source: IpNet = address.map_err(|_| {
        format!("`{text}` is neither an address such as `203.0.113.7` nor a block such as `203.0.113.0/24`")
    })?;
    if source != source.trunc() {
        return Err(format!(
            "`{text}` has bits set behind its prefix: write `{}` for the one address, or `{}` for the block",
            source.addr(),
            source.trunc()
        ));
    }
    if let IpNet::V6(block) = source
        && block.prefix_len() >= 96
        && let Some(v4) = block.addr().to_ipv4_mapped()
    {
        return Err(format!(
            "`{text}` is an IPv4 address written as IPv6, which no packet has: write `{v4}`"
        ));
    }
    Ok(source)
}

/// A time such as `90s`, `2h` or `7d`: more than nothing, and at most [`LONGEST_DAYS`] days.
///
/// # Errors
///
/// When it is none, with what to write instead.
pub fn parse_duration(text: &str) -> Result<SignedDuration, String> {
    if text.eq_ignore_ascii_case("forever") {
        return Err("write `--forever`, which only `block` takes".into());
    }
    let unreadable = || format!("`{text}` is not a time: write one such as `90s`, `2h` or `7d`");
    let span: Span = text.parse().map_err(|_| unreadable())?;
    let longest = SignedDuration::from_hours(LONGEST_DAYS * 24);
    let too_long = || {
        format!(
            "`{text}` is longer than {LONGEST_DAYS} days: what lasts longer belongs in the policy; a block may also be given `--forever`"
        )
    };
    if span.get_years() != 0 || span.get_months() != 0 {
        return Err(too_long());
    }
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| unreadable())?;
    if !duration.is_positive() {
        return Err(format!(
            "`{text}` is no time at all: write one such as `90s`, `2h` or `7d`"
        ));
    }
    if duration > longest {
        return Err(too_long());
    }
    Ok(duration)
}

/// When what is asked for at `now` ends: after `duration`, at the next whole second, so that what
/// many ask for within a second ends in one deployment.
#[must_use]
pub fn end(now: Timestamp, duration: SignedDuration) -> Timestamp {
    let exact = now.checked_add(duration).unwrap_or(Timestamp::MAX);
    let part = i64::from(exact.subsec_nanosecond() > 0);
    Timestamp::from_second(exact.as_second() + part).unwrap_or(Timestamp::MAX)
}
