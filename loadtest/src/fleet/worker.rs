//! One thread of listeners: opens them at a pace, reads them until told to stop.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::coming::Comings;
use super::conn::{Listener, Standing, connect};
use super::counters::Counters;
use super::{Command, Done, Plan, Tally};
use crate::clock::Clock;
use crate::track::Order;
use crate::wire::events::Seen;
use crate::wire::stream::OnGzip;

pub(super) struct Worker {
    pub(super) plan: Arc<Plan>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<Counters>,
    commands: Receiver<Command>,
    taken: Sender<Tally>,
    poll: Poll,
    /// This thread has the connections `first`, `first + threads`, ...
    first: usize,
    total: usize,
    pub(super) listeners: Vec<Listener>,
    /// Connections under way.
    pub(super) opening: usize,
    pub(super) comings: Comings,
    /// What was counted since it was last handed over.
    pub(super) tally: Tally,
    /// Deliveries not yet added to the counters.
    unreported: u64,
    /// Latencies of events published before this are not recorded.
    pub(super) record_from_ns: u64,
    is_reading_again: bool,
    pub(super) is_stopped: bool,
}

/// What one read meant for its listener.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Outcome {
    has_connected: bool,
    is_malformed: bool,
}

impl Worker {
    /// Thread `thread` of process `nth`.
    pub(super) fn new(
        plan: &Arc<Plan>,
        (nth, thread): (usize, usize),
        clock: Clock,
        counters: &Arc<Counters>,
        commands: Receiver<Command>,
        taken: Sender<Tally>,
    ) -> io::Result<Self> {
        let part = plan.settings.part(nth);
        let total = part.len().saturating_sub(thread).div_ceil(plan.settings.threads);
        Ok(Self {
            plan: Arc::clone(plan),
            clock,
            counters: Arc::clone(counters),
            commands,
            taken,
            poll: Poll::new()?,
            first: part.start + thread,
            total,
            listeners: Vec::with_capacity(total),
            opening: 0,
            comings: Comings::default(),
            tally: Tally::default(),
            unreported: 0,
            record_from_ns: u64::MAX,
            is_reading_again: false,
            is_stopped: false,
        })
    }

    /// Wakes the thread up for a command.
    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    pub(super) fn run(mut self) -> io::Result<Done> {
        let mut ready = Events::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let start_ns = self.clock.now_ns();
        while !self.is_stopped {
            let is_opening = self.listeners.len() < self.total;
            if is_opening {
                self.open_due(start_ns);
            }
            self.come_and_go();
            let is_busy = is_opening || self.comings.is_busy();
            match self.poll.poll(&mut ready, Some(if is_busy { BUSY_TICK } else { STEADY_TICK })) {
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            // Before the reads: what was ordered before an event was published counts for that event.
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command);
            }
            for event in ready.iter().filter(|event| event.token() != WAKER) {
                let key = event.token().0;
                if self.listeners[key].has_request {
                    self.send_request(key);
                }
                self.read(key, event.is_read_closed() || event.is_error(), &mut buffer);
            }
            self.report_deliveries();
        }
        for listener in &mut self.listeners {
            listener.close();
        }
        let listeners = self.listeners.into_iter().map(Listener::into_account).collect();
        Ok(Done { tally: self.tally, listeners })
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Record(from_ns) => self.record_from_ns = from_ns,
            Command::ReadAgain => self.read_again(),
            Command::Leave => self.leave(),
            Command::Return(pace) => self.come_back(pace),
            Command::Churn { percent_per_s, away } => self.begin_churn(percent_per_s, away),
            Command::Settle => self.comings.settle(),
            Command::Take => self.hand_over(),
            Command::Stop => self.is_stopped = true,
        }
    }

    /// Connections this thread may have under way while it keeps to a pace.
    pub(super) fn in_flight_max(&self) -> usize {
        let settings = &self.plan.settings;
        settings.in_flight_max.div_ceil(settings.threads * settings.processes)
    }

    /// Opens what the pace and the bound on connections under way allow.
    fn open_due(&mut self, start_ns: u64) {
        let settings = &self.plan.settings;
        let lanes = (settings.threads * settings.processes) as u64;
        let in_flight_max = self.in_flight_max();
        let elapsed_ns = self.clock.now_ns() - start_ns;
        let due = elapsed_ns.saturating_mul(u64::from(settings.open_rate_per_s)) / (1_000_000_000 * lanes);
        let due = usize::try_from(due).unwrap_or(usize::MAX).saturating_add(1).min(self.total);
        while self.listeners.len() < due && self.opening < in_flight_max {
            self.open();
        }
    }

    fn open(&mut self) {
        let settings = &self.plan.settings;
        let key = self.listeners.len();
        let index = self.first + key * settings.threads;
        let is_stuck = index < settings.stuck;
        let opened_ns = self.clock.now_ns();
        // A sample is enough to know the bytes; inflating everything would measure this process.
        let on_gzip = if key < INFLATED { OnGzip::Inflate } else { OnGzip::Count };
        match connect(self.plan.addr, index, is_stuck) {
            Ok(socket) => {
                let mut listener = Listener::new(index, socket, on_gzip, opened_ns);
                listener.is_stuck = is_stuck;
                if settings.keeps_id {
                    listener.stream.keep_id(Vec::new());
                }
                self.listeners.push(listener);
                self.opening += 1;
                self.send_request(key);
                if self.register(key).is_err() {
                    self.end(key, true);
                }
            }
            Err(err) => {
                self.tally.error(|| format!("connect to {}: {err}", self.plan.addr));
                self.counters.failed.fetch_add(1, Ordering::AcqRel);
                // One listener fewer; a run with a failure is judged failed anyway.
                self.total -= 1;
            }
        }
    }

    pub(super) fn register(&mut self, key: usize) -> io::Result<()> {
        let listener = &mut self.listeners[key];
        let interest =
            if listener.has_request { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match &mut listener.socket {
            Some(socket) => self.poll.registry().register(socket, Token(key), interest),
            None => Ok(()),
        }
    }

    /// Sends the request; on loopback this works right after connect(2) returned.
    pub(super) fn send_request(&mut self, key: usize) {
        let listener = &mut self.listeners[key];
        let Some(socket) = &mut listener.socket else {
            return;
        };
        let request = self.plan.request(listener.index, listener.stream.last_id());
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
        let Self { listeners, tally, plan, record_from_ns, unreported, counters, .. } = self;
        let Listener { stream, track, is_stuck, opened_ns, .. } = &mut listeners[key];
        let mut outcome = Outcome::default();
        let fed = stream.feed(bytes, &mut |seen| match seen {
            Seen::Stamped(stamp) => {
                *unreported += 1;
                tally.deliveries += 1;
                match track.see(stamp.seq) {
                    Order::InOrder | Order::Skipped => {}
                    Order::Excused(events) => {
                        counters.excused.fetch_add(events, Ordering::AcqRel);
                    }
                    Order::Reordered => tally.reordered += 1,
                    Order::Duplicate => tally.duplicated += 1,
                }
                if stamp.data_bytes as usize != plan.settings.bytes {
                    tally.damaged += 1;
                }
                if stamp.published_ns < *opened_ns {
                    tally.replayed += 1;
                } else if stamp.published_ns >= *record_from_ns && !*is_stuck {
                    tally.latency.saturating_record(now_ns.saturating_sub(stamp.published_ns));
                }
            }
            Seen::Connected => outcome.has_connected = true,
            Seen::Gap => {
                track.tell_gap();
                *(if *is_stuck { &mut tally.gaps_stuck } else { &mut tally.gaps }) += 1;
            }
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
        let (taken, counter) = if listener.is_returning {
            (&mut self.tally.reconnect, &self.counters.returned)
        } else {
            (&mut self.tally.connect, &self.counters.connected)
        };
        taken.saturating_record(now_ns - listener.opened_ns);
        if listener.is_stuck
            && !self.is_reading_again
            && let Some(socket) = &mut listener.socket
        {
            // No wake-ups either: a stuck peer is silent.
            let _ = self.poll.registry().deregister(socket);
        }
        self.counters.connected_last_ns.fetch_max(now_ns, Ordering::AcqRel);
        counter.fetch_add(1, Ordering::AcqRel);
        self.counters.up.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn end(&mut self, key: usize, is_reset: bool) {
        let now_ns = self.clock.now_ns();
        let listener = &mut self.listeners[key];
        if listener.socket.is_none() {
            return;
        }
        listener.close();
        if listener.standing == Standing::Opening && listener.is_returning {
            self.tally.error(|| "closed before connected".to_owned());
            self.not_back(key);
        } else if listener.standing == Standing::Opening {
            listener.standing = Standing::Failed;
            self.opening -= 1;
            self.tally.error(|| "closed before connected".to_owned());
            self.counters.failed.fetch_add(1, Ordering::AcqRel);
        } else {
            listener.standing = Standing::Ended;
            let ending = (!is_reset).then(|| listener.stream.ending());
            self.tally.end(ending, now_ns);
            self.counters.up.fetch_sub(1, Ordering::AcqRel);
            self.counters.ended.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn report_deliveries(&mut self) {
        if self.unreported > 0 {
            self.counters.delivered_last_ns.fetch_max(self.clock.now_ns(), Ordering::AcqRel);
            self.counters.deliveries.fetch_add(self.unreported, Ordering::AcqRel);
            self.unreported = 0;
        }
    }

    /// Hands over what was counted. Whoever asked and left does not miss it.
    pub(super) fn hand_over(&mut self) {
        self.report_deliveries();
        let _ = self.taken.send(std::mem::take(&mut self.tally));
    }

    /// Stuck listeners read again.
    pub(super) fn read_again(&mut self) {
        self.is_reading_again = true;
        for key in 0..self.listeners.len() {
            let listener = &self.listeners[key];
            // Registering reports at once what is readable already.
            if listener.is_stuck && listener.standing == Standing::Open && self.register(key).is_err() {
                self.end(key, true);
            }
        }
    }
}

/// No listener's key: there are never so many.
const WAKER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
const BUSY_TICK: Duration = Duration::from_millis(1);
const STEADY_TICK: Duration = Duration::from_millis(50);
/// Compressed streams inflated and checked in full, per thread.
pub(super) const INFLATED: usize = 64;
