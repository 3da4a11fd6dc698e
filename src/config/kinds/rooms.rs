//! Kinds of the settings about rooms: what a subscriber begins with, names of events, and a few words.

use crate::config::kinds::bounded::{Integer, integer};
use crate::config::kinds::{Kind, Plain};
use crate::hub::room_policy::Replay;
use crate::types::name::EventName;
use crate::types::words::words;

words! {
    /// Which rooms there are.
    KnownRooms {
        /// Every room that is asked for.
        Any = "any",
        /// Those that a table matches.
        Listed = "listed",
    }
}

words! {
    /// What is known about who is present in a room.
    RoomPresence {
        /// Nothing.
        Off = "off",
        /// Their number.
        Count = "count",
        /// Their names.
        Members = "members",
    }
}

words! {
    /// What the application is asked or told about a room.
    RoomCallback {
        /// It is asked about what users publish.
        Publish = "publish",
        /// It is told who comes and goes.
        Presence = "presence",
    }
}

/// What a subscriber without an id begins with: `off`, `latest`, or a number of events.
pub(crate) fn replay() -> ReplayKind {
    ReplayKind(integer(1..=REPLAY_EVENTS_MAX))
}

pub(crate) struct ReplayKind(Integer);

/// Not more than a room may keep.
const REPLAY_EVENTS_MAX: usize = 1_000_000;

impl Kind for ReplayKind {
    type Value = Replay;

    fn placeholder(&self) -> &'static str {
        "REPLAY"
    }

    fn wanted(&self, example: &str) -> String {
        format!("off, latest or {}", self.0.wanted(example))
    }

    fn parse(&self, text: &str) -> Option<Replay> {
        match text {
            "off" | "0" => Some(Replay::Off),
            "latest" => Some(Replay::Latest),
            count => self.0.parse(count).map(Replay::Newest),
        }
    }

    fn print(&self, value: &Replay) -> String {
        match value {
            Replay::Off => "off".to_owned(),
            Replay::Latest => "latest".to_owned(),
            Replay::Newest(count) => count.to_string(),
        }
    }
}

/// The name of an event, without a comma.
pub(crate) fn event_name() -> Plain<EventName> {
    Plain {
        placeholder: "NAME",
        wanted: |_| {
            "the name of an event such as chat, of 1 to 128 bytes, without commas, and none of the server's own"
                .to_owned()
        },
        parse: |text| EventName::new(text).ok().filter(|name| !name.as_str().contains(',')),
        print: |value| value.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_a_word_or_a_number() {
        for (text, value) in [
            ("off", Replay::Off),
            ("latest", Replay::Latest),
            ("1", Replay::Newest(1)),
            ("1000000", Replay::Newest(1_000_000)),
        ] {
            assert_eq!(replay().parse(text), Some(value), "{text}");
            assert_eq!(replay().print(&value), text);
        }
        assert_eq!(replay().parse("0"), Some(Replay::Off));
        for text in ["", "on", "newest", "-1", "1000001", "1s"] {
            assert_eq!(replay().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_of_events_are_those_that_publishers_may_use() {
        for text in ["chat", "message", "two words", "é"] {
            let name = event_name().parse(text).expect("a name");
            assert_eq!(event_name().print(&name), text);
        }
        for text in ["", "a,b", "a\nb", "gap", "presence", &"a".repeat(129)] {
            assert_eq!(event_name().parse(text), None, "{text:?}");
        }
    }
}
