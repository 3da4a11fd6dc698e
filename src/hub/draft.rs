//! An event as its publisher gives it: without an offset.

use std::time::Duration;

use crate::rights::grant::PermissionName;
use crate::types::name::{EventId, EventKey, EventName, RoomName, UserName};

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
    /// What the event is the newest of.
    pub key: Option<EventKey>,
    /// With a key: the event is skipped unless its version is above that of the last one.
    pub version: Option<u64>,
    /// Whether the event is kept after its delivery, if its room's policy keeps events.
    pub store: bool,
    /// Claims that the event makes. If one was made before, the event is not published again.
    pub claims: Claims,
}

impl Draft {
    /// An event of `data` for `target`, and nothing else.
    #[must_use]
    pub fn to(target: Target, data: impl Into<String>) -> Self {
        Self {
            target,
            name: None,
            id: None,
            data: data.into(),
            exclude: None,
            require: None,
            key: None,
            version: None,
            store: true,
            claims: Claims::default(),
        }
    }
}

/// What an event claims to be the first of. Plain data: every node decides alike.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Claims {
    /// The event's idempotency key (`once`).
    pub once: Option<Claim>,
    /// Whether an event with this key was published before, so that nobody has checked whether this one may go out. If
    /// that is forgotten by the time the order decides, the event is refused.
    pub is_known: bool,
    /// The event's data, in a room that refuses repeats.
    pub repeat: Option<Claim>,
}

/// A claim to be the first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Claim {
    /// A hash of what is claimed, and by whom.
    pub key: u128,
    /// A hash of what comes with the claim. Another one under the same key is a mistake.
    pub content: u128,
    /// How long the claim is remembered.
    pub time: Duration,
}
