//! Tokens that are worth nothing any more although they are not over: by their own name, or all that a user had.
//!
//! Kept in memory only, for a time that is set; a restart forgets them. Short-lived tokens need no revocation.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::RwLock;

use super::identity::Identity;
use crate::hub::name::UserName;

/// Tokens, and users, that may be revoked at once.
pub const REVOCATIONS_MAX: usize = 65_536;

/// Bytes a token's name may have.
pub const TOKEN_NAME_BYTES_MAX: usize = 256;

/// What is revoked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revoked {
    /// The token with this `jti`.
    Token(Box<str>),
    /// Every token of this user that was issued until now.
    User(UserName),
}

impl Revoked {
    /// Whether `identity` is meant, if it was revoked at `at`, in seconds since 1970.
    #[must_use]
    pub fn means(&self, identity: &Identity, at: u64) -> bool {
        match self {
            Self::Token(token) => identity.token.as_deref() == Some(token),
            Self::User(user) => identity.user.as_ref() == Some(user) && was_issued_by(identity, at),
        }
    }
}

/// Whether a token existed at `at`. One that does not say when it was issued may have.
fn was_issued_by(identity: &Identity, at: u64) -> bool {
    identity.issued.is_none_or(|issued| issued <= at)
}

/// As many revocations are in force as can be remembered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Full;

/// What is revoked, and until when that is remembered. Times are in seconds since 1970.
#[derive(Debug)]
pub struct Revocations {
    time: Duration,
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    /// By `jti`: until when.
    tokens: HashMap<Box<str>, u64>,
    /// By user: when, and until when.
    users: HashMap<UserName, (u64, u64)>,
}

impl Revocations {
    /// None yet. Each is remembered for `time`, which should be no less than tokens live.
    #[must_use]
    pub fn new(time: Duration) -> Self {
        Self { time, tables: RwLock::default() }
    }

    /// Revokes from `now` on.
    ///
    /// # Errors
    ///
    /// If [`REVOCATIONS_MAX`] of the same kind are in force: forgetting one would let somebody back in.
    pub fn add(&self, revoked: &Revoked, now: u64) -> Result<(), Full> {
        let until = now.saturating_add(self.time.as_secs());
        let mut tables = self.tables.write();
        match revoked {
            Revoked::Token(token) => {
                make_room(&mut tables.tokens, token, |until| *until > now)?;
                tables.tokens.insert(token.clone(), until);
            }
            Revoked::User(user) => {
                make_room(&mut tables.users, user, |(_, until)| *until > now)?;
                tables.users.insert(user.clone(), (now, until));
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
        by_user.is_some_and(|(at, until)| *until > now && was_issued_by(identity, *at))
    }

    /// Revocations in force or not yet forgotten.
    #[must_use]
    pub fn len(&self) -> usize {
        let tables = self.tables.read();
        tables.tokens.len() + tables.users.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets those that are over. Called from the housekeeping.
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

    use super::super::identity::KeyId;
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

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
        revocations.add(&Revoked::Token("a".into()), 100).unwrap();
        assert!(revocations.cover(&identity("u", "a", Some(200)), 100));
        assert!(!revocations.cover(&identity("u", "b", Some(50)), 100));
    }

    #[test]
    fn what_a_user_had_is_revoked_and_what_it_gets_later_is_not() {
        let revocations = Revocations::new(HOUR);
        let revoked = Revoked::User(UserName::new("ann").unwrap());
        revocations.add(&revoked, 100).unwrap();
        for (issued, covered) in [(Some(99), true), (Some(100), true), (Some(101), false), (None, true)] {
            let identity = identity("ann", "t", issued);
            assert_eq!(revocations.cover(&identity, 150), covered, "{issued:?}");
            assert_eq!(revoked.means(&identity, 100), covered, "{issued:?}");
        }
        assert!(!revocations.cover(&identity("bob", "t", None), 150));
    }

    #[test]
    fn a_revocation_is_remembered_for_its_time() {
        let revocations = Revocations::new(HOUR);
        revocations.add(&Revoked::Token("a".into()), 100).unwrap();
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
            assert_eq!(revocations.add(&token(n), 0), Ok(()));
        }
        assert_eq!(revocations.add(&token(REVOCATIONS_MAX), 0), Err(Full));
        assert_eq!(revocations.add(&token(0), 0), Ok(()), "it is there already");
        assert_eq!(revocations.add(&Revoked::User(UserName::new("u").unwrap()), 0), Ok(()));
        assert_eq!(revocations.add(&token(REVOCATIONS_MAX), 3600), Ok(()), "the others are over");
    }
}
