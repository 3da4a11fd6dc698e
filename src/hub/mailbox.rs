//! What other threads tell a shard: which sources have news, and a few commands.
//!
//! Bounded without refusing anyone: a source is in a mailbox at most once, and of commands there are at most
//! [`COMMANDS_MAX`]; the next is answered "busy". Once the shard has ended, commands are dropped, and with them what their
//! senders wait for.

use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use crate::hub::source::Source;
use crate::rights::identity::{Session, Standing};
use crate::rights::revocation::Whose;

/// Commands that may wait for one shard.
pub const COMMANDS_MAX: usize = 4096;

/// Places for mail that are kept while there is none.
const DIRTY_KEPT: usize = 1024;

/// Where a shard sends its answer. Nothing is lost if the asker has given up.
pub type Reply<T> = futures_channel::oneshot::Sender<T>;

/// What a shard is asked or told: data, but for two that go by what this process alone has, the policy in force.
pub enum Command {
    /// Close `user`'s connections that are in `room`, and say how many there were.
    Disconnect {
        /// The user, by inbox.
        user: Arc<Source>,
        /// The room.
        room: Arc<Source>,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Say which users have a connection in `room`. One with several may be named several times.
    Members {
        /// The room.
        room: Arc<Source>,
        /// Gets the users, by inbox.
        reply: Reply<Vec<Arc<Source>>>,
    },
    /// Close the oldest connection of `user`: a newer one takes its place.
    Replace {
        /// The user, by inbox.
        user: Arc<Source>,
        /// Shards that had none left to close.
        passed: usize,
    },
    /// Close connections by whose they are.
    Revoke {
        /// Whose.
        whose: Whose,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Close the connections that may not stay as things are now.
    Review {
        /// Whether one may.
        may_stay: Arc<dyn Fn(&Standing<'_>) -> bool + Send + Sync>,
        /// Gets the number of connections closed.
        reply: Reply<u32>,
    },
    /// Let connections stay longer.
    Refresh(Box<Refresh>),
    /// Begin to close everything, evenly over the drain time.
    Drain,
}

/// Which connections may stay, and by what right.
pub struct Refresh {
    /// Their user, by inbox.
    pub user: Arc<Source>,
    /// The key of the only one that is meant, if there is only one.
    pub connection: Option<u64>,
    /// The new right.
    pub session: Session,
    /// Whether it allows a room.
    pub may_read: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    /// Gets what came of it.
    pub reply: Reply<Refreshed>,
}

/// What came of a [`Refresh`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Refreshed {
    /// Connections that have the new right.
    pub connections: u32,
    /// Connections that are in a room it does not allow, and keep the old one.
    pub refused: u32,
}

/// A source with news, as the shard that gets this knows it.
#[derive(Debug)]
pub struct Dirty(pub Arc<Source>);

#[derive(Default)]
struct Inner {
    dirty: Vec<Dirty>,
    commands: Vec<Command>,
    waker: Option<Waker>,
    /// Whether nobody will read it any more.
    closed: bool,
}

/// One shard's mailbox.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
}

impl Mailbox {
    /// Announces news of `source`. Returns who must be woken, to be done once no lock is held.
    #[must_use]
    pub(super) fn announce(&self, source: Arc<Source>) -> Option<Waker> {
        let mut inner = self.inner.lock();
        inner.dirty.push(Dirty(source));
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

    /// Puts a waker back that was not used, because its shard's mail was dealt with on its behalf. Returned if there is
    /// new mail: then it must be used after all.
    #[must_use]
    pub fn rearm(&self, waker: Waker) -> Option<Waker> {
        let mut inner = self.inner.lock();
        if !inner.dirty.is_empty() || !inner.commands.is_empty() {
            return Some(waker);
        }
        inner.waker = Some(waker);
        None
    }

    /// Moves what is there to the ends of `dirty` and `commands`. Vectors keep their memory, but not that of a flood.
    pub fn take(&self, dirty: &mut Vec<Dirty>, commands: &mut Vec<Command>) {
        let mut inner = self.inner.lock();
        dirty.append(&mut inner.dirty);
        commands.append(&mut inner.commands);
        inner.dirty.shrink_to(DIRTY_KEPT);
        inner.commands.shrink_to(DIRTY_KEPT);
    }

    /// Drops the commands that wait, and all that are sent from now on: nobody would answer them.
    pub fn close(&self) {
        let commands = {
            let mut inner = self.inner.lock();
            inner.closed = true;
            std::mem::take(&mut inner.commands)
        };
        // Not under the lock: those who wait for answers wake up.
        drop(commands);
    }

    /// Ready when there is mail; otherwise `waker` is woken by the next.
    pub fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.dirty.is_empty() || !inner.commands.is_empty() {
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
    use crate::hub::source::SourceKind;

    fn question() -> (Command, Receiver<Vec<Arc<Source>>>) {
        let (reply, answer) = channel();
        let room = Arc::new(Source::new(SourceKind::Room, "r", 1, 0));
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
