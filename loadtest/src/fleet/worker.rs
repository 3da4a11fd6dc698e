//! One thread of listeners: opens them at a pace, reads them until told to stop.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::conn::{Listener, Standing, connect};
use super::{Done, Plan, RESUMED, Shared, Tally};
use crate::clock::Clock;
use crate::track::Order;
use crate::wire::events::Seen;
use crate::wire::stream::OnGzip;

pub(super) struct Worker {
    plan: Arc<Plan>,
    clock: Clock,
    shared: Arc<Shared>,
    poll: Poll,
    /// This thread has the connections `thread`, `thread + threads`, ...
    thread: usize,
    total: usize,
    listeners: Vec<Listener>,
    opening: usize,
    tally: Tally,
    /// Deliveries not yet added to `shared`.
    unreported: u64,
    record_from_ns: u64,
    is_resumed: bool,
}

/// What one read meant for its listener.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Outcome {
    has_connected: bool,
    is_malformed: bool,
}

impl Worker {
    pub(super) fn new(
        plan: &Arc<Plan>,
        clock: Clock,
        shared: &Arc<Shared>,
        thread: usize,
    ) -> io::Result<Self> {
        let threads = plan.settings.threads;
        let total = (plan.settings.connections + threads - 1 - thread) / threads;
        Ok(Self {
            plan: Arc::clone(plan),
            clock,
            shared: Arc::clone(shared),
            poll: Poll::new()?,
            thread,
            total,
            listeners: Vec::with_capacity(total),
            opening: 0,
            tally: Tally::default(),
            unreported: 0,
            record_from_ns: u64::MAX,
            is_resumed: false,
        })
    }

    pub(super) fn run(mut self) -> io::Result<Done> {
        let mut ready = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let start_ns = self.clock.now_ns();
        while !self.shared.is_stopped.load(Ordering::Acquire) {
            let is_opening = self.listeners.len() < self.total;
            if is_opening {
                self.open_due(start_ns);
            }
            let timeout = if is_opening { OPENING_TICK } else { STEADY_TICK };
            match self.poll.poll(&mut ready, Some(timeout)) {
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            self.record_from_ns = self.shared.record_from_ns.load(Ordering::Acquire);
            for event in &ready {
                let key = event.token().0;
                if self.listeners[key].has_request {
                    self.send_request(key);
                }
                self.read(key, event.is_read_closed() || event.is_error(), &mut buffer);
            }
            self.report_deliveries();
            self.resume_stuck()?;
        }
        for listener in &mut self.listeners {
            listener.close();
        }
        Ok(Done { tally: self.tally, listeners: self.listeners })
    }

    /// Opens what the pace and the bound on connections under way allow.
    fn open_due(&mut self, start_ns: u64) {
        let settings = &self.plan.settings;
        let threads = settings.threads as u64;
        let in_flight_max = settings.in_flight_max.div_ceil(settings.threads);
        let elapsed_ns = self.clock.now_ns() - start_ns;
        let due = elapsed_ns.saturating_mul(u64::from(settings.open_rate_per_s)) / (1_000_000_000 * threads);
        let due = usize::try_from(due).unwrap_or(usize::MAX).saturating_add(1).min(self.total);
        while self.listeners.len() < due && self.opening < in_flight_max {
            self.open();
        }
    }

    fn open(&mut self) {
        let settings = &self.plan.settings;
        let key = self.listeners.len();
        let index = self.thread + key * settings.threads;
        let is_stuck = index < settings.stuck;
        let opened_ns = self.clock.now_ns();
        // A sample is enough to know the bytes; inflating everything would measure this process.
        let on_gzip = if key < INFLATED { OnGzip::Inflate } else { OnGzip::Count };
        match connect(self.plan.addr, index, is_stuck) {
            Ok(socket) => {
                let mut listener = Listener::new(index, socket, on_gzip, opened_ns);
                listener.is_stuck = is_stuck;
                self.listeners.push(listener);
                self.opening += 1;
                self.send_request(key);
                if self.register(key).is_err() {
                    self.end(key, true);
                }
            }
            Err(err) => {
                self.tally.error(|| format!("connect: {err}"));
                self.shared.failed.fetch_add(1, Ordering::AcqRel);
                // One listener fewer; a run with a failure is judged failed anyway.
                self.total -= 1;
            }
        }
    }

    fn register(&mut self, key: usize) -> io::Result<()> {
        let listener = &mut self.listeners[key];
        let interest =
            if listener.has_request { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match &mut listener.socket {
            Some(socket) => self.poll.registry().register(socket, Token(key), interest),
            None => Ok(()),
        }
    }

    /// Sends the request; on loopback this works right after connect(2) returned.
    fn send_request(&mut self, key: usize) {
        let listener = &mut self.listeners[key];
        let Some(socket) = &mut listener.socket else {
            return;
        };
        let request = self.plan.request(listener.index);
        match socket.write(request.as_bytes()) {
            Ok(len) if len == request.len() => listener.has_request = false,
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
            result => {
                self.tally.error(|| format!("request: {result:?}"));
                self.end(key, true);
            }
        }
    }

    /// Reads what is there. A read that does not fill the buffer has emptied the socket; what comes later is a new
    /// edge. That saves a second read for nearly every event.
    fn read(&mut self, key: usize, is_closed: bool, buffer: &mut [u8]) {
        loop {
            let listener = &mut self.listeners[key];
            let Some(socket) = &mut listener.socket else {
                return;
            };
            match socket.read(buffer) {
                Ok(0) => return self.end(key, false),
                Ok(len) => {
                    self.take_in(key, &buffer[..len]);
                    if len < buffer.len() && !is_closed {
                        return;
                    }
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => {
                    self.tally.error(|| format!("read: {err}"));
                    return self.end(key, true);
                }
            }
        }
    }

    fn take_in(&mut self, key: usize, bytes: &[u8]) {
        let now_ns = self.clock.now_ns();
        let outcome = self.check(key, bytes, now_ns);
        if outcome.has_connected && self.listeners[key].standing == Standing::Opening {
            self.connected(key, now_ns);
        }
        if outcome.is_malformed {
            self.tally.malformed += 1;
            self.end(key, true);
        }
    }

    /// Judges every event in `bytes`.
    fn check(&mut self, key: usize, bytes: &[u8], now_ns: u64) -> Outcome {
        let Self { listeners, tally, plan, record_from_ns, unreported, .. } = self;
        let Listener { stream, track, is_stuck, .. } = &mut listeners[key];
        let mut outcome = Outcome::default();
        let fed = stream.feed(bytes, &mut |seen| match seen {
            Seen::Stamped(stamp) => {
                *unreported += 1;
                tally.deliveries += 1;
                match track.see(stamp.seq) {
                    Order::InOrder | Order::Skipped => {}
                    Order::Reordered => tally.reordered += 1,
                    Order::Duplicate => tally.duplicated += 1,
                }
                if stamp.data_bytes as usize != plan.settings.bytes {
                    tally.damaged += 1;
                }
                if stamp.published_ns >= *record_from_ns && !*is_stuck {
                    tally.latency.saturating_record(now_ns.saturating_sub(stamp.published_ns));
                }
            }
            Seen::Connected => outcome.has_connected = true,
            Seen::Gap if *is_stuck => tally.gaps_stuck += 1,
            Seen::Gap => tally.gaps += 1,
            Seen::Overload => tally.refused += 1,
            Seen::Closing => tally.closing += 1,
            Seen::Other => tally.foreign += 1,
        });
        outcome.has_connected |= plan.is_head_connected && stream.is_open();
        if let Err(err) = fed {
            tally.error(|| err.to_string());
            outcome.is_malformed = true;
        }
        outcome
    }

    fn connected(&mut self, key: usize, now_ns: u64) {
        let listener = &mut self.listeners[key];
        listener.standing = Standing::Open;
        self.opening -= 1;
        self.tally.connect.saturating_record(now_ns - listener.opened_ns);
        if listener.is_stuck
            && !self.is_resumed
            && let Some(socket) = &mut listener.socket
        {
            // No wake-ups either: a stuck peer is silent.
            let _ = self.poll.registry().deregister(socket);
        }
        self.shared.connected_last_ns.fetch_max(now_ns, Ordering::AcqRel);
        self.shared.connected.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&mut self, key: usize, is_reset: bool) {
        let now_ns = self.clock.now_ns();
        let listener = &mut self.listeners[key];
        if listener.socket.is_none() {
            return;
        }
        listener.close();
        if listener.standing == Standing::Opening {
            listener.standing = Standing::Failed;
            self.opening -= 1;
            self.tally.error(|| "closed before connected".to_owned());
            self.shared.failed.fetch_add(1, Ordering::AcqRel);
        } else {
            listener.standing = Standing::Ended;
            let ending = (!is_reset).then(|| listener.stream.ending());
            self.tally.end(ending, now_ns);
            self.shared.ended.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn report_deliveries(&mut self) {
        if self.unreported > 0 {
            self.shared.deliveries.fetch_add(self.unreported, Ordering::AcqRel);
            self.unreported = 0;
        }
    }

    fn resume_stuck(&mut self) -> io::Result<()> {
        if self.is_resumed || self.shared.phase.load(Ordering::Acquire) != RESUMED {
            return Ok(());
        }
        self.is_resumed = true;
        for key in 0..self.listeners.len() {
            let listener = &self.listeners[key];
            if listener.is_stuck && listener.standing == Standing::Open {
                // Registering reports at once what is readable already.
                self.register(key)?;
            }
        }
        Ok(())
    }
}

const READ_BYTES: usize = 256 * 1024;
const OPENING_TICK: Duration = Duration::from_millis(1);
/// How late a thread may notice that it should stop.
const STEADY_TICK: Duration = Duration::from_millis(50);
/// Compressed streams inflated and checked in full, per thread.
pub const INFLATED: usize = 64;
