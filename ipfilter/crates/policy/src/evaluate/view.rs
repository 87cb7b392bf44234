//! What is known of that which is asked about.

use std::{borrow::Cow, net::IpAddr};

use ipfilter_addresses::AddressSet;
use jiff::Timestamp;

use super::answer::Answer;
use crate::syntax::{key::Key, template::Value, time::whole_second};

/// What is known of that which is asked about.
pub(crate) trait View {
    /// The outcome of an element.
    type Answer: Answer;

    /// What is known of a condition key.
    fn attribute(&self, key: &Key) -> Attribute<'_>;
    /// Whether the source is in the set.
    fn source_in(&self, set: &AddressSet) -> Self::Answer;
    /// Who asks; `None` when that is not known.
    fn caller(&self) -> Option<&Caller>;
    /// `/STAGE/METHOD/PATH` of what is asked for; `None` when that is not known.
    fn call(&self) -> Option<&str>;
    /// What is asked to be done, such as `execute-api:Invoke`.
    fn action(&self) -> &str;

    /// Whether conditions on the clock are left aside.
    fn is_timeless(&self) -> bool {
        false
    }
}

/// What is known of a condition key.
pub(crate) enum Attribute<'v> {
    /// The request does not carry it.
    Absent,
    /// It is the source's address; `None` where it is that of many.
    Source(Option<IpAddr>),
    /// It is the clock, which conditions on dates know in any form.
    Clock(Timestamp, ClockText),
    One(Cow<'v, str>),
    Many(&'v [String]),
    /// It is there, with a value that is not known.
    Present,
    /// It may be there.
    Unknown,
}

/// How the clock looks to what compares text.
#[derive(Clone, Copy)]
pub(crate) enum ClockText {
    /// That is left open.
    Unclear,
    Date,
    Seconds,
}

impl ClockText {
    /// The text, where it is known.
    pub(super) fn show(self, now: Timestamp) -> Option<String> {
        let second = whole_second(now);
        match self {
            Self::Unclear => None,
            Self::Date => Timestamp::from_second(second)
                .ok()
                .map(|now| now.to_string()),
            Self::Seconds => Some(second.to_string()),
        }
    }
}

/// Who makes a request, as principals name them (see [`crate::syntax::principal`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The names of this caller alone.
    pub(crate) own: Vec<String>,
    /// Those, and the names of what the caller belongs to.
    pub(crate) all: Vec<String>,
}

/// The value of a policy variable.
pub(crate) fn value_of<'v, V: View>(view: &'v V, key: &Key) -> Value<'v> {
    match view.attribute(key) {
        Attribute::Absent => Value::Missing,
        Attribute::One(text) => Value::Known(text),
        Attribute::Source(Some(source)) => Value::Known(Cow::Owned(source.to_string())),
        Attribute::Clock(now, form) => match form.show(now) {
            Some(text) => Value::Known(Cow::Owned(text)),
            None => Value::Unknown,
        },
        // Which of several values is meant is not defined.
        Attribute::Many([text]) => Value::Known(Cow::Borrowed(text)),
        Attribute::Many([]) => Value::Missing,
        _ => Value::Unknown,
    }
}
