//! Tokens that were revoked before they expire: by their own name, or all tokens of a user.
//!
//! Kept in memory only, for `revocation_time`; a restart loses them. Short-lived tokens need no revocation.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::RwLock;

use crate::rights::identity::Identity;
use crate::rights::revocation::{Revoked, When};
use crate::types::name::UserName;

/// Tokens, and users, that may be revoked at the same time.
pub const REVOCATIONS_MAX: usize = 65_536;

/// The table of revocations is full.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// Revoked tokens and users, and until when each is kept. Times are in seconds since 1970.
#[derive(Debug)]
pub struct Revocations {
    time: Duration,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// By `jti`: kept until.
    tokens: HashMap<Box<str>, u64>,
    /// By user: revoked when, and kept until.
    users: HashMap<UserName, (When, u64)>,
}

impl Revocations {
    /// An empty table. Each revocation is kept for `time`, which should be at least the longest life of a token.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, tables: RwLock::default() }
    }

    /// Revokes `revoked` at `when`, which is now.
    ///
    /// # Errors
    ///
    /// If [`REVOCATIONS_MAX`] of the same kind are in force: dropping one would make its tokens valid again.
    pub fn add(&self, revoked: &Revoked, when: When) -> Result<(), Full> {
        let now = when.at;
        let until = now.saturating_add(self.time.as_secs());
        let mut tables = self.tables.write();
        match revoked {
            Revoked::Token(token) => {
                make_room(&mut tables.tokens, token, |until| *until > now)?;
                tables.tokens.insert(token.clone(), until);
            }
            Revoked::User(user) => {
                make_room(&mut tables.users, user, |(_, until)| *until > now)?;
                tables.users.insert(user.clone(), (when, until));
            }
        }
        Ok(())
    }

    /// Whether `identity` is revoked.
    #[must_use]
    pub fn cover(&self, identity: &Identity, now: u64) -> bool {
        let tables = self.tables.read();
        let by_token = identity.token.as_ref().and_then(|token| tables.tokens.get(token));
        if by_token.is_some_and(|until| *until > now) {
            return true;
        }
        let by_user = identity.user.as_ref().and_then(|user| tables.users.get(user));
        by_user.is_some_and(|(when, until)| *until > now && when.is_after(identity))
    }

    /// Revocations in force or not yet forgotten.
    #[must_use]
    pub fn len(&self) -> usize {
        let tables = self.tables.read();
        tables.tokens.len() + tables.users.len()
    }

    /// Whether no revocation is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops revocations whose time has passed. Called from the housekeeping.
    pub fn sweep(&self, now: u64) {
        if self.is_empty() {
            return;
        }
        let mut tables = self.tables.write();
        let Tables { tokens, users } = &mut *tables;
        tokens.retain(|_, until| *until > now);
        users.retain(|_, (_, until)| *until > now);
        if tokens.is_empty() && users.is_empty() {
            *tables = Tables::default();
        }
    }
}

fn make_room<K: Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    key: &K,
    is_in_force: impl Fn(&V) -> bool,
) -> Result<(), Full> {
    if table.len() < REVOCATIONS_MAX || table.contains_key(key) {
        return Ok(());
    }
    table.retain(|_, value| is_in_force(value));
    if table.len() < REVOCATIONS_MAX { Ok(()) } else { Err(Full) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rights::identity::KeyId;

    const HOUR: Duration = Duration::from_hours(1);

    /// A time without clock differences.
    fn at(at: u64) -> When {
        When { at, leeway_s: 0 }
    }

    fn identity(user: &str, token: &str, issued: Option<u64>) -> Identity {
        Identity {
            user: UserName::new(user).ok(),
            token: Some(token.into()),
            issued,
            expires: None,
            grant: Arc::default(),
            key: KeyId(0),
            api_key: None,
        }
    }

    #[test]
    fn a_token_is_revoked_by_its_name_and_no_other_is() {
        let revocations = Revocations::new(HOUR);
        revocations.add(&Revoked::Token("a".into()), at(100)).unwrap();
        assert!(revocations.cover(&identity("u", "a", Some(200)), 100));
        assert!(!revocations.cover(&identity("u", "b", Some(50)), 100));
    }

    #[test]
    fn what_a_user_had_is_revoked_and_what_it_gets_later_is_not() {
        let revocations = Revocations::new(HOUR);
        let revoked = Revoked::User(UserName::new("ann").unwrap());
        revocations.add(&revoked, at(100)).unwrap();
        for (issued, covered) in [(Some(99), true), (Some(100), true), (Some(101), false), (None, true)] {
            let identity = identity("ann", "t", issued);
            assert_eq!(revocations.cover(&identity, 150), covered, "{issued:?}");
            assert_eq!(revoked.means(&identity, at(100)), covered, "{issued:?}");
        }
        assert!(!revocations.cover(&identity("bob", "t", None), 150));
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_save_a_token() {
        let revocations = Revocations::new(HOUR);
        let (revoked, when) = (Revoked::User(UserName::new("ann").unwrap()), When { at: 100, leeway_s: 5 });
        revocations.add(&revoked, when).unwrap();
        for (issued, covered) in [(104, true), (105, true), (106, false)] {
            let by_token = identity("ann", "t", Some(issued));
            assert_eq!(revocations.cover(&by_token, 150), covered, "{issued}");
            assert_eq!(revoked.means(&by_token, when), covered, "{issued}");
        }
        // The application's answer was dated by the same clock as revocations.
        let by_answer = Identity { key: KeyId::APPLICATION, ..identity("ann", "t", Some(101)) };
        assert!(!revocations.cover(&by_answer, 150) && !revoked.means(&by_answer, when));
    }

    #[test]
    fn a_revocation_is_remembered_for_its_time() {
        let revocations = Revocations::new(HOUR);
        revocations.add(&Revoked::Token("a".into()), at(100)).unwrap();
        assert!(revocations.cover(&identity("u", "a", None), 100 + 3599));
        assert!(!revocations.cover(&identity("u", "a", None), 100 + 3600));
        revocations.sweep(100 + 3599);
        assert_eq!(revocations.len(), 1);
        revocations.sweep(100 + 3600);
        assert!(revocations.is_empty());
    }

    #[test]
    fn none_is_forgotten_for_want_of_room() {
        let revocations = Revocations::new(HOUR);
        let token = |n: usize| Revoked::Token(n.to_string().into());
        for n in 0..REVOCATIONS_MAX {
            assert_eq!(revocations.add(&token(n), at(0)), Ok(()));
        }
        assert_eq!(revocations.add(&token(REVOCATIONS_MAX), at(0)), Err(Full));
        assert_eq!(revocations.add(&token(0), at(0)), Ok(()), "it is there already");
        assert_eq!(revocations.add(&Revoked::User(UserName::new("u").unwrap()), at(0)), Ok(()));
        assert_eq!(revocations.add(&token(REVOCATIONS_MAX), at(3600)), Ok(()), "the others have expired");
    }
}
