//! A user as a key: ordered and found by its name.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use crate::hub::source::Source;

/// A user, by its inbox. It stays known for as long as it is held.
#[derive(Clone, Debug)]
pub(super) struct User(pub(super) Arc<Source>);

impl User {
    /// Its name.
    #[must_use]
    pub(super) fn name(&self) -> &str {
        self.0.name()
    }
}

impl Borrow<str> for User {
    fn borrow(&self) -> &str {
        self.name()
    }
}

impl Ord for User {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for User {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for User {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for User {}
