//! An event as its publisher gives it: without an offset.

use crate::rights::grant::PermissionName;
use crate::types::name::{EventId, EventName, RoomName, UserName};

/// The target of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Every connection in the room.
    Room(RoomName),
    /// Every connection of the user, whatever rooms it is in.
    User(UserName),
    /// Every connection.
    All,
}

/// An event as its publisher gave it, checked but not yet in the order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft {
    /// Its target.
    pub target: Target,
    /// The `event:` field; browsers use `message` when there is none.
    pub name: Option<EventName>,
    /// The `id:` field; the server's own `<epoch>-<offset>` when there is none.
    pub id: Option<EventId>,
    /// The text browsers hand to JavaScript. May hold any characters, line breaks included.
    pub data: String,
    /// A user whose connections must not get the event, such as the sender of a chat message.
    pub exclude: Option<UserName>,
    /// A permission that a subscriber must have to get the event.
    pub require: Option<PermissionName>,
}
