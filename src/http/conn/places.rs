//! Places for connections that speak HTTP, on one thread: who holds them, and who gives one back when there are too few.
//!
//! Guarantees: however many hold places by saying little, newcomers wait a fraction of a second, not for the others' time to
//! be over. A request that is being answered keeps its place. What may wait long (streams of lines, questions to the
//! application) has at most half of the places; one more is refused at once.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use slab::Slab;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::http::conn::exchange::{Exchange, FIRST_BYTE_TIME, Hold, Phase, UNFINISHED_TIME};
use crate::types::moment::Moment;

/// Time between two looks at connections whose time may be over.
pub const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// One thread's places.
pub struct Places {
    engine: Arc<Engine>,
    count: usize,
    /// Whether they are those of the public listeners, which are counted.
    is_public: bool,
    /// Requests that wait long. No more than half of the places.
    waiting: Cell<usize>,
    free: Semaphore,
    /// Connections that are still HTTP, to be given up when their time is over.
    exchanges: RefCell<Slab<Rc<Exchange>>>,
    /// For the one request that may compose a large answer.
    composing: Semaphore,
    /// Tells those who wait for a place that a connection has nothing to do.
    idle: Notify,
}

/// A place for one connection, given back when dropped.
pub struct Place(Rc<Places>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.free.add_permits(1);
        if self.0.is_public {
            self.0.engine.stats.requests.fall();
        }
    }
}

/// What a request waits long for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// The next of its lines. Its publisher was let in.
    Lines,
    /// The application's answer. Anyone can have it asked, so these have half of what may wait at most, and end nobody else's.
    Question,
}

/// A request's right to wait long, given back when dropped.
pub struct Waiting {
    places: Rc<Places>,
    exchange: Rc<Exchange>,
    what: Wait,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.exchange.set_waits(false);
        self.places.waiting.set(self.places.waiting.get() - 1);
        let stats = &self.places.engine.stats;
        stats.waiting.fall();
        if self.what == Wait::Question {
            stats.questions.fall();
        }
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
    /// `count` places, of a public listener or of the admin listener, whose are not counted with the others.
    #[must_use]
    pub fn new(engine: Arc<Engine>, count: usize, is_public: bool) -> Rc<Self> {
        Rc::new(Self {
            engine,
            count,
            is_public,
            waiting: Cell::new(0),
            free: Semaphore::new(count),
            composing: Semaphore::new(1),
            exchanges: RefCell::default(),
            idle: Notify::new(),
        })
    }

    /// Lets the request of `exchange` wait long. If as many do as may, a stream of lines asks the one that has been of no use
    /// longest to end, for the next to find room.
    ///
    /// # Errors
    ///
    /// [`Code::WaitingFull`].
    pub fn wait(self: &Rc<Self>, exchange: &Rc<Exchange>, what: Wait) -> Result<Waiting, Problem> {
        if self.waiting.get() >= self.count / 2 || !self.count_waiting(what) {
            if what == Wait::Lines {
                self.shed_lines();
            }
            return Err(Code::WaitingFull.into());
        }
        self.waiting.set(self.waiting.get() + 1);
        exchange.set_waits(true);
        Ok(Waiting { places: self.clone(), exchange: exchange.clone(), what })
    }

    /// Counts one more for all threads, if it may be.
    fn count_waiting(&self, what: Wait) -> bool {
        let (stats, max) = (&self.engine.stats, self.engine.config.max_waiting_requests);
        let is_question = what == Wait::Question;
        if is_question && !stats.questions.rise_to(max.div_ceil(2)) {
            return false;
        }
        let counted = stats.waiting.rise_to(max);
        if !counted && is_question {
            stats.questions.fall();
        }
        counted
    }

    /// What all threads share.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
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
                    if self.is_public {
                        self.engine.stats.requests.rise();
                    }
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

    /// Waits for a turn to compose a large answer. Each takes a millisecond or so, and between two of them the thread delivers.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.composing.acquire().await.expect("never closed")
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
        let now = self.engine.clock.now();
        // One for each newcomer, not one for each look.
        if exchanges.iter().any(|(_, exchange)| exchange.is_leaving(now)) {
            return;
        }
        // O(requests) for a newcomer that finds no place.
        let held: Vec<_> = exchanges
            .iter()
            .filter_map(|(_, exchange)| Some((exchange.holds()?, exchange)))
            .filter(|((hold, ..), _)| *hold != Hold::Lines)
            .collect();
        // Not just any: a newcomer's request may be on its way.
        let due = held.iter().filter(|((.., due), _)| *due <= now).min_by_key(|(holds, _)| *holds);
        let Some(((hold, ..), oldest)) = due else { return };
        let soon = held.iter().any(|((hold, ..), _)| *hold < Hold::Idle);
        if *hold == Hold::Idle && soon && patience == Patience::Some {
            return;
        }
        self.engine.stats.shed.add();
        oldest.shed();
    }

    /// Asks the stream of lines that has been of no use longest to end, unless one is about to: first those that have
    /// published nothing.
    fn shed_lines(&self) {
        let now = self.engine.clock.now();
        let exchanges = self.exchanges.borrow();
        let waiting = || exchanges.iter().map(|(_, exchange)| exchange).filter(|exchange| exchange.waits());
        if waiting().any(|exchange| exchange.is_leaving(now)) {
            return;
        }
        let held = waiting().filter_map(|exchange| Some((useless(exchange, now)?, exchange)));
        if let Some((_, oldest)) = held.min_by_key(|(holds, _)| *holds) {
            self.engine.stats.shed.add();
            oldest.shed();
        }
    }

    /// Gives up those that hold bytes of the budget for all and wait for nothing but their peer, the longest first, until a
    /// quarter of the budget is free, and of what answers may hold of it.
    fn shed_holders(&self) {
        let now = self.engine.clock.now();
        let exchanges = self.exchanges.borrow();
        let holders = exchanges.iter().map(|(_, exchange)| exchange).filter(|exchange| exchange.held() > 0);
        let mut held: Vec<_> =
            holders.filter_map(|exchange| Some((useless(exchange, now)?, exchange))).collect();
        held.sort_unstable_by_key(|(holds, _)| *holds);
        let (mut wanted, mut of_answers) = self.engine.buffers.crowded();
        for (_, exchange) in held {
            let is_answer = exchange.phase() == Phase::Answered;
            if wanted == 0 && (of_answers == 0 || !is_answer) {
                continue;
            }
            wanted = wanted.saturating_sub(exchange.held());
            if is_answer {
                of_answers = of_answers.saturating_sub(exchange.held());
            }
            self.engine.stats.shed.add();
            exchange.shed();
        }
    }

    /// Gives up connections whose time is over, and those that hold bytes which others were refused, for as long as the thread
    /// lives.
    pub async fn expire(&self) -> Infallible {
        let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refused = 0;
        loop {
            interval.tick().await;
            if std::mem::replace(&mut refused, self.engine.buffers.refused()) < self.engine.buffers.refused()
            {
                self.shed_holders();
            }
            let now = self.engine.clock.now();
            self.exchanges.borrow().iter().for_each(|(_, exchange)| exchange.expire(now));
        }
    }
}

/// What holds the place of `exchange`, if it has been unfinished or silent for long enough to be asked to make room.
fn useless(exchange: &Exchange, now: Moment) -> Option<(Hold, Moment, Moment)> {
    exchange.holds().filter(|(hold, _, due)| matches!(hold, Hold::Unfinished | Hold::Lines) && *due <= now)
}

/// What `future` comes to if it does not have to wait. Else it goes on where it is polled next.
pub async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
