//! What other threads tell a shard: which sources have news, and a few commands.
//!
//! Bounded: a source is in a mailbox at most once, and at most [`COMMANDS_MAX`] commands wait; the next is refused.
//! Once the shard has ended, commands are dropped, and their senders stop waiting.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::hub::source::Source;
use crate::rights::identity::{Session, Standing};
use crate::rights::revocation::Whose;

/// Commands that may wait for one shard.
pub const COMMANDS_MAX: usize = 4096;

/// Places that an empty mailbox keeps.
const DIRTY_KEPT: usize = 1024;

/// Where a shard sends its answer. The receiver may be gone by then.
pub type Reply<T> = futures_channel::oneshot::Sender<T>;

/// A command to a shard. All commands are data except two, which carry a check against the policy in force in this
/// process.
pub enum Command {
    /// Close `user`'s connections that are in `room`.
    Disconnect {
        /// The user's inbox.
        user: Arc<Source>,
        /// The room.
        room: Arc<Source>,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Say which users have a connection in `room`. A user with several connections may be named several times.
    Members {
        /// The room.
        room: Arc<Source>,
        /// Gets the users' inboxes.
        reply: Reply<Vec<Arc<Source>>>,
    },
    /// Close the oldest connection of `user`: a newer one takes its place.
    Replace {
        /// The user's inbox.
        user: Arc<Source>,
        /// Shards that had none left to close.
        passed: usize,
    },
    /// Close the connections that `whose` selects.
    Revoke {
        /// Selects the connections.
        whose: Whose,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Close the connections that the policy in force no longer allows.
    Review {
        /// Whether a connection may stay.
        may_stay: Arc<dyn Fn(&Standing<'_>) -> bool + Send + Sync>,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Tell `user`'s connections that are in `room` that the user is muted there.
    Muted {
        /// The user's inbox.
        user: Arc<Source>,
        /// The room.
        room: Arc<Source>,
        /// Until when, as the connections are told (RFC 3339); `None` until it is undone.
        until: Option<Box<str>>,
        /// Gets the number of connections.
        reply: Reply<u32>,
    },
    /// Tell all connections that the order has not been heard of for so long.
    Stale {
        /// For how long.
        away: Duration,
        /// Gets the number of connections.
        reply: Reply<u32>,
    },
    /// Give connections a new session.
    Refresh(Box<Refresh>),
    /// Look at the policies of the rooms again: they have changed.
    Policies,
    /// Begin to close all connections, evenly over the drain time.
    Drain,
}

/// A new session for a user's connections.
pub struct Refresh {
    /// The user's inbox.
    pub user: Arc<Source>,
    /// The key of the only connection to refresh; `None` for all of them.
    pub connection: Option<u64>,
    /// The new session.
    pub session: Session,
    /// Whether the session allows listening in a room.
    pub may_read: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Gets the result.
    pub reply: Reply<Refreshed>,
}

/// The result of a [`Refresh`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refreshed {
    /// Connections that have the new session.
    pub connections: u32,
    /// Connections in a room that the session does not allow, or not silently. They keep the old session.
    pub refused: u32,
}

/// A source with news.
#[derive(Debug)]
pub struct Dirty(pub Arc<Source>);

#[derive(Default)]
struct Inner {
    dirty: Vec<Dirty>,
    commands: Vec<Command>,
    /// Rooms that have news of who is present.
    presence: Vec<Dirty>,
    waker: Option<Waker>,
    /// Whether the shard has ended and reads nothing any more.
    closed: bool,
}

impl Inner {
    fn has_mail(&self) -> bool {
        !self.dirty.is_empty() || !self.commands.is_empty() || !self.presence.is_empty()
    }
}

/// One shard's mailbox.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
}

impl Mailbox {
    /// Announces news of `source`. Returns the shard's waker if it sleeps, to be woken once no lock is held.
    #[must_use]
    pub(super) fn announce(&self, source: Arc<Source>) -> Option<Waker> {
        let mut inner = self.inner.lock();
        inner.dirty.push(Dirty(source));
        inner.waker.take()
    }

    /// Announces news of who is present in the room `source`. Returns the shard's waker if it sleeps, to be woken once
    /// no lock is held.
    #[must_use]
    pub(super) fn announce_presence(&self, source: Arc<Source>) -> Option<Waker> {
        let mut inner = self.inner.lock();
        inner.presence.push(Dirty(source));
        inner.waker.take()
    }

    /// Sends a command; gives it back if too many wait. Drops it if the shard has ended.
    ///
    /// # Errors
    ///
    /// The command, if [`COMMANDS_MAX`] others wait.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.closed {
                return Ok(());
            }
            if inner.commands.len() >= COMMANDS_MAX {
                return Err(command);
            }
            inner.commands.push(command);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Puts a waker back that was not used, because another thread has handled the shard's mail. Returns it if there is
    /// new mail: then the caller must wake the shard.
    #[must_use]
    pub fn rearm(&self, waker: Waker) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if inner.has_mail() {
            return Some(waker);
        }
        inner.waker = Some(waker);
        None
    }

    /// Moves all mail to the ends of `dirty`, `commands` and `presence`, which gets rooms with news of who is present.
    /// The mailbox keeps some memory, but not that of a flood.
    pub fn take(&self, dirty: &mut Vec<Dirty>, commands: &mut Vec<Command>, presence: &mut Vec<Dirty>) {
        let mut inner = self.inner.lock();
        dirty.append(&mut inner.dirty);
        commands.append(&mut inner.commands);
        presence.append(&mut inner.presence);
        inner.dirty.shrink_to(DIRTY_KEPT);
        inner.presence.shrink_to(DIRTY_KEPT);
        inner.commands.shrink_to(DIRTY_KEPT);
    }

    /// Drops all commands that wait or are sent later, because no shard will answer them.
    pub fn close(&self) {
        let commands = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            std::mem::take(&mut inner.commands)
        };
        // Not under the lock: dropping them wakes the tasks that wait for answers.
        drop(commands);
    }

    /// Ready when there is mail; otherwise the next mail wakes `waker`.
    pub fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.has_mail() {
            return Poll::Ready(());
        }
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_channel::oneshot::{Canceled, Receiver, channel};

    use super::*;
    use crate::hub::room_policy::RoomPolicy;
    use crate::hub::source::SourceKind;

    fn question() -> (Command, Receiver<Vec<Arc<Source>>>) {
        let (reply, answer) = channel();
        let room = Arc::new(Source::new(SourceKind::Room, "r", 1, 0, RoomPolicy::example()));
        (Command::Members { room, reply }, answer)
    }

    #[test]
    fn nobody_waits_for_a_shard_that_has_ended() {
        let mailbox = Mailbox::default();
        let ask = || {
            let (command, answer) = question();
            assert!(mailbox.send(command).is_ok());
            answer
        };
        let mut before = ask();
        assert_eq!(before.try_recv().map(|answer| answer.is_none()), Ok(true), "not yet");
        mailbox.close();
        assert_eq!(before.try_recv().err(), Some(Canceled));
        assert_eq!(ask().try_recv().err(), Some(Canceled));
    }

    #[test]
    fn one_command_more_than_may_wait_is_given_back() {
        let mailbox = Mailbox::default();
        for _ in 0..COMMANDS_MAX {
            assert!(mailbox.send(Command::Drain).is_ok());
        }
        assert!(matches!(mailbox.send(Command::Drain), Err(Command::Drain)));
    }
}
