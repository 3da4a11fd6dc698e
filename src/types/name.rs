//! Names that peers choose: rooms, users, event names and event ids. Text goes in once, checked; nothing
//! downstream re-checks, so raw bytes cannot reach the wire (WHATWG HTML §9.2.5).

use std::fmt;

use crate::types::position::is_position;

/// Bytes a room, user or event name may have.
pub const NAME_BYTES_MAX: usize = 128;

/// Bytes a publisher-chosen event id may have. Browsers repeat it in `Last-Event-ID`; 128 bytes or more, or bytes
/// outside `[A-Za-z0-9._~-]`, would cost every cross-origin reconnect a CORS preflight (Fetch, "CORS-safelisted
/// request-header").
pub const EVENT_ID_BYTES_MAX: usize = 127;

/// Event names a publisher may not use: the server's own, and those that a browser itself dispatches on an
/// `EventSource` (WHATWG HTML §9.2.3). An event called `error` or `open` would run the page's handlers for a connection
/// that failed or opened. `message` is not reserved: browsers use it for an event without a name.
pub const RESERVED_EVENT_NAMES: [&str; 11] = [
    "connected",
    "replayed",
    "gap",
    "overload",
    "closing",
    "expiring",
    "presence",
    "muted",
    "stale",
    "error",
    "open",
];

/// Why a name was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum NameError {
    /// It has no characters.
    Empty,
    /// It is longer than its bound.
    TooLong,
    /// It holds a control character (line breaks and NUL among them) or, for an event id, a byte outside
    /// `[A-Za-z0-9._~-]`.
    Character,
    /// It belongs to the server or the browser: one of [`RESERVED_EVENT_NAMES`], or an id shaped like a position.
    Reserved,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::TooLong => "is too long",
            Self::Character => "holds a character that is not allowed",
            Self::Reserved => "is reserved for the server or the browser",
        })
    }
}

impl std::error::Error for NameError {}

/// Declares a checked, immutable text type.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $type(Box<str>);

        impl $type {
            /// Checks `text` once.
            ///
            /// # Errors
            ///
            /// The rule that `text` breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The text as the peer gave it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An addressable set of subscribers: 1 to [`NAME_BYTES_MAX`] bytes of UTF-8 without control characters.
    RoomName,
    plain
);
name!(
    /// The name of a user: 1 to [`NAME_BYTES_MAX`] bytes of UTF-8 without control characters.
    UserName,
    plain
);
name!(
    /// The `event:` field that a publisher chose: like a room name, but none of [`RESERVED_EVENT_NAMES`].
    EventName,
    event_name
);
name!(
    /// The `id:` field that a publisher chose: 1 to [`EVENT_ID_BYTES_MAX`] bytes of `[A-Za-z0-9._~-]`, not shaped like
    /// a position of this or another epoch ([`is_position`]).
    EventId,
    event_id
);

name!(
    /// What an event is the newest of, within its room: 1 to [`NAME_BYTES_MAX`] bytes of UTF-8 without control
    /// characters. It is not on the wire.
    EventKey,
    plain
);
name!(
    /// A key under which something is published once: 1 to [`NAME_BYTES_MAX`] bytes of UTF-8 without control
    /// characters.
    OnceKey,
    plain
);

fn plain(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Character);
    }
    Ok(())
}

fn event_name(text: &str) -> Result<(), NameError> {
    plain(text)?;
    if RESERVED_EVENT_NAMES.contains(&text) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

fn event_id(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > EVENT_ID_BYTES_MAX {
        return Err(NameError::TooLong);
    }
    if !text.bytes().all(is_id_byte) {
        return Err(NameError::Character);
    }
    if is_position(text) {
        return Err(NameError::Reserved);
    }
    Ok(())
}

/// Whether an event id may contain `byte`.
#[must_use]
pub fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::lineage::{Lineage, Presented};
    use crate::types::position::Epoch;

    #[test]
    fn line_breaks_and_nul_never_get_into_a_name() {
        for text in ["a\nb", "a\rb", "a\0b", "\u{85}"] {
            assert_eq!(RoomName::new(text), Err(NameError::Character), "{text:?}");
            assert_eq!(UserName::new(text), Err(NameError::Character), "{text:?}");
            assert_eq!(EventName::new(text), Err(NameError::Character), "{text:?}");
            assert_eq!(EventId::new(text), Err(NameError::Character), "{text:?}");
        }
    }

    #[test]
    fn bounds_are_inclusive() {
        let longest = "r".repeat(NAME_BYTES_MAX);
        assert!(RoomName::new(&longest).is_ok());
        assert_eq!(RoomName::new(&format!("{longest}r")), Err(NameError::TooLong));
        assert_eq!(RoomName::new(""), Err(NameError::Empty));
        assert!(EventId::new(&"i".repeat(EVENT_ID_BYTES_MAX)).is_ok());
        assert_eq!(EventId::new(&"i".repeat(128)), Err(NameError::TooLong));
    }

    #[test]
    fn publishers_cannot_forge_the_servers_own_events() {
        for name in RESERVED_EVENT_NAMES {
            assert_eq!(EventName::new(name), Err(NameError::Reserved));
        }
        for name in ["connected2", "message", "errors", "Error", "OPEN"] {
            assert!(EventName::new(name).is_ok(), "{name}");
        }
    }

    /// `orders-17` would be read as the position 17 of the epoch `orders`.
    #[test]
    fn publishers_cannot_forge_positions() {
        for text in ["k3v9q2-0", "k3v9q2-1041", "orders-17", "000000-18446744073709551615"] {
            assert_eq!(EventId::new(text), Err(NameError::Reserved), "{text}");
        }
        for text in
            ["order-17", "orders_17", "orders-017", "Orders-17", "orders-", "000000-18446744073709551616"]
        {
            assert!(EventId::new(text).is_ok(), "{text}");
        }
    }

    /// The epoch whose text is at the start of `id`; any epoch if there is none.
    fn epoch_called(id: &str) -> Epoch {
        let digits: Vec<u32> = id.chars().take(6).map(|digit| digit.to_digit(36).unwrap_or(0)).collect();
        Epoch::new(digits.iter().rev().fold(0, |seed, digit| 36 * seed + u64::from(*digit)))
    }

    fn read(epoch: Epoch, id: &str) -> Presented {
        Lineage::root(epoch, 0).read(id)
    }

    /// No epoch reads an accepted id as a position. The texts are random and nearly positions.
    #[test]
    fn no_epoch_reads_an_accepted_id_as_a_position() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut refused = 0;
        for _ in 0..200_000 {
            let epoch = Epoch::new(rng.u64(..));
            let number = rng.u64(..) >> rng.u32(0..64);
            let mut text = epoch.position(number).to_string().into_bytes();
            for _ in 0..rng.usize(0..3) {
                let (at, byte) = (rng.usize(0..text.len()), rng.choice(b"09azAZ-_.~").expect("some"));
                if rng.bool() {
                    text[at] = *byte;
                } else {
                    text.insert(at, *byte);
                }
            }
            let text = String::from_utf8(text).expect("ASCII");
            match EventId::new(&text) {
                Ok(id) => {
                    for epoch in [epoch, epoch_called(&text)] {
                        assert_eq!(read(epoch, id.as_str()), Presented::Foreign, "{text} in {epoch}");
                    }
                }
                Err(err) => {
                    assert_eq!(err, NameError::Reserved, "{text}");
                    assert_ne!(read(epoch, &text), Presented::Foreign, "{text} is refused without a reason");
                    refused += 1;
                }
            }
        }
        assert!((20_000..180_000).contains(&refused), "{refused}");
    }

    #[test]
    fn event_ids_stay_free_of_cors_preflights() {
        assert!(EventId::new("order-17_a.b~c").is_ok());
        for text in ["a b", "a/b", "é", "a,b"] {
            assert_eq!(EventId::new(text), Err(NameError::Character), "{text:?}");
        }
    }
}
