//! Connections on their way to another thread's shard.
//!
//! The kernel gives a connection to any thread. If its room is small and lives on another one, it goes there: an event
//! for ten listeners then wakes one thread instead of two, and a wake-up costs as much as several deliveries.

use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use socket2::Socket;

use crate::hub::source::Source;
use crate::shard::join::Join;

/// Connections that may wait for one shard. One more stays where it is.
pub const TRANSFERS_MAX: usize = 1024;

/// A room with fewer connections gathers them on one shard. A larger one is faster on all of them: below, flushing it
/// takes a fifth of a millisecond at most.
pub const GATHER_MAX: u32 = 32;

/// What waits for one shard.
#[derive(Default)]
pub struct Transfers {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    joins: Vec<Join<Socket>>,
    waker: Option<Waker>,
}

impl Transfers {
    /// Sends a connection on its way.
    ///
    /// # Errors
    ///
    /// The connection, if [`TRANSFERS_MAX`] wait already.
    pub fn send(&self, join: Join<Socket>) -> Result<(), Box<Join<Socket>>> {
        let waker = {
            let mut inner = self.inner.lock();
            if inner.joins.len() >= TRANSFERS_MAX {
                return Err(Box::new(join));
            }
            inner.joins.push(join);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Takes what waits.
    #[must_use]
    pub fn take(&self) -> Vec<Join<Socket>> {
        std::mem::take(&mut self.inner.lock().joins)
    }

    /// Ready when something waits; otherwise `waker` is woken by the next.
    pub fn poll(&self, waker: &Waker) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.joins.is_empty() {
            return Poll::Ready(());
        }
        if !inner.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inner.waker = Some(waker.clone());
        }
        Poll::Pending
    }
}

/// The shard that `room` lives on, if it is small and lives somewhere already.
#[must_use]
pub fn home(room: &Arc<Source>, shards: usize) -> Option<usize> {
    let small = room.connections() < GATHER_MAX;
    (0..shards).find(|shard| small && room.local(*shard).is_some())
}
