//! The changes in force that the log has: who may not be connected, or may not speak.
//!
//! Changes may be in force for longer than the log reaches. So before a segment is removed, those of its changes that are
//! in force are committed again. Bounded by [`KEPT_MAX`], which is more than all the tables hold that they are applied to.

use std::collections::HashMap;

use crate::order::change::Change;
use crate::rights::revocation::Revoked;
use crate::types::position::Offset;

/// What a change is about. A later change about the same takes its place.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Subject {
    Away(String, String),
    Mute(String, String),
    Token(String),
    User(String),
}

/// Changes that are kept. One more takes the place of the one that ends first.
pub const KEPT_MAX: usize = 1 << 18;

/// The newest change about each subject, and where it is.
#[derive(Debug, Default)]
pub struct Kept {
    changes: HashMap<Subject, Place>,
}

#[derive(Debug)]
struct Place {
    change: Change,
    until: u64,
    position: Offset,
}

impl Kept {
    /// Notes `change` at `position`, which can be forgotten at `until`. It is `unix_s` now. Both are in seconds since 1970.
    pub fn put(&mut self, change: &Change, until: u64, position: Offset, unix_s: u64) {
        let subject = Subject::of(change);
        // What is undone leaves nothing: a change before it is replaced, and is not carried.
        if matches!(change, Change::Unmute { .. }) {
            self.changes.remove(&subject);
        } else {
            self.make_room(unix_s);
            self.changes.insert(subject, Place { change: change.clone(), until, position });
        }
    }

    /// Makes room for one more.
    fn make_room(&mut self, unix_s: u64) {
        if self.changes.len() >= KEPT_MAX {
            self.changes.retain(|_, place| place.until > unix_s);
        }
        if self.changes.len() >= KEPT_MAX {
            // More are in force than any table takes: this one is in none of them.
            let first = self.changes.iter().min_by_key(|(_, place)| place.until);
            if let Some(subject) = first.map(|(subject, _)| subject.clone()) {
                self.changes.remove(&subject);
                tracing::error!("more changes of access are in force than are kept: one is forgotten");
            }
        }
    }

    /// The changes up to `position` that are in force at `unix_s`, and until when. Forgets those that are over.
    pub fn up_to(&mut self, position: Offset, unix_s: u64) -> Vec<(Change, u64)> {
        self.changes.retain(|_, place| place.until > unix_s);
        let places = self.changes.values().filter(|place| place.position <= position);
        places.map(|place| (place.change.clone(), place.until)).collect()
    }

    /// All changes that are in force at `unix_s`, and until when.
    #[must_use]
    pub fn in_force(&mut self, unix_s: u64) -> Vec<(Change, u64)> {
        self.up_to(Offset::MAX, unix_s)
    }
}

impl Subject {
    fn of(change: &Change) -> Self {
        match change {
            Change::Disconnect { user, room, .. } => Self::Away(user.to_string(), room.to_string()),
            Change::Mute { user, room, .. } | Change::Unmute { user, room } => {
                Self::Mute(user.to_string(), room.to_string())
            }
            Change::Revoke { revoked: Revoked::Token(token), .. } => Self::Token(token.to_string()),
            Change::Revoke { revoked: Revoked::User(user), .. } => Self::User(user.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name::{RoomName, UserName};

    fn mute(user: &str, until: Option<u64>) -> Change {
        let (user, room) = (UserName::new(user).expect("a name"), RoomName::new("r").expect("a name"));
        Change::Mute { user, room, until }
    }

    fn unmute(user: &str) -> Change {
        let (user, room) = (UserName::new(user).expect("a name"), RoomName::new("r").expect("a name"));
        Change::Unmute { user, room }
    }

    #[test]
    fn only_what_is_in_force_and_old_is_carried() {
        let mut kept = Kept::default();
        kept.put(&mute("over", Some(10)), 10, 1, 0);
        kept.put(&mute("old", None), u64::MAX, 2, 0);
        kept.put(&mute("undone", None), u64::MAX, 3, 0);
        kept.put(&mute("again", Some(20)), 20, 4, 0);
        kept.put(&unmute("undone"), u64::MAX, 5, 0);
        kept.put(&mute("again", Some(30)), 30, 6, 0);
        assert_eq!(kept.up_to(5, 10), [(mute("old", None), u64::MAX)]);
        // It was committed again.
        kept.put(&mute("old", None), u64::MAX, 7, 0);
        assert_eq!(kept.up_to(6, 10), [(mute("again", Some(30)), 30)]);
        assert_eq!(kept.in_force(30), [(mute("old", None), u64::MAX)]);
    }

    /// Disconnects of a minute stayed for as long as the log reached.
    #[test]
    fn what_is_over_makes_room_first() {
        let mut kept = Kept::default();
        for n in 0..KEPT_MAX + 10 {
            kept.put(&mute(&n.to_string(), Some(n as u64)), n as u64, 1, 0);
        }
        assert_eq!(kept.changes.len(), KEPT_MAX);
        kept.put(&mute("next", Some(u64::MAX)), u64::MAX, 1, 1000);
        assert_eq!(kept.changes.len(), KEPT_MAX + 10 - 1001 + 1, "those up to 1000 are over");
    }
}
