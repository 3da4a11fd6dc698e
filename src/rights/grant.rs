//! What a token, a key or the application allows: a list of permissions `NAME[:PATTERN]`.
//!
//! | permission | allows |
//! |---|---|
//! | `sse:read:PATTERN` | to listen in rooms, and to read their history |
//! | `sse:publish:PATTERN` | to publish to rooms; without a pattern also to users and to everyone |
//! | `sse:members:PATTERN` | to see the users in rooms; without a pattern also who is online |
//! | `sse:user:PATTERN` | to listen as other users than the token's own |
//! | `admin:PATTERN` | to see the users in rooms, and to disconnect and mute them; without a pattern also the server's state and revocation |
//! | any other name | nothing by itself; the `require` of an event can name it |
//!
//! Names that begin with `sse:` have two parts, all others one; what follows the next colon is the [`Pattern`]. Without
//! one a permission covers everything. No permission implies another. A permission that cannot be parsed allows
//! nothing.

use std::fmt;
use std::sync::Arc;

use crate::rights::pattern::{Pattern, PatternError};

/// Permissions one grant may have.
pub const PERMISSIONS_MAX: usize = 256;

/// Bytes the name of a permission may have.
pub const PERMISSION_BYTES_MAX: usize = 64;

/// An action that needs a permission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action<'a> {
    /// Listen in a room, or read its history.
    Read(&'a str),
    /// Listen under the name of another user.
    ListenAs(&'a str),
    /// Publish to a room.
    Publish(&'a str),
    /// Publish to a user or to everyone.
    PublishAnywhere,
    /// See the users in a room.
    Members(&'a str),
    /// See which users are online, in whatever room.
    Online,
    /// Close connections in a room, or mute users there.
    Disconnect(&'a str),
    /// See the server's state; revoke tokens.
    Administer,
}

/// A list of permissions.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Grant {
    permissions: Box<[Permission]>,
}

/// One permission of a grant.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Permission {
    name: Box<str>,
    /// `None` covers everything.
    pattern: Option<Pattern>,
}

/// Why a text is not a permission.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PermissionError {
    /// Its name is empty, too long, or has other characters than `A-Z a-z 0-9 . _ -`.
    Name,
    /// It begins with `sse:`, and an unknown word follows.
    Unknown,
    /// The text after the name is not a pattern.
    Pattern(PatternError),
    /// The grant has [`PERMISSIONS_MAX`] others already.
    TooMany,
}

impl fmt::Display for PermissionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("does not begin with a name of 1 to 64 bytes of A-Z a-z 0-9 . _ -"),
            Self::Unknown => f.write_str("is none of sse:read, sse:publish, sse:members and sse:user"),
            Self::Pattern(err) => err.fmt(f),
            Self::TooMany => f.write_str("comes after 256 others"),
        }
    }
}

impl std::error::Error for PermissionError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Pattern(err) => Some(err),
            Self::Name | Self::Unknown | Self::TooMany => None,
        }
    }
}

const READ: &str = "sse:read";
const PUBLISH: &str = "sse:publish";
const MEMBERS: &str = "sse:members";
const USER: &str = "sse:user";
const ADMIN: &str = "admin";

impl Permission {
    /// Reads `NAME[:PATTERN]`.
    ///
    /// # Errors
    ///
    /// The rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, PermissionError> {
        let name_bytes = match text.strip_prefix("sse:") {
            Some(rest) => "sse:".len() + rest.find(':').unwrap_or(rest.len()),
            None => text.find(':').unwrap_or(text.len()),
        };
        let (name, rest) = text.split_at(name_bytes);
        if name.starts_with("sse:") {
            if ![READ, PUBLISH, MEMBERS, USER].contains(&name) {
                return Err(PermissionError::Unknown);
            }
        } else if !is_name(name) {
            return Err(PermissionError::Name);
        }
        let pattern = rest.strip_prefix(':').map(Pattern::parse).transpose();
        Ok(Self { name: name.into(), pattern: pattern.map_err(PermissionError::Pattern)? })
    }

    /// What comes before the pattern.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The permission to listen in exactly this room.
    #[must_use]
    pub fn to_read(room: &str) -> Self {
        Self { name: READ.into(), pattern: Some(Pattern::exactly(room)) }
    }
}

/// The name of a permission that an event can require. Cheap to share.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PermissionName(Arc<str>);

impl PermissionName {
    /// Checks `name`: 1 to [`PERMISSION_BYTES_MAX`] bytes of `A-Z a-z 0-9 . _ -`.
    ///
    /// # Errors
    ///
    /// [`PermissionError::Name`].
    pub fn new(name: &str) -> Result<Self, PermissionError> {
        if is_name(name) { Ok(Self(name.into())) } else { Err(PermissionError::Name) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Permission {
    /// Writes the form that [`Permission::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.pattern.as_ref().map_or(Ok(()), |pattern| write!(f, ":{pattern}"))
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=PERMISSION_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_plain)
}

impl FromIterator<Permission> for Grant {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        Self { permissions: permissions.into_iter().collect() }
    }
}

impl Grant {
    /// Reads permissions. Leaves out those that it cannot parse, and returns their errors by index.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> (Self, Vec<(usize, PermissionError)>) {
        let (mut permissions, mut errors) = (Vec::new(), Vec::new());
        for (index, text) in texts.into_iter().enumerate() {
            match Permission::parse(text) {
                Ok(_) if permissions.len() == PERMISSIONS_MAX => {
                    errors.push((index, PermissionError::TooMany));
                    break;
                }
                Ok(permission) => permissions.push(permission),
                Err(err) => errors.push((index, err)),
            }
        }
        (Self { permissions: permissions.into() }, errors)
    }

    /// Bytes of memory it takes, approximately.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let pattern = |permission: &Permission| permission.pattern.as_ref().map_or(0, Pattern::bytes);
        let names = self.permissions.iter().map(|permission| permission.name.len() + pattern(permission));
        size_of_val::<[Permission]>(&self.permissions) + names.sum::<usize>()
    }

    /// Its permissions, in the order in which they were given.
    pub fn permissions(&self) -> impl Iterator<Item = &Permission> {
        self.permissions.iter()
    }

    /// Whether this grant, held by `user`, allows `action`.
    #[must_use]
    pub fn allows(&self, user: Option<&str>, action: Action<'_>) -> bool {
        self.allowing(user, action).is_some()
    }

    /// Whether it allows any publishing.
    #[must_use]
    pub fn may_publish(&self) -> bool {
        self.permissions.iter().any(|permission| &*permission.name == PUBLISH)
    }

    /// The first permission by which this grant, held by `user`, allows `action`.
    #[must_use]
    pub fn allowing(&self, user: Option<&str>, action: Action<'_>) -> Option<&Permission> {
        let about = action.about();
        action.names().iter().find_map(|name| self.holding(name, about, user))
    }

    /// Whether it has the permission `name` for the room (or user) `about`; with `None`, for everything.
    #[must_use]
    pub fn holds(&self, name: &str, about: Option<&str>, user: Option<&str>) -> bool {
        self.holding(name, about, user).is_some()
    }

    /// The first permission by which it [holds](Self::holds) `name`.
    #[must_use]
    pub fn holding(&self, name: &str, about: Option<&str>, user: Option<&str>) -> Option<&Permission> {
        let covers = |pattern: &Pattern| about.is_some_and(|about| pattern.covers(about, user));
        let mut named = self.permissions.iter().filter(|permission| &*permission.name == name);
        named.find(|permission| permission.pattern.as_ref().is_none_or(covers))
    }
}

impl<'a> Action<'a> {
    /// The permissions each of which allows it.
    #[must_use]
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Read(_) => &[READ],
            Self::ListenAs(_) => &[USER],
            Self::Publish(_) | Self::PublishAnywhere => &[PUBLISH],
            Self::Members(_) | Self::Online => &[MEMBERS, ADMIN],
            Self::Disconnect(_) | Self::Administer => &[ADMIN],
        }
    }

    /// The room or user that a permission's pattern has to cover; `None` if only a permission without a pattern allows
    /// it.
    #[must_use]
    pub const fn about(self) -> Option<&'a str> {
        match self {
            Self::Read(about)
            | Self::ListenAs(about)
            | Self::Publish(about)
            | Self::Members(about)
            | Self::Disconnect(about) => Some(about),
            Self::PublishAnywhere | Self::Online | Self::Administer => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(texts: &[&str]) -> Grant {
        let (grant, errors) = Grant::parse(texts.iter().copied());
        assert_eq!(errors, [], "{texts:?}");
        grant
    }

    const EVERYTHING: [Action<'_>; 8] = [
        Action::Read("r"),
        Action::ListenAs("u"),
        Action::Publish("r"),
        Action::PublishAnywhere,
        Action::Members("r"),
        Action::Online,
        Action::Disconnect("r"),
        Action::Administer,
    ];

    fn allowed(texts: &[&str]) -> Vec<Action<'static>> {
        let grant = grant(texts);
        EVERYTHING.into_iter().filter(|action| grant.allows(Some("me"), *action)).collect()
    }

    #[test]
    fn no_permission_allows_nothing() {
        assert_eq!(allowed(&[]), []);
        assert_eq!(allowed(&["vip", "read", "publish:r", "Admin", "sse"]), []);
    }

    #[test]
    fn no_permission_implies_another() {
        assert_eq!(allowed(&["sse:read"]), [Action::Read("r")]);
        assert_eq!(allowed(&["sse:user"]), [Action::ListenAs("u")]);
        assert_eq!(allowed(&["sse:members"]), [Action::Members("r"), Action::Online]);
        assert_eq!(allowed(&["sse:publish"]), [Action::Publish("r"), Action::PublishAnywhere]);
        let admin = [Action::Members("r"), Action::Online, Action::Disconnect("r"), Action::Administer];
        assert_eq!(allowed(&["admin"]), admin);
    }

    /// What bounds the memory of grants is made of it.
    #[test]
    fn a_grant_is_as_large_as_its_permissions() {
        let bytes = |texts: &[&str]| grant(texts).bytes();
        assert_eq!(bytes(&[]), 0);
        assert_eq!(bytes(&["admin"]), size_of::<Permission>() + 5);
        let pattern = Pattern::parse("chat-*").expect("a pattern").bytes();
        assert_eq!(bytes(&["admin", "sse:read:chat-*"]), 2 * size_of::<Permission>() + 5 + 8 + pattern);
    }

    #[test]
    fn a_publisher_to_one_room_is_a_publisher() {
        let may_publish = |texts: &[&str]| grant(texts).may_publish();
        assert!(may_publish(&["sse:read", "sse:publish:r"]) && may_publish(&["sse:publish"]));
        assert!(!may_publish(&["sse:read", "sse:members", "admin", "publish"]) && !may_publish(&[]));
    }

    #[test]
    fn a_pattern_never_reaches_beyond_rooms() {
        assert_eq!(allowed(&["sse:publish:*"]), [Action::Publish("r")]);
        assert_eq!(allowed(&["admin:*"]), [Action::Members("r"), Action::Disconnect("r")]);
        assert_eq!(allowed(&["sse:publish:other", "admin:other", "sse:read:R"]), []);
    }

    #[test]
    fn a_room_may_have_colons() {
        let grant = grant(&["sse:read:room:7", "moderator:room:7"]);
        assert!(grant.allows(None, Action::Read("room:7")) && !grant.allows(None, Action::Read("room")));
        assert!(grant.holds("moderator", Some("room:7"), None));
        assert!(!grant.holds("moderator", Some("room:8"), None) && !grant.holds("moderator", None, None));
    }

    #[test]
    fn what_is_not_understood_is_told_and_allows_nothing() {
        let texts = ["", "sse:", "sse:reed:a", "sse:read:", "sse:read:a*b", "a b", "vip", "sse:read:ok"];
        let (read, errors) = Grant::parse(texts);
        assert_eq!(
            errors,
            [
                (0, PermissionError::Name),
                (1, PermissionError::Unknown),
                (2, PermissionError::Unknown),
                (3, PermissionError::Pattern(PatternError::Length)),
                (4, PermissionError::Pattern(PatternError::Star)),
                (5, PermissionError::Name),
            ]
        );
        assert_eq!(read, grant(&["vip", "sse:read:ok"]));
    }

    #[test]
    fn a_grant_is_bounded() {
        let (grant, errors) = Grant::parse(std::iter::repeat_n("vip", PERMISSIONS_MAX + 5));
        assert_eq!(grant.permissions.len(), PERMISSIONS_MAX);
        assert_eq!(errors, [(PERMISSIONS_MAX, PermissionError::TooMany)]);
    }

    #[test]
    fn what_is_wrong_is_told_in_words() {
        let told = |text: &str| Permission::parse(text).expect_err("no permission");
        assert!(told("").to_string().contains("1 to 64 bytes"));
        assert!(told("sse:write").to_string().contains("none of sse:read"));
        assert_eq!(told("sse:read:a*b").to_string(), PatternError::Star.to_string());
        assert!(std::error::Error::source(&told("sse:read:a*b")).is_some());
        assert!(std::error::Error::source(&told("")).is_none());
    }

    #[test]
    fn permissions_make_a_grant() {
        let grant: Grant = [Permission::to_read("a"), Permission::to_read("b*")].into_iter().collect();
        let reads = ["a", "b*", "b", "c"].map(|room| grant.allows(None, Action::Read(room)));
        assert_eq!(reads, [true, true, false, false]);
    }

    #[test]
    fn the_permission_that_decided_is_named() {
        let grant = grant(&["admin:a*", "sse:members:{user}", "sse:publish:b", "sse:publish"]);
        let named = |action| grant.allowing(Some("a1"), action).map(ToString::to_string);
        assert_eq!(named(Action::Members("a1")).as_deref(), Some("sse:members:{user}"));
        assert_eq!(named(Action::Members("a2")).as_deref(), Some("admin:a*"));
        assert_eq!(named(Action::Publish("b")).as_deref(), Some("sse:publish:b"));
        assert_eq!(named(Action::PublishAnywhere).as_deref(), Some("sse:publish"));
        assert_eq!((named(Action::Administer), named(Action::Read("b"))), (None, None));
    }
}
