//! The bytes that one body or answer holds of the shared budget ([`Buffers`](crate::engine::buffers::Buffers)).

use std::rc::Rc;
use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::{FREE_BYTES, Holds};
use crate::http::conn::exchange::Exchange;
use crate::hub::memory_level::MemoryLevel;

/// The bytes that one body or answer has taken of the shared budget. Given back when dropped.
pub struct Held {
    engine: Arc<Engine>,
    exchange: Rc<Exchange>,
    what: Holds,
    /// Bytes beyond [`FREE_BYTES`].
    taken: usize,
}

impl Held {
    /// Holds nothing yet, for a request or answer of `exchange`.
    #[must_use]
    pub fn new(engine: &Arc<Engine>, exchange: &Rc<Exchange>, what: Holds) -> Self {
        Self { engine: engine.clone(), exchange: exchange.clone(), what, taken: 0 }
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
        self.exchange.set_held(wanted);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.engine.buffers.give(self.what, self.taken);
        self.exchange.set_held(0);
        self.exchange.set_has_more(false);
    }
}
