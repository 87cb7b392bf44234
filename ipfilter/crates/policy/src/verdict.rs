//! Yes, no or maybe.

/// Whether something holds: for a request, or for the requests of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// For none.
    No,
    /// That depends on what is not known.
    Maybe,
    /// For every one.
    Yes,
}

impl From<bool> for Verdict {
    fn from(holds: bool) -> Self {
        if holds { Self::Yes } else { Self::No }
    }
}
