//! What changes when one set replaces another.

use super::AddressSet;

/// Who gains access when one set of sources replaces another, and who loses it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The members of the later set alone.
    pub gained: AddressSet,
    /// The members of the earlier set alone.
    pub lost: AddressSet,
}

impl Difference {
    /// What changes from `before` to `after`.
    #[must_use]
    pub fn between(before: &AddressSet, after: &AddressSet) -> Self {
        Self {
            gained: after.difference(before),
            lost: before.difference(after),
        }
    }

    /// Both together: what differs at one time or at another.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            gained: self.gained.union(&other.gained),
            lost: self.lost.union(&other.lost),
        }
    }

    /// Whether the sets are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gained.is_empty() && self.lost.is_empty()
    }
}
