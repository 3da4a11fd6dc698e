//! The publish body, as the reference servers read it: the fields they act on, the rest ignored.

use serde::Deserialize;

/// `{"room":…}`, `{"user":…}` or `{"all":true}`, with `data`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Publish {
    /// All subscribers of this room.
    #[serde(default)]
    pub room: Option<String>,
    /// All streams of this user.
    #[serde(default)]
    pub user: Option<String>,
    /// All subscribers.
    #[serde(default)]
    pub all: bool,
    /// One line of text.
    pub data: String,
}

/// One event or a batch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub enum Batch {
    /// `[…]`
    Many(Vec<Publish>),
    /// `{…}`
    One(Publish),
}

impl Batch {
    /// The events, in order.
    #[must_use]
    pub fn into_events(self) -> Vec<Publish> {
        match self {
            Self::Many(events) => events,
            Self::One(event) => vec![event],
        }
    }
}
