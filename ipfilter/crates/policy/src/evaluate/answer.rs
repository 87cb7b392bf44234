//! Three-valued answers, for one request or for all sources at once.

use ipfilter_addresses::AddressSet;

use crate::verdict::Verdict;

/// An answer to "does it hold?". The rules of [`super::rules`] are written for any kind of answer.
pub(crate) trait Answer: Clone {
    /// The same answer whatever the source.
    fn of(verdict: Verdict) -> Self;
    /// Whether both hold.
    fn and(self, other: Self) -> Self;
    /// Whether one of them holds, or both.
    fn or(self, other: Self) -> Self;
    /// Whether it does not hold.
    fn not(self) -> Self;
    /// Itself, but no longer a maybe where `other` certainly holds.
    fn unless_certain(self, other: &Self) -> Self;
    /// Whether it holds nowhere.
    fn is_no(&self) -> bool;

    /// The opposite when `negate`, else itself.
    fn negate_if(self, negate: bool) -> Self {
        if negate { self.not() } else { self }
    }
}

/// For one request, or for all requests of one source.
impl Answer for Verdict {
    fn of(verdict: Verdict) -> Self {
        verdict
    }

    fn and(self, other: Self) -> Self {
        self.min(other)
    }

    fn or(self, other: Self) -> Self {
        self.max(other)
    }

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    fn unless_certain(self, other: &Self) -> Self {
        match (self, other) {
            (Self::Maybe, Self::Yes) => Self::No,
            _ => self,
        }
    }

    fn is_no(&self) -> bool {
        *self == Self::No
    }
}

/// For all sources at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The sources for every request of which it holds.
    pub(crate) certain: AddressSet,
    /// The sources with a request for which it may hold.
    pub(crate) possible: AddressSet,
}

impl Reach {
    /// Certain for `sources`, and for no other.
    pub(crate) fn exactly(sources: AddressSet) -> Self {
        Self {
            certain: sources.clone(),
            possible: sources,
        }
    }

    /// Nothing but what concerns `sources`.
    pub(crate) fn within(self, sources: &AddressSet) -> Self {
        Self {
            certain: self.certain.intersection(sources),
            possible: self.possible.intersection(sources),
        }
    }

    /// Whether it is certain of every source.
    pub(crate) fn is_certain(&self) -> bool {
        self.certain == self.possible
    }

    /// How large it is, in ranges of addresses.
    pub(crate) fn ranges_len(&self) -> usize {
        self.possible.v4.ranges_len() + self.possible.v6.ranges_len()
    }

    fn is_yes(&self) -> bool {
        self.certain.v4.is_all() && self.certain.v6.is_all()
    }
}

impl Answer for Reach {
    fn of(verdict: Verdict) -> Self {
        let set = |holds| match holds {
            true => AddressSet::all(),
            false => AddressSet::empty(),
        };
        Self {
            certain: set(verdict == Verdict::Yes),
            possible: set(verdict != Verdict::No),
        }
    }

    fn and(self, other: Self) -> Self {
        if self.is_yes() || other.is_no() {
            return other;
        }
        if other.is_yes() || self.is_no() {
            return self;
        }
        Self {
            certain: self.certain.intersection(&other.certain),
            possible: self.possible.intersection(&other.possible),
        }
    }

    fn or(self, other: Self) -> Self {
        if self.is_no() || other.is_yes() {
            return other;
        }
        if other.is_no() || self.is_yes() {
            return self;
        }
        Self {
            certain: self.certain.union(&other.certain),
            possible: self.possible.union(&other.possible),
        }
    }

    fn not(self) -> Self {
        Self {
            certain: self.possible.complement(),
            possible: self.certain.complement(),
        }
    }

    fn unless_certain(self, other: &Self) -> Self {
        let possible = self.possible.difference(&other.certain);
        Self {
            possible: possible.union(&self.certain),
            certain: self.certain,
        }
    }

    fn is_no(&self) -> bool {
        self.possible.is_empty()
    }
}
