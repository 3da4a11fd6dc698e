//! What hyper, our service and the thread know together about one HTTP connection.
//!
//! Hand-over: when a request is a subscription, the service marks the exchange, and from then on what hyper writes is
//! the response's head. It is kept instead of sent. When hyper flushes, the head is complete: hyper is dropped, and the
//! shard sends the head and the stream's first events with one call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Version};
use tokio::sync::Notify;

use crate::answer::problem::{Code, Problem};
use crate::config::Config;
use crate::engine::Engine;
use crate::http::conn::guard::Guard;
use crate::http::conn::subscription::Subscription;
use crate::types::moment::Moment;

/// How long after it was accepted a connection is not asked to make room for others. An honest request comes with the last
/// packet of the handshake, or right behind it; by the time a crowd has been waited for, it has been there for long. Each of
/// a crowd that says nothing holds a place for so long.
pub const FIRST_BYTE_TIME: Duration = Duration::from_millis(20);

/// How long a request may be unfinished, or its answer unread, before its connection is asked to make room for others. An
/// honest head comes with one packet or a few, and its body behind it; whoever says a word a second holds a place for ten.
pub const UNFINISHED_TIME: Duration = Duration::from_millis(250);

/// How long a stream of lines may be silent before it is asked to make room for another.
pub const SILENT_TIME: Duration = Duration::from_secs(1);

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// Nothing of a (further) request has come.
    Waiting,
    /// Some of a head has come.
    Reading,
    /// The service has the request.
    Handling,
    /// The service has answered; hyper may still be writing.
    Answered,
    /// The answer is written, and nothing of another request has come.
    Idle,
    /// The answer is a stream: its head is being kept.
    Subscribing,
    /// It was refused in the middle of something, and may read why.
    Parting,
}

/// What the service waits for while it has a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaits {
    /// Nothing that is the peer's to give.
    Nothing,
    /// The rest of the body.
    Body,
    /// More lines, after some have been published.
    Lines,
}

/// The body of a request, for as long as nobody has read it to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unread {
    /// There is none.
    Nothing,
    /// It says how long it is.
    Counted,
    /// It comes in chunks.
    Chunked,
}

/// What holds a connection's place, in the order in which places are taken back when there are too few.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hold {
    /// Nothing: no request has ever begun.
    Nothing,
    /// The peer, which has not finished its request or does not take the answer.
    Unfinished,
    /// Nothing, after a request that was answered. Such a connection is a publisher's, more often than not.
    Idle,
    /// A stream of lines that has been of use and is silent. It makes room for what waits as long as it does, not for others.
    Lines,
}

/// Shared by the IO, the service and the driver of one connection. All on one thread.
pub struct Exchange {
    phase: Cell<Phase>,
    pub(super) awaits: Cell<Awaits>,
    unread: Cell<Unread>,
    /// Whether more of a body is to come.
    in_body: Cell<bool>,
    /// Requests that the service has been given. Wraps around.
    handled: Cell<u32>,
    /// The number of the request whose body is wrong, from 1 on, once that has come.
    broken_body: Cell<Option<u32>>,
    /// Whether the answer to the last request ends the connection.
    pub(super) closes: Cell<bool>,
    /// When the connection is given up, if it stays as it is.
    deadline: Cell<Moment>,
    /// Since when it has been as it is; for a stream of lines, since its last line.
    since: Cell<Moment>,
    /// Whether it was given up.
    expired: Cell<bool>,
    /// Bytes it holds of the budget for all.
    held: Cell<usize>,
    /// Whether hyper has not been given all of the answer yet: what it has may be written before it asks for more.
    has_more: Cell<bool>,
    /// Whether it has the right to wait long.
    waits: Cell<bool>,
    /// Whether a stream of lines was asked to come to its end.
    asked: Cell<bool>,
    ask: Notify,
    /// Whether it was refused before the service was asked.
    pub(super) refused: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The response's head.
    pub(super) head: RefCell<Vec<u8>>,
    pub(super) head_complete: Cell<bool>,
    subscription: RefCell<Option<Subscription>>,
    times: Times,
}

/// How long a connection may stay in a phase.
#[derive(Clone, Copy)]
pub struct Times {
    /// The clock.
    pub clock: crate::types::clock::Clock,
    /// Arrival of a head.
    pub request: Duration,
    /// Between requests.
    pub keepalive: Duration,
}

impl Times {
    /// Those that the settings say.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let Config { request_timeout, keepalive_timeout, .. } = engine.config;
        Self { clock: engine.clock, request: request_timeout, keepalive: keepalive_timeout }
    }
}

impl Exchange {
    /// A connection that was just accepted. Its first head has to come as fast as any.
    #[must_use]
    pub fn new(times: Times) -> Rc<Self> {
        let now = times.clock.now();
        Rc::new(Self {
            phase: Cell::new(Phase::Waiting),
            awaits: Cell::new(Awaits::Nothing),
            unread: Cell::new(Unread::Nothing),
            in_body: Cell::new(false),
            handled: Cell::new(0),
            broken_body: Cell::new(None),
            closes: Cell::new(false),
            deadline: Cell::new(now + times.request),
            since: Cell::new(now),
            expired: Cell::new(false),
            held: Cell::new(0),
            has_more: Cell::new(false),
            waits: Cell::new(false),
            asked: Cell::new(false),
            ask: Notify::new(),
            refused: Cell::new(false),
            waker: RefCell::new(None),
            head: RefCell::default(),
            head_complete: Cell::new(false),
            subscription: RefCell::new(None),
            times,
        })
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn enter(&self, phase: Phase, time: Option<Duration>) {
        let now = self.times.clock.now();
        self.phase.set(phase);
        self.since.set(now);
        self.deadline.set(time.map_or(Moment(u64::MAX), |time| now + time));
    }

    /// The service has `request`; how long that takes is its business.
    pub fn handling(&self, request: &Request<Incoming>) {
        self.enter(Phase::Handling, None);
        // What an earlier request was asked is over with it.
        self.asked.set(false);
        self.handled.set(self.handled.get().wrapping_add(1));
        self.closes.set(asks_to_close(request));
        self.unread.set(match request.body().size_hint().exact() {
            Some(0) => Unread::Nothing,
            Some(_) => Unread::Counted,
            None => Unread::Chunked,
        });
    }

    /// The service has read the request's body to its end.
    pub fn has_read(&self) {
        self.unread.set(Unread::Nothing);
    }

    /// Whether the connection ends with the answer because of a body that nobody read. hyper passes over what has come whole
    /// and said how long it is; of anything else it reads no more.
    #[must_use]
    pub fn leaves_body(&self) -> bool {
        match self.unread.get() {
            Unread::Nothing => false,
            Unread::Counted => self.in_body.get(),
            Unread::Chunked => true,
        }
    }

    /// Looks at what has come of the body of the request in hand. A body that is broken is refused whatever the request asks
    /// for, and whether or not anyone would have read it.
    ///
    /// # Errors
    ///
    /// [`Code::RequestMalformed`].
    pub fn check_body(&self) -> Result<(), Problem> {
        if self.has_broken_body() { Err(Code::RequestMalformed.into()) } else { Ok(()) }
    }

    pub(super) fn has_broken_body(&self) -> bool {
        self.broken_body.get() == Some(self.handled.get())
    }

    /// The answer to the request in hand is the last one. Nothing may follow it, whatever still comes.
    pub fn closes(&self) {
        self.closes.set(true);
    }

    /// What the service waits for from now on.
    pub fn awaits(&self, what: Awaits) {
        self.awaits.set(what);
    }

    /// It holds `bytes` of the budget for all.
    pub fn set_held(&self, bytes: usize) {
        self.held.set(bytes);
    }

    /// Whether hyper is still to be given some of the answer.
    pub fn set_has_more(&self, has_more: bool) {
        self.has_more.set(has_more);
    }

    /// Bytes it holds of the budget for all.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// A stream of lines has been of use again.
    pub fn took_lines(&self) {
        self.since.set(self.times.clock.now());
    }

    /// Ready when a stream of lines is to come to its end, because its place is needed. Loses nothing if dropped.
    pub async fn asked_to_end(&self) {
        // A permit may be left of a request that ended in the moment it was asked to.
        while !self.asked.get() {
            self.ask.notified().await;
        }
    }

    /// It has the right to wait long, or not any more.
    pub fn set_waits(&self, waits: bool) {
        self.waits.set(waits);
    }

    /// Whether it has the right to wait long.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits.get()
    }

    /// The peer was refused and may still be talking. It gets `time` to read why.
    pub fn part(&self, time: Duration) {
        self.spare();
        self.enter(Phase::Parting, Some(time));
    }

    /// The service has answered.
    pub fn answered(&self) {
        if self.phase.get() == Phase::Handling {
            self.enter(Phase::Answered, Some(self.times.keepalive));
        }
    }

    /// More bytes have come, and `guard` has seen them. What comes while a request is with the service or its answer is
    /// being written is that request's body, or waits for the answer.
    pub(super) fn came(&self, guard: &Guard) {
        self.in_body.set(guard.is_in_body());
        self.broken_body.set(guard.broken_body());
        match self.phase.get() {
            // The first head has been expected since the connection was accepted.
            Phase::Waiting => self.phase.set(Phase::Reading),
            Phase::Idle if guard.is_in_head() => self.enter(Phase::Reading, Some(self.times.request)),
            _ => {}
        }
    }

    /// The peer has taken some of the answer, and is given time for the next of it.
    pub(super) fn taken(&self) {
        if self.phase.get() == Phase::Answered {
            self.deadline.set(self.times.clock.now() + self.times.keepalive);
        }
    }

    /// All that hyper had to write is written. `guard` may have seen some of the next request.
    pub(super) fn flushed(&self, guard: &Guard) {
        if self.phase.get() != Phase::Answered {
            return;
        }
        if self.has_more.get() {
            return self.taken();
        }
        if guard.is_in_head() {
            self.enter(Phase::Reading, Some(self.times.request));
        } else {
            self.enter(Phase::Idle, Some(self.times.keepalive));
        }
        if guard.is_broken() {
            // hyper is to ask for what comes next, and to be told.
            self.wake();
        }
    }

    /// The answer is a stream.
    pub fn subscribe(&self, subscription: Subscription) {
        *self.subscription.borrow_mut() = Some(subscription);
        self.enter(Phase::Subscribing, Some(self.times.request));
    }

    /// Whether the connection can be handed over.
    #[must_use]
    pub fn is_head_complete(&self) -> bool {
        self.head_complete.get()
    }

    /// What to hand over, once the head is complete.
    #[must_use]
    pub fn take_subscription(&self) -> Option<(Subscription, Bytes)> {
        let subscription = self.head_complete.get().then(|| self.subscription.borrow_mut().take())??;
        Some((subscription, Bytes::from(self.head.take())))
    }

    /// Gives the connection up if its time is over. Called from the thread's round.
    pub fn expire(&self, now: Moment) {
        if self.is_overdue(now) && !self.expired.replace(true) {
            self.wake();
        }
    }

    /// What holds its place, since when, and until when it is not asked to make room: a crowd that comes at once must not
    /// drive each other out. `None` if it cannot be asked.
    #[must_use]
    pub fn holds(&self) -> Option<(Hold, Moment, Moment)> {
        let (hold, time) = match (self.phase.get(), self.awaits.get()) {
            (Phase::Waiting, _) => (Hold::Nothing, FIRST_BYTE_TIME),
            // It was told, and has had its time.
            (Phase::Idle | Phase::Parting, _) if self.asked.get() => (Hold::Nothing, Duration::ZERO),
            (Phase::Idle, _) => (Hold::Idle, Duration::ZERO),
            (Phase::Reading | Phase::Answered | Phase::Parting, _) | (Phase::Handling, Awaits::Body) => {
                (Hold::Unfinished, UNFINISHED_TIME)
            }
            (Phase::Handling, Awaits::Lines) if !self.asked.get() => (Hold::Lines, SILENT_TIME),
            (Phase::Handling | Phase::Subscribing, _) => return None,
        };
        let since = self.since.get();
        (!self.expired.get()).then_some((hold, since, since + time))
    }

    /// Whether its place is about to be free.
    #[must_use]
    pub fn is_leaving(&self, now: Moment) -> bool {
        let is_told = match self.phase.get() {
            Phase::Handling => true,
            // Unless it does not take the answer.
            Phase::Answered => now < self.since.get() + UNFINISHED_TIME,
            _ => false,
        };
        self.expired.get() || (self.asked.get() && is_told)
    }

    /// Gives the connection up because its descriptor is needed. A stream of lines is asked to end, and answered how far
    /// it got.
    pub fn shed(&self) {
        if self.phase.get() == Phase::Handling && self.awaits.get() == Awaits::Lines {
            self.asked.set(true);
            self.ask.notify_one();
        } else {
            self.expired.set(true);
            self.wake();
        }
    }

    /// Whether its time is over, which is one reason to give it up.
    #[must_use]
    pub fn is_overdue(&self, now: Moment) -> bool {
        now >= self.deadline.get()
    }

    /// Takes that back: something has come after all.
    pub fn spare(&self) {
        self.expired.set(false);
    }

    /// Whether its last request is answered, and nothing of another has come.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// Whether a request has begun, and its answer is not written yet.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        !matches!(self.phase.get(), Phase::Waiting | Phase::Idle | Phase::Parting)
    }

    /// Whether the peer was refused before there was a request that the service could have counted.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether the connection was given up; if not, `cx` is woken when it is.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.expired.get()
    }
}

/// Whether a client wants no other answer on its connection (RFC 9112 §9.3).
fn asks_to_close(request: &Request<Incoming>) -> bool {
    let lines = request.headers().get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    let mut words = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if request.version() < Version::HTTP_11 {
        return !words.any(|word| word.eq_ignore_ascii_case(b"keep-alive"));
    }
    words.any(|word| word.eq_ignore_ascii_case(b"close"))
}
