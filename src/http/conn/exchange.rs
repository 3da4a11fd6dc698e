//! The state of one HTTP connection, shared by hyper's IO, the service and the thread.
//!
//! Hand-over: when a request is a subscription, the service marks the exchange, and from then on hyper writes the
//! response's head. It is kept instead of sent. When hyper flushes, the head is complete: hyper is dropped, and the
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

/// How long after it was accepted a connection is not shed. An honest request comes with the last packet of the
/// handshake, or right behind it; when a connection has waited behind a crowd, its request is already there. Each
/// silent connection of a crowd holds a place for this long.
pub const FIRST_BYTE_TIME: Duration = Duration::from_millis(20);

/// How long a request may be unfinished, or its answer unread, before its connection may be shed. An honest head comes
/// with one packet or a few, and its body right behind it; a client that sends a word a second would hold a place for
/// ten seconds.
pub const UNFINISHED_TIME: Duration = Duration::from_millis(250);

/// How long a stream of lines may be silent before it may be shed.
pub const SILENT_TIME: Duration = Duration::from_secs(1);

/// The phase of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// No byte of a (further) request has come.
    Waiting,
    /// Part of a head has come.
    Reading,
    /// The service has the request.
    Handling,
    /// The service has answered; hyper may still be writing.
    Answered,
    /// The answer is written, and no byte of another request has come.
    Idle,
    /// The answer is a stream: its head is kept.
    Subscribing,
    /// The peer was refused before it had sent everything, and gets time to read the answer.
    Parting,
}

/// What the service waits for while it handles a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Awaits {
    /// Nothing from the peer.
    Nothing,
    /// The rest of the body.
    Body,
    /// More lines, after some have been published.
    Lines,
}

/// The unread body of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unread {
    /// No body, or it was read to its end.
    Nothing,
    /// The head says how long it is.
    Counted,
    /// It comes in chunks.
    Chunked,
}

/// Why a connection holds its place, in the order in which places are taken back when there are too few.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Hold {
    /// No request has ever begun.
    Nothing,
    /// The peer has not finished its request, or does not read the answer.
    Unfinished,
    /// The last request was answered. Most such connections belong to publishers.
    Idle,
    /// A stream of lines that has published some and is silent. It is shed only for another request that waits long.
    Lines,
}

/// Shared by the IO, the service and the driver of one connection, all on one thread.
pub struct Exchange {
    phase: Cell<Phase>,
    pub(super) awaits: Cell<Awaits>,
    unread: Cell<Unread>,
    /// Whether more of a body is to come.
    in_body: Cell<bool>,
    /// Requests given to the service. Wraps around.
    handled: Cell<u32>,
    /// The number of the request whose body is wrong, from 1 on, once that part of it has come.
    broken_body: Cell<Option<u32>>,
    /// Whether the answer to the last request ends the connection.
    pub(super) closes: Cell<bool>,
    /// When the connection expires, unless its phase changes.
    deadline: Cell<Moment>,
    /// When the phase began; for a stream of lines, when its last line came.
    since: Cell<Moment>,
    /// Whether the connection is to be closed: overdue, or shed.
    expired: Cell<bool>,
    /// Bytes it holds of the shared budget.
    held: Cell<usize>,
    /// Whether hyper has not been given the whole answer yet: it may have written all it has and not yet asked for
    /// more.
    has_more: Cell<bool>,
    /// Whether it has the right to wait long.
    waits: Cell<bool>,
    /// Whether it was asked to end, as a stream of lines.
    asked: Cell<bool>,
    ask: Notify,
    /// Whether it was refused before the service had the request.
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
    /// For a head to arrive.
    pub request: Duration,
    /// Between requests.
    pub keepalive: Duration,
}

impl Times {
    /// The times that the settings say.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let Config { request_timeout, keepalive_timeout, .. } = engine.config;
        Self { clock: engine.clock, request: request_timeout, keepalive: keepalive_timeout }
    }
}

impl Exchange {
    /// A connection that was just accepted. Its first head has the same time as later ones.
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

    /// Its phase.
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

    /// The service has `request`, and may take any time.
    pub fn handling(&self, request: &Request<Incoming>) {
        self.enter(Phase::Handling, None);
        // A request to end applies to one request only.
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

    /// Whether the connection ends with the answer because its body was not read. hyper discards a body that has come
    /// whole and has a declared length; it reads no more of any other.
    #[must_use]
    pub fn leaves_body(&self) -> bool {
        match self.unread.get() {
            Unread::Nothing => false,
            Unread::Counted => self.in_body.get(),
            Unread::Chunked => true,
        }
    }

    /// Checks what has come of the current request's body. A broken body is refused whatever the request asks for, even
    /// if the body would not be read.
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

    /// The answer to the current request is the last one, whatever else the peer sends.
    pub fn closes(&self) {
        self.closes.set(true);
    }

    /// What the service waits for from now on.
    pub fn awaits(&self, what: Awaits) {
        self.awaits.set(what);
    }

    /// It holds `bytes` of the shared budget.
    pub fn set_held(&self, bytes: usize) {
        self.held.set(bytes);
    }

    /// Sets whether hyper still has to be given part of the answer.
    pub fn set_has_more(&self, has_more: bool) {
        self.has_more.set(has_more);
    }

    /// Bytes it holds of the shared budget.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.get()
    }

    /// A stream of lines has published more.
    pub fn took_lines(&self) {
        self.since.set(self.times.clock.now());
    }

    /// Completes when the stream of lines has to end because its place is needed. Cancel safe.
    pub async fn asked_to_end(&self) {
        // A permit may be left from a request that ended just as it was asked to.
        while !self.asked.get() {
            self.ask.notified().await;
        }
    }

    /// Sets whether it has the right to wait long.
    pub fn set_waits(&self, waits: bool) {
        self.waits.set(waits);
    }

    /// Whether it has the right to wait long.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waits.get()
    }

    /// The peer was refused and may still be sending. It gets `time` to read the answer.
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

    /// More bytes have come, and `guard` has checked them. Bytes that come while a request is with the service or its
    /// answer is being written belong to that request's body, or wait for the answer.
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

    /// The peer has taken part of the answer, and gets time for the next part.
    pub(super) fn taken(&self) {
        if self.phase.get() == Phase::Answered {
            self.deadline.set(self.times.clock.now() + self.times.keepalive);
        }
    }

    /// hyper has written all it had. `guard` may have seen part of the next request.
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
            // hyper has to read next, and gets the error.
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

    /// The subscription and the head, once the head is complete.
    #[must_use]
    pub fn take_subscription(&self) -> Option<(Subscription, Bytes)> {
        let subscription = self.head_complete.get().then(|| self.subscription.borrow_mut().take())??;
        Some((subscription, Bytes::from(self.head.take())))
    }

    /// Marks the connection as expired if it is overdue. Called regularly by its thread.
    pub fn expire(&self, now: Moment) {
        if self.is_overdue(now) && !self.expired.replace(true) {
            self.wake();
        }
    }

    /// Why it holds its place, since when, and until when it is not shed: connections that arrive together must not
    /// shed each other. `None` if it cannot be shed.
    #[must_use]
    pub fn holds(&self) -> Option<(Hold, Moment, Moment)> {
        let (hold, time) = match (self.phase.get(), self.awaits.get()) {
            (Phase::Waiting, _) => (Hold::Nothing, FIRST_BYTE_TIME),
            // It was asked to end, and has had its time.
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

    /// Whether its place will soon be free.
    #[must_use]
    pub fn is_leaving(&self, now: Moment) -> bool {
        let is_told = match self.phase.get() {
            Phase::Handling => true,
            // Unless the peer does not read the answer.
            Phase::Answered => now < self.since.get() + UNFINISHED_TIME,
            _ => false,
        };
        self.expired.get() || (self.asked.get() && is_told)
    }

    /// Closes the connection because its place or descriptor is needed. A stream of lines is asked to end instead, and
    /// its answer says how far it got.
    pub fn shed(&self) {
        if self.phase.get() == Phase::Handling && self.awaits.get() == Awaits::Lines {
            self.asked.set(true);
            self.ask.notify_one();
        } else {
            self.expired.set(true);
            self.wake();
        }
    }

    /// Whether its phase has lasted too long.
    #[must_use]
    pub fn is_overdue(&self, now: Moment) -> bool {
        now >= self.deadline.get()
    }

    /// Undoes the expiry: bytes have come after all.
    pub fn spare(&self) {
        self.expired.set(false);
    }

    /// Whether its last request is answered, and no byte of another has come.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// Whether a request has begun and its answer is not written yet.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        !matches!(self.phase.get(), Phase::Waiting | Phase::Idle | Phase::Parting)
    }

    /// Whether the peer was refused before the service had a request to count.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether the connection has expired; if not, `cx` is woken when it does.
    pub fn poll_expired(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.expired.get()
    }
}

/// Whether the client asks to close the connection after the answer (RFC 9112 §9.3).
fn asks_to_close(request: &Request<Incoming>) -> bool {
    let lines = request.headers().get_all(CONNECTION).iter().map(HeaderValue::as_bytes);
    let mut words = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if request.version() < Version::HTTP_11 {
        return !words.any(|word| word.eq_ignore_ascii_case(b"keep-alive"));
    }
    words.any(|word| word.eq_ignore_ascii_case(b"close"))
}
