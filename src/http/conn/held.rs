//! The bytes that one body, answer or question holds of the shared budget
//! ([`Buffers`](crate::engine::buffers::Buffers)).

use std::rc::Rc;
use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::{FREE_BYTES, Holds};
use crate::http::conn::exchange::Exchange;
use crate::hub::memory_level::MemoryLevel;
use crate::upstream::publishing::Budget;

/// Bytes that were taken of the shared budget. Given back when dropped.
pub struct Share {
    engine: Arc<Engine>,
    what: Holds,
    /// Bytes beyond [`FREE_BYTES`].
    taken: usize,
}

impl Share {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, what: Holds) -> Self {
        Self { engine: engine.clone(), what, taken: 0 }
    }

    /// Takes or gives back bytes until `bytes` are held in all. Called before they are buffered.
    ///
    /// # Errors
    ///
    /// [`Code::BuffersFull`] if the budget is used up, [`Code::MemoryExhausted`] if the engine's memory is. Then nothing is
    /// taken.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        let wanted = bytes.saturating_sub(FREE_BYTES);
        if let Some(more @ 1..) = wanted.checked_sub(self.taken) {
            self.engine.grew(more);
            self.engine.spare_memory(MemoryLevel::NoPublishes)?;
            if !self.engine.buffers.take(self.what, more) {
                self.engine.buffers.want(self.what, wanted);
                return Err(Code::BuffersFull.into());
            }
        } else {
            self.engine.buffers.give(self.what, self.taken - wanted);
        }
        self.taken = wanted;
        Ok(())
    }
}

/// What a question to the application holds, with its answer.
impl Budget for Share {
    fn hold(&mut self, bytes: usize) -> bool {
        Self::hold(self, bytes).is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.engine.buffers.give(self.what, self.taken);
    }
}

/// The share of one body or answer, which its exchange knows of.
pub struct Held {
    share: Share,
    exchange: Rc<Exchange>,
}

impl Held {
    /// Holds nothing yet, for a request or answer of `exchange`.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, exchange: &Rc<Exchange>, what: Holds) -> Self {
        Self { share: Share::new(engine, what), exchange: exchange.clone() }
    }

    /// The exchange that holds the bytes.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// Takes or gives back bytes until `bytes` are held in all. Called before they are buffered.
    ///
    /// # Errors
    ///
    /// As [`Share::hold`].
    pub fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        self.share.hold(bytes)?;
        self.exchange.set_held(self.share.taken);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.exchange.set_held(0);
        self.exchange.set_has_more(false);
    }
}
