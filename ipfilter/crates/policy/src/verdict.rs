//! Three-valued answers: what can be known about a request from its source and the clock.

/// Whether something holds for the requests of a source: for none, for some perhaps, for every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// For none.
    No,
    /// That depends on what an interface does not see.
    Maybe,
    /// For every one.
    Yes,
}

impl Verdict {
    pub(crate) fn and(self, other: Self) -> Self {
        self.min(other)
    }

    pub(crate) fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// The opposite when `negate`, else itself.
    pub(crate) fn negate_if(self, negate: bool) -> Self {
        match (self, negate) {
            (Self::No, true) => Self::Yes,
            (Self::Yes, true) => Self::No,
            _ => self,
        }
    }
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
