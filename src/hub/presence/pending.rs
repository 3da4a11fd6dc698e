//! What has changed in a room since its last message.
//!
//! Opposite changes cancel, unless a `state` has shown them meanwhile: whoever got it would never learn that they are
//! undone. Steps number the changes, so that this needs one number for the room and one for each change.

use std::collections::BTreeMap;

use crate::hub::presence::user::User;

/// Number of a change within its room, from 1.
pub(super) type Step = u64;

/// How a member differs from what the last message left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsent {
    /// The change with which it began to differ. States since then have shown it.
    pub(super) first: Step,
    /// Whether it was a member then.
    pub(super) was: bool,
    /// Whether it had data then.
    pub(super) had_data: bool,
    /// Whether it entered since.
    pub(super) entered: bool,
}

/// Changes since the last message.
#[derive(Debug)]
pub(super) enum Pending {
    /// By user.
    Names(BTreeMap<User, Unsent>),
    /// Names are not kept: the next message is a count, or a state for all. Holds the first change.
    Total(Option<Step>),
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Names(users) => users.is_empty(),
            Self::Total(first) => first.is_none(),
        }
    }

    /// Notes that `user` has become a member.
    pub(super) fn entered(&mut self, user: &User, step: Step) {
        match self {
            Self::Names(users) => {
                let unsent = Unsent { first: step, was: false, had_data: false, entered: true };
                users.entry(user.clone()).or_insert(unsent).entered = true;
            }
            Self::Total(first) => *first = first.or(Some(step)),
        }
    }

    /// Notes that `user`, which had data or not, is no member any more. `shown` is the last change that a state has
    /// shown. Returns whether this cancels its coming.
    #[allow(clippy::mutable_key_type, reason = "users are ordered by their names, which never change")]
    pub(super) fn left(&mut self, user: &User, had_data: bool, step: Step, shown: Step) -> bool {
        let users = match self {
            Self::Names(users) => users,
            Self::Total(first) => {
                *first = first.or(Some(step));
                return false;
            }
        };
        match users.get(user) {
            None => {
                let unsent = Unsent { first: step, was: true, had_data, entered: false };
                users.insert(user.clone(), unsent);
                false
            }
            Some(unsent) if !unsent.was && shown < unsent.first => {
                users.remove(user);
                true
            }
            Some(_) => false,
        }
    }

    /// Notes that the data of `user`, which had data before or not, is other data.
    pub(super) fn updated(&mut self, user: &User, had_data: bool, step: Step) {
        if let Self::Names(users) = self {
            let unsent = Unsent { first: step, was: true, had_data, entered: false };
            users.entry(user.clone()).or_insert(unsent);
        }
    }

    /// Keeps no names any more if there are more than `max`, or if `too_many` members are there. `step` is the newest
    /// change.
    pub(super) fn bound(&mut self, max: usize, too_many: bool, step: Step) {
        if let Self::Names(users) = self
            && (too_many || users.len() > max)
        {
            *self = Self::Total(Some(step));
        }
    }
}
