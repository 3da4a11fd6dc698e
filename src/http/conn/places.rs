//! Places for the HTTP connections of one thread: which connections hold them, and which are closed when there are too
//! few.
//!
//! Guarantees: however many connections hold places and send little, a new one waits a fraction of a second, not until
//! the others expire. A request that is being answered keeps its place. Requests that may wait long (streams of lines,
//! questions to the application) have at most half of the places; one more is refused at once.

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

/// Time between two checks for connections that are overdue.
pub const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);

/// One thread's places.
pub struct Places {
    engine: Arc<Engine>,
    count: usize,
    /// Whether they are those of the public listeners, which are counted in the statistics.
    is_public: bool,
    /// Requests that wait long. At most half of the places.
    waiting: Cell<usize>,
    free: Semaphore,
    /// The connections that are still HTTP. They expire when they are overdue.
    exchanges: RefCell<Slab<Rc<Exchange>>>,
    /// Held by the one request that may compose a large answer.
    composing: Semaphore,
    /// Notified when a connection becomes idle, for those that wait for a place.
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

/// What a request waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Its next lines. The publisher is authorized.
    Lines,
    /// The application's answer. Any client can cause a question, so questions get at most half of the waiting
    /// requests, and shed no other.
    Question,
}

/// A request's right to wait long. Given back when dropped.
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

/// Keeps an exchange registered until dropped.
pub struct Watched<'a> {
    places: &'a Places,
    key: usize,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.places.exchanges.borrow_mut().remove(self.key);
    }
}

/// Whether a new connection can wait until unfinished requests expire, rather than have an honest connection closed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Patience {
    /// For a short time.
    Some,
    /// No longer.
    None,
}

impl Places {
    /// Makes `count` places, of the public listeners or of the admin listener, whose places are not counted with the
    /// others.
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

    /// Lets the request of `exchange` wait long. If too many wait already, a stream of lines sheds another, the one
    /// that has been silent longest, so that the next request finds room.
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

    /// Counts one more for all threads, unless the limit is reached.
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

    /// Takes a place. If none is free, connections that wait for their peers are shed.
    pub async fn take(self: &Rc<Self>) -> Place {
        if self.free.available_permits() == 0 {
            // The connections that have just been given places are to be counted.
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
                // Dropping these loses nothing: each new connection sheds before it waits.
                () = self.idle.notified() => {}
                // Connections become idle and requests late without a notification.
                () = tokio::time::sleep(FIRST_BYTE_TIME) => {}
            }
            self.shed_one(if Instant::now() < patient_until { Patience::Some } else { Patience::None });
        }
    }

    /// Waits for the turn to compose a large answer. Each takes about a millisecond, and between two of them the thread
    /// delivers events.
    pub async fn turn(&self) -> SemaphorePermit<'_> {
        self.composing.acquire().await.expect("never closed")
    }

    /// Whether all places are free.
    #[must_use]
    pub fn are_free(&self) -> bool {
        self.free.available_permits() == self.count
    }

    /// Requests that have begun and are not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.exchanges.borrow().iter().filter(|(_, exchange)| exchange.is_unanswered()).count()
    }

    /// Registers the exchange of a connection that has a place.
    pub fn watch(&self, exchange: Rc<Exchange>) -> Watched<'_> {
        Watched { places: self, key: self.exchanges.borrow_mut().insert(exchange) }
    }

    /// Called after activity on a connection, which may now be idle.
    pub fn look_at(&self, exchange: &Exchange) {
        if matches!(exchange.holds(), Some((Hold::Nothing | Hold::Idle, ..))) {
            self.idle.notify_waiters();
        }
    }

    /// Closes the connections that only wait for another request.
    pub fn shed_idle(&self) {
        let exchanges = self.exchanges.borrow();
        exchanges.iter().filter(|(_, exchange)| exchange.is_answered()).for_each(|(_, idle)| idle.shed());
    }

    /// Closes one HTTP connection that only waits for its peer, because its place or descriptor is needed. First those
    /// that have sent nothing, then unfinished requests, then the idle, each time the one that has waited longest.
    pub fn shed_one(&self, patience: Patience) {
        let exchanges = self.exchanges.borrow();
        let now = self.engine.clock.now();
        // At most one for each new connection, however often this is called.
        if exchanges.iter().any(|(_, exchange)| exchange.is_leaving(now)) {
            return;
        }
        // O(requests) for a new connection that finds no place.
        let held: Vec<_> = exchanges
            .iter()
            .filter_map(|(_, exchange)| Some((exchange.holds()?, exchange)))
            .filter(|((hold, ..), _)| *hold != Hold::Lines)
            .collect();
        // Only those past their due time: a new connection's request may still be arriving.
        let due = held.iter().filter(|((.., due), _)| *due <= now).min_by_key(|(holds, _)| *holds);
        let Some(((hold, ..), oldest)) = due else { return };
        let soon = held.iter().any(|((hold, ..), _)| *hold < Hold::Idle);
        if *hold == Hold::Idle && soon && patience == Patience::Some {
            return;
        }
        self.engine.stats.shed.add();
        oldest.shed();
    }

    /// Asks the stream of lines that has been silent longest to end, unless another is about to: first those that have
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

    /// Closes connections that hold bytes of the shared budget and only wait for their peer, the longest first, until a
    /// quarter of the budget is free, and a quarter of the part for answers.
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

    /// Closes overdue connections, and those that hold bytes which others were refused, for as long as the thread
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

/// Why `exchange` holds its place, if it has been unfinished or silent for long enough to be shed.
fn useless(exchange: &Exchange, now: Moment) -> Option<(Hold, Moment, Moment)> {
    exchange.holds().filter(|(hold, _, due)| matches!(hold, Hold::Unfinished | Hold::Lines) && *due <= now)
}

/// Returns the output of `future` if it is ready at once. Otherwise the future continues when it is polled again.
pub async fn at_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
