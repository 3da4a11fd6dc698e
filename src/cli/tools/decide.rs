//! Decides with the server's own code whether an accepted credential allows something, and explains it: by which
//! permission, or what is missing.

use std::sync::Arc;

use crate::auth::authority::Authority;
use crate::cli::tools::quoted;
use crate::http::gate::caller::Caller;
use crate::rights::grant::{Action, Permission, PermissionName};
use crate::rights::identity::Identity;
use crate::rights::pattern::Pattern;
use crate::types::name::{RoomName, UserName};

/// Something a token or a key may allow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    Read(RoomName, Option<UserName>),
    Publish(RoomName),
    PublishAnywhere,
    Members(RoomName),
    Disconnect(RoomName),
    Administer,
}

impl Asked {
    /// Returns whether `identity` may do it, and why.
    pub(super) fn decide(&self, authority: &Arc<Authority>, identity: &Arc<Identity>) -> (bool, Vec<String>) {
        let caller = Caller::Known(authority.clone(), identity.clone());
        let action = self.action();
        let may = caller.may(action).is_ok();
        let why = match (identity.grant.allowing(identity.user(), action), may) {
            (Some(permission), _) => format!("by {permission}"),
            (None, true) => "which is one of public_rooms".to_owned(),
            (None, false) => wanted(identity, action.names(), action.about()),
        };
        let line = format!("{}: {}, {why}", answer(may), self.words());
        let Self::Read(_, Some(user)) = self else { return (may, vec![line]) };
        let may_as = caller.listens_as(Some(user.clone())).is_ok();
        let line_as = format!("{}: listen as {}", answer(may_as), why_as(identity, user));
        (may && may_as, vec![line, line_as])
    }

    fn action(&self) -> Action<'_> {
        match self {
            Self::Read(room, _) => Action::Read(room.as_str()),
            Self::Publish(room) => Action::Publish(room.as_str()),
            Self::PublishAnywhere => Action::PublishAnywhere,
            Self::Members(room) => Action::Members(room.as_str()),
            Self::Disconnect(room) => Action::Disconnect(room.as_str()),
            Self::Administer => Action::Administer,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Read(room, _) => format!("listen in {}", quoted(room.as_str())),
            Self::Publish(room) => format!("publish to {}", quoted(room.as_str())),
            Self::PublishAnywhere => "publish to users and to everyone".to_owned(),
            Self::Members(room) => format!("see the members of {}", quoted(room.as_str())),
            Self::Disconnect(room) => format!("disconnect users from {}", quoted(room.as_str())),
            Self::Administer => "see the server's state and revoke tokens".to_owned(),
        }
    }
}

fn answer(may: bool) -> &'static str {
    if may { "allowed" } else { "not allowed" }
}

/// The reason why `identity` may listen as `user`, or what it lacks.
fn why_as(identity: &Identity, user: &UserName) -> String {
    let name = quoted(user.as_str());
    if identity.user.as_ref() == Some(user) {
        return format!("{name}, which is its sub");
    }
    let action = Action::ListenAs(user.as_str());
    if let Some(permission) = identity.grant.allowing(identity.user(), action) {
        return format!("{name}, by {permission}");
    }
    let sub = identity
        .user()
        .map_or_else(|| "it has no sub".to_owned(), |sub| format!("its sub is {}", quoted(sub)));
    format!("{name}, {}; {sub}", wanted(identity, action.names(), action.about()))
}

/// A permission that events may require, of a room, or for events to users and to everyone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Required {
    pub(super) name: PermissionName,
    pub(super) room: Option<RoomName>,
}

impl Required {
    /// Returns whether `identity` gets such events, and why.
    pub(super) fn decide(&self, identity: &Identity) -> (bool, String) {
        let (name, room) = (self.name.as_str(), self.room.as_ref().map(RoomName::as_str));
        let holding = identity.grant.holding(name, room, identity.user());
        let why = holding.map_or_else(|| wanted(identity, &[name], room), |held| format!("by {held}"));
        let whose = room
            .map_or_else(|| "for users and for everyone".to_owned(), |room| format!("in {}", quoted(room)));
        let gets = holding.is_some();
        (gets, format!("{}: get events {whose} that require {name}, {why}", answer(gets)))
    }
}

/// Which permissions with one of `names` would allow it for the room or user `about`, and which of them `identity` has.
fn wanted(identity: &Identity, names: &[&str], about: Option<&str>) -> String {
    let have = identity.grant.permissions().filter(|permission| names.contains(&permission.name()));
    let have: Vec<String> = have.map(Permission::to_string).collect();
    let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
    let Some(about) = about else {
        return format!("which needs {} without a pattern (it has {have})", names.join(" or "));
    };
    let exactly: Vec<String> =
        names.iter().map(|name| format!("{name}:{}", Pattern::exactly(about))).collect();
    let begins = Pattern::exactly(beginning(about));
    format!(
        "which needs {}, or a pattern such as {}:{begins}* (it has {have})",
        exactly.join(" or "),
        names[0]
    )
}

/// A prefix for names like this one: up to a separator in the name, or else the first half.
fn beginning(name: &str) -> &str {
    let inner = name.trim_end_matches(SIGNS);
    let half = name.char_indices().nth(name.chars().count().div_ceil(2)).map_or(name.len(), |(at, _)| at);
    &name[..inner.rfind(SIGNS).map_or(half, |at| at + 1)]
}

/// Separators that are common in names. One byte each.
const SIGNS: [char; 5] = ['-', '_', '.', ':', '/'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_one_that_others_may_share() {
        for (name, begins) in [
            ("inbox-bob", "inbox-"),
            ("a/b/c", "a/b/"),
            ("other", "oth"),
            ("team-", "tea"),
            ("a", "a"),
            ("éé", "é"),
            ("--", "-"),
        ] {
            assert_eq!(beginning(name), begins, "{name}");
        }
    }
}
