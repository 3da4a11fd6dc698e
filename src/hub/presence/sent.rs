//! The newest messages of a room, for shards that have not delivered them yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

/// Messages that are kept for one room. A shard that is further behind sends a fresh state.
pub const MESSAGES_KEPT: usize = 8;

/// Bytes of them. Where members show much, a message with more than this is not kept at all: then a fresh state is hardly
/// longer.
pub const MESSAGES_BYTES_MAX: usize = 64 << 10;

/// How long messages are kept, so that a quiet room holds none. A busy shard takes milliseconds.
pub const MESSAGES_KEPT_FOR: Duration = Duration::from_secs(2);

/// Up to which message of a room streams were told. Numbers begin anew when a room gets presence again, or is needed
/// again, so they say nothing without the life that they are of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Told {
    /// The life of the room; 0 before they were told anything.
    pub life: u64,
    /// Number of the message within it.
    pub rev: u64,
}

/// What a stream sees of a room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum View {
    /// Who is there. Needs `sse:members` for the room.
    Names,
    /// How many are there.
    Counts,
}

/// One message of a room, as the complete bytes of an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its number.
    pub rev: u64,
    names: Bytes,
    counts: Option<Bytes>,
}

impl Message {
    /// A `diff`; `counts` is there if members came or left.
    pub(super) fn diff(rev: u64, names: Bytes, counts: Option<Bytes>) -> Self {
        Self { rev, names, counts }
    }

    /// A `count` for everybody.
    pub(super) fn count(rev: u64, bytes: Bytes) -> Self {
        Self { rev, names: bytes.clone(), counts: Some(bytes) }
    }

    fn len(&self) -> usize {
        self.names.len() + self.counts.as_ref().map_or(0, Bytes::len)
    }

    /// The bytes for streams with this view; `None` if there is nothing new for them.
    #[must_use]
    pub fn bytes(&self, view: View) -> Option<&Bytes> {
        match view {
            View::Names => Some(&self.names),
            View::Counts => self.counts.as_ref(),
        }
    }
}

/// What a shard has to send that has delivered up to some message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub enum Messages {
    /// Nothing.
    None,
    /// These messages, oldest first. Their numbers are consecutive.
    Next(Vec<Message>),
    /// A fresh state: what the streams know cannot be brought up to date by messages.
    Behind,
}

/// The newest messages. Invariant: their numbers are consecutive, and the last one's is the room's; they are at most
/// [`MESSAGES_KEPT`], with [`MESSAGES_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Sent {
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Sent {
    pub(super) fn push(&mut self, message: Message) {
        self.bytes += message.len();
        self.messages.push_back(message);
        while (self.messages.len() > MESSAGES_KEPT || self.bytes > MESSAGES_BYTES_MAX)
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.len();
        }
    }

    /// Forgets all messages and gives their memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// What comes after `told`, if the newest message is `newest`.
    pub(super) fn after(&self, told: Told, newest: Told) -> Messages {
        if told == newest {
            return Messages::None;
        }
        let rev = told.rev;
        match self.messages.front() {
            Some(first)
                if told.life == newest.life
                    && (first.rev..=newest.rev).contains(&(rev.saturating_add(1))) =>
            {
                Messages::Next(self.messages.iter().filter(|message| message.rev > rev).cloned().collect())
            }
            _ => Messages::Behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_too_far_behind_gets_a_state() {
        let mut sent = Sent::default();
        let told = |life, rev| Told { life, rev };
        assert_eq!(sent.after(told(1, 3), told(1, 4)), Messages::Behind);
        for rev in 5..20 {
            sent.push(Message::count(rev, Bytes::new()));
        }
        let revs_in = |life, rev| match sent.after(told(life, rev), told(2, 19)) {
            Messages::Next(messages) => Some(messages.iter().map(|message| message.rev).collect::<Vec<_>>()),
            Messages::None => Some(Vec::new()),
            Messages::Behind => None,
        };
        let revs = |rev| revs_in(2, rev);
        assert_eq!(revs(19), Some(vec![]));
        assert_eq!(revs(17), Some(vec![18, 19]));
        assert_eq!(revs(11).map(|revs| revs.len()), Some(MESSAGES_KEPT));
        assert_eq!((revs(10), revs(20), revs(u64::MAX)), (None, None, None));
        assert_eq!((revs_in(1, 17), revs_in(1, 19), revs_in(0, 0)), (None, None, None), "from another life");
    }

    #[test]
    fn messages_are_bounded_in_bytes() {
        let mut sent = Sent::default();
        let told = |rev| Told { life: 1, rev };
        let mut push = |rev, bytes: usize| {
            sent.push(Message::diff(rev, vec![0; bytes].into(), None));
            (sent.messages.len(), sent.bytes, sent.after(told(rev - 1), told(rev)) == Messages::Behind)
        };
        assert_eq!(push(1, MESSAGES_BYTES_MAX - 1), (1, MESSAGES_BYTES_MAX - 1, false));
        assert_eq!(push(2, 1), (2, MESSAGES_BYTES_MAX, false));
        assert_eq!(push(3, 9), (2, 10, false), "the oldest goes first");
        assert_eq!(push(4, MESSAGES_BYTES_MAX + 1), (0, 0, true), "nobody gets it");
        assert_eq!(push(5, 5), (1, 5, false));
    }

    #[test]
    fn counts_have_nothing_new_if_only_data_changed() {
        let diff = Message::diff(1, Bytes::from_static(b"diff"), None);
        assert_eq!((diff.bytes(View::Names).is_some(), diff.bytes(View::Counts)), (true, None));
    }
}
