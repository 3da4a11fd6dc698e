//! Whether somebody who is believed may do something, decided by the server's own code, and by which permission or why not,
//! in words.

use std::sync::Arc;

use super::quoted;
use crate::auth::authority::Authority;
use crate::auth::grant::{Action, Permission};
use crate::auth::identity::Identity;
use crate::http::caller::Caller;
use crate::hub::name::{RoomName, UserName};

/// Something it may allow.
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
    /// Whether `identity` may, and why.
    pub(super) fn decide(&self, authority: &Arc<Authority>, identity: &Arc<Identity>) -> (bool, Vec<String>) {
        let caller = Caller::Known(authority.clone(), identity.clone());
        let action = self.action();
        let may = caller.may(action).is_ok();
        let why = match (identity.grant.allowing(identity.user(), action), may) {
            (Some(permission), _) => format!("by {permission}"),
            (None, true) => "which is one of public_rooms".to_owned(),
            (None, false) => wanted(identity, action),
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
            Self::Members(room) => format!("see who is in {}", quoted(room.as_str())),
            Self::Disconnect(room) => format!("disconnect users from {}", quoted(room.as_str())),
            Self::Administer => "see the server's state and revoke tokens".to_owned(),
        }
    }
}

fn answer(may: bool) -> &'static str {
    if may { "allowed" } else { "not allowed" }
}

/// What lets `identity` listen as `user`, or what it lacks.
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
    format!("{name}, {}; {sub}", wanted(identity, action))
}

/// What would have allowed `action`, and what there is of it.
fn wanted(identity: &Identity, action: Action<'_>) -> String {
    let names = action.names();
    let how = if action.about().is_none() { "without a pattern" } else { "that covers it" };
    let have = identity.grant.permissions().filter(|permission| names.contains(&permission.name()));
    let have: Vec<String> = have.map(Permission::to_string).collect();
    let have = if have.is_empty() { "none".to_owned() } else { have.join(", ") };
    format!("which takes {} {how} (it has {have})", names.join(" or "))
}
