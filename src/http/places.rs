//! Places for connections that speak HTTP, on one thread: who holds them, and who gives one back when there are too few.
//!
//! Guarantees: however many hold places by saying little, newcomers wait a fraction of a second, not for the others' time to
//! be over. A request that is being answered keeps its place.

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::context::Shared;
use super::exchange::{Exchange, FIRST_BYTE_TIME, Hold, UNFINISHED_TIME};

/// Time between two looks at connections whose time may be over.
pub const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// One thread's places.
pub struct Places {
    shared: Arc<Shared>,
    count: usize,
    free: Semaphore,
    /// Connections that are still HTTP, to be given up when their time is over.
    exchanges: RefCell<Slab<Rc<Exchange>>>,
    /// Tells those who wait for a place that a connection has nothing to do.
    idle: Notify,
}

/// A place for one connection, given back when dropped.
pub struct Place(Rc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
    }
}

/// An exchange that is looked after, until this is dropped.
pub struct Watched<'a> {
    places: &'a Places,
    key: usize,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.places.exchanges.borrow_mut().remove(self.key);
    }
}

/// Whether a newcomer can wait for half a request's time to be over, rather than have an honest connection closed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Patience {
    /// For a moment.
    Some,
    /// No longer.
    None,
}

impl Places {
    /// `count` places.
    #[must_use]
    pub fn new(shared: Arc<Shared>, count: usize) -> Rc<Self> {
        let free = Semaphore::new(count);
        Rc::new(Self { shared, count, free, exchanges: RefCell::default(), idle: Notify::new() })
    }

    /// What all threads share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A place, for which connections that wait for their peers make room if need be, as soon as there are any.
    pub async fn take(self: &Rc<Self>) -> Place {
        if self.free.available_permits() == 0 {
            // Those that have just been given theirs are to be seen.
            tokio::task::yield_now().await;
            self.shed_one(Patience::Some);
        }
        let patient_until = Instant::now() + UNFINISHED_TIME;
        let mut permit = pin!(self.free.acquire());
        loop {
            tokio::select! {
                biased;
                permit = &mut permit => {
                    permit.expect("never closed").forget();
                    return Place(self.clone());
                }
                // Nothing is lost if these are dropped: whoever comes next sheds before it waits.
                () = self.idle.notified() => {}
                // Newcomers become idle, and requests late, by doing nothing, of which nobody tells.
                () = tokio::time::sleep(FIRST_BYTE_TIME) => {}
            }
            self.shed_one(if Instant::now() < patient_until { Patience::Some } else { Patience::None });
        }
    }

    /// Whether nobody holds any.
    #[must_use]
    pub fn are_free(&self) -> bool {
        self.free.available_permits() == self.count
    }

    /// Requests that were begun and are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.exchanges.borrow().iter().filter(|(_, exchange)| exchange.is_unanswered()).count()
    }

    /// Looks after the exchange of a connection that has a place.
    pub fn watch(&self, exchange: Rc<Exchange>) -> Watched<'_> {
        Watched { places: self, key: self.exchanges.borrow_mut().insert(exchange) }
    }

    /// Something has happened on a connection, which may have nothing to do now.
    pub fn look_at(&self, exchange: &Exchange) {
        if matches!(exchange.holds(), Some((Hold::Nothing | Hold::Idle, ..))) {
            self.idle.notify_waiters();
        }
    }

    /// Gives up the connections that only wait for another request.
    pub fn shed_idle(&self) {
        let exchanges = self.exchanges.borrow();
        exchanges.iter().filter(|(_, exchange)| exchange.is_answered()).for_each(|(_, idle)| idle.shed());
    }

    /// Closes an HTTP connection that only waits for its peer: someone needs its descriptor. Those first that have not said
    /// a word, then those with half a request, then the idle, each time the one that has waited longest.
    pub fn shed_one(&self, patience: Patience) {
        let exchanges = self.exchanges.borrow();
        let now = self.shared.clock.now();
        // One for each newcomer, not one for each look.
        if exchanges.iter().any(|(_, exchange)| exchange.is_leaving(now)) {
            return;
        }
        // O(requests), which are at most 512 a shard.
        let held: Vec<_> =
            exchanges.iter().filter_map(|(_, exchange)| Some((exchange.holds()?, exchange))).collect();
        // Not just any: a newcomer's request may be on its way.
        let due = held.iter().filter(|((.., due), _)| *due <= now).min_by_key(|(holds, _)| *holds);
        let Some(((hold, ..), oldest)) = due else { return };
        let soon = held.iter().any(|((hold, ..), _)| *hold < Hold::Idle);
        if *hold >= Hold::Idle && soon && patience == Patience::Some {
            return;
        }
        self.shared.stats.shed.add();
        oldest.shed();
    }

    /// Gives up connections whose time is over, for as long as the thread lives.
    pub async fn expire(&self) -> Infallible {
        let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let now = self.shared.clock.now();
            self.exchanges.borrow().iter().for_each(|(_, exchange)| exchange.expire(now));
        }
    }
}
