//! One thread of subscribers: opens them at a pace, reads them until told to stop.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::assignment::{Assignment, INFLATED};
use super::command::{Command, Known, Pace};
use super::counters::Counters;
use super::done::Done;
use super::newest::Newest;
use super::schedule::{Schedule, retry_ns};
use super::subscriber::{Standing, Subscriber, connect};
use super::tally::Tally;
use crate::client::clock::Clock;
use crate::client::track::Order;
use crate::client::wire::events::Seen;
use crate::client::wire::stream::{Ending, OnGzip};
use crate::number::count;

pub(super) struct Worker {
    assignment: Arc<Assignment>,
    clock: Clock,
    counters: Arc<Counters>,
    commands: Receiver<Command>,
    taken: Sender<Tally>,
    poll: Poll,
    /// This thread has the connections `first`, `first + threads`, ...
    first: usize,
    total: usize,
    subscribers: Vec<Subscriber>,
    /// Connections under way.
    opening: usize,
    schedule: Schedule,
    /// What was counted since it was last handed over.
    tally: Tally,
    /// Deliveries not yet added to the counters.
    unreported: u64,
    /// Latencies of events published before this are not recorded.
    record_from_ns: u64,
    /// When slow subscribers read next.
    slow_ns: u64,
    is_reading_again: bool,
    is_stopped: bool,
}

/// What one read meant for its subscriber.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Outcome {
    has_connected: bool,
    is_malformed: bool,
}

impl Worker {
    /// Thread `thread` of process `nth`.
    pub(super) fn new(
        assignment: &Arc<Assignment>,
        (nth, thread): (usize, usize),
        clock: Clock,
        counters: &Arc<Counters>,
        commands: Receiver<Command>,
        taken: Sender<Tally>,
    ) -> io::Result<Self> {
        let part = assignment.settings.part(nth);
        let total = part.len().saturating_sub(thread).div_ceil(assignment.settings.threads);
        Ok(Self {
            assignment: Arc::clone(assignment),
            clock,
            counters: Arc::clone(counters),
            commands,
            taken,
            poll: Poll::new()?,
            first: part.start + thread,
            total,
            subscribers: Vec::with_capacity(total),
            opening: 0,
            schedule: Schedule::default(),
            tally: Tally::default(),
            unreported: 0,
            // Where streams join while events flow, these count from the beginning.
            record_from_ns: if assignment.settings.members.joins_midway { 0 } else { u64::MAX },
            slow_ns: 0,
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
            let is_opening = self.subscribers.len() < self.total;
            if is_opening {
                self.open_due(start_ns);
            }
            self.come_and_go();
            let is_busy = is_opening || self.schedule.is_busy();
            match self.poll.poll(&mut ready, Some(if is_busy { BUSY_TICK } else { STEADY_TICK })) {
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            // Before the reads: what was ordered before an event was published counts for that event.
            while let Ok(command) = self.commands.try_recv() {
                self.handle(command);
            }
            for event in ready.iter().filter(|event| event.token() != WAKER) {
                let key = event.token().0;
                if self.subscribers[key].has_request {
                    self.send_request(key);
                }
                self.read(key, event.is_read_closed() || event.is_error(), &mut buffer);
            }
            self.read_slowly(&mut buffer[..SLOW_BYTES]);
            self.report_deliveries();
        }
        let is_poll = self.assignment.settings.poll_s > 0;
        for subscriber in &mut self.subscribers {
            subscriber.close();
            // Between two polls is as good as within one.
            let is_between = matches!(subscriber.standing, Standing::Away | Standing::Opening);
            if is_poll && is_between && subscriber.is_returning {
                subscriber.standing = Standing::Open;
            }
        }
        let subscribers = self.subscribers.into_iter().map(Subscriber::into_account).collect();
        Ok(Done { tally: self.tally, subscribers })
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Record(from_ns) => self.record_from_ns = from_ns,
            Command::ReadAgain => self.read_again(),
            Command::Leave => self.leave(),
            Command::Return(pace) => self.come_back(pace),
            Command::Churn { percent_per_s, away } => self.begin_churn(percent_per_s, away),
            Command::Reload { over, away } => {
                let (now_ns, total) = (self.clock.now_ns(), self.subscribers.len());
                self.schedule.begin_reload(now_ns, total, over, away);
            }
            Command::Check(known) => self.check_known(known),
            Command::Settle => self.schedule.settle(),
            Command::Take => self.hand_over(),
            Command::Stop => self.is_stopped = true,
        }
    }

    /// Connections this thread may have under way while it keeps to a pace.
    fn in_flight_max(&self) -> usize {
        let settings = &self.assignment.settings;
        settings.in_flight_max.div_ceil(settings.threads * settings.processes)
    }

    /// Opens what the pace and the bound on connections under way allow.
    fn open_due(&mut self, start_ns: u64) {
        let settings = &self.assignment.settings;
        let lanes = (settings.threads * settings.processes) as u64;
        let in_flight_max = self.in_flight_max();
        let elapsed_ns = self.clock.now_ns() - start_ns;
        let due = elapsed_ns.saturating_mul(u64::from(settings.open_rate_per_s)) / (1_000_000_000 * lanes);
        let due = usize::try_from(due).unwrap_or(usize::MAX).saturating_add(1).min(self.total);
        while self.subscribers.len() < due && self.opening < in_flight_max {
            self.open();
        }
    }

    fn open(&mut self) {
        let settings = &self.assignment.settings;
        let key = self.subscribers.len();
        let index = self.first + key * settings.threads;
        let (is_stuck, is_slow) = (index < settings.stuck, index < settings.keyed.slow);
        let opened_ns = self.clock.now_ns();
        // A sample is enough to know the bytes; inflating everything would measure this process.
        let on_gzip = if key < INFLATED { OnGzip::Inflate } else { OnGzip::Count };
        match connect(self.assignment.addr, index, is_stuck || is_slow) {
            Ok(socket) => {
                let mut subscriber = Subscriber::new(index, socket, on_gzip, opened_ns);
                subscriber.is_stuck = is_stuck;
                subscriber.is_slow = is_slow;
                if settings.keyed.keys > 0 {
                    subscriber.newest = Newest::new(settings.keyed.keys);
                }
                if settings.keeps_id {
                    subscriber.stream.keep_id(Vec::new());
                }
                self.subscribers.push(subscriber);
                self.opening += 1;
                self.send_request(key);
                if self.register(key).is_err() {
                    self.end(key, true);
                }
            }
            Err(err) => {
                self.tally.error(|| format!("connect to {}: {err}", self.assignment.addr));
                self.counters.failed.fetch_add(1, Ordering::AcqRel);
                // One subscriber fewer; a run with a failure is judged failed anyway.
                self.total -= 1;
            }
        }
    }

    fn register(&mut self, key: usize) -> io::Result<()> {
        let subscriber = &mut self.subscribers[key];
        let interest =
            if subscriber.has_request { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        match &mut subscriber.socket {
            Some(socket) => self.poll.registry().register(socket, Token(key), interest),
            None => Ok(()),
        }
    }

    /// Sends the request; on loopback this works right after connect(2) returned.
    fn send_request(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        let Some(socket) = &mut subscriber.socket else {
            return;
        };
        let request = self.assignment.request(subscriber.index, subscriber.stream.last_id());
        match socket.write(request.as_bytes()) {
            Ok(len) if len == request.len() => subscriber.has_request = false,
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
            let subscriber = &mut self.subscribers[key];
            let Some(socket) = &mut subscriber.socket else {
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
        if outcome.has_connected && self.subscribers[key].standing == Standing::Opening {
            self.connected(key, now_ns);
        }
        if outcome.is_malformed {
            self.tally.malformed += 1;
            self.end(key, true);
        }
    }

    /// Judges every event in `bytes`.
    fn check(&mut self, key: usize, bytes: &[u8], now_ns: u64) -> Outcome {
        let Self { subscribers, tally, assignment, record_from_ns, unreported, counters, .. } = self;
        let Subscriber { stream, track, newest, members, is_stuck, is_slow, opened_ns, is_returning, .. } =
            &mut subscribers[key];
        let settings = &assignment.settings;
        let (is_keyed, is_poll) = (settings.keyed.keys > 0, settings.poll_s > 0);
        let mut outcome = Outcome::default();
        let fed = stream.feed(bytes, &mut |seen| match seen {
            Seen::Stamped(stamp) => {
                *unreported += 1;
                tally.deliveries += 1;
                tally.deliveries_slow += u64::from(*is_slow);
                let order = if is_keyed { newest.see(stamp.seq) } else { track.see(stamp.seq) };
                match order {
                    Order::InOrder | Order::Skipped => {}
                    Order::Excused(events) => {
                        counters.excused.fetch_add(events, Ordering::AcqRel);
                    }
                    Order::Reordered => tally.reordered += 1,
                    Order::Duplicate => tally.duplicated += 1,
                }
                if stamp.data_bytes as usize != settings.bytes {
                    tally.damaged += 1;
                }
                let is_replayed = stamp.published_ns < *opened_ns;
                tally.replayed += u64::from(is_replayed);
                // A poll that begins with an event had to wait for it all the same.
                let is_live = !is_replayed || is_poll;
                if is_live && stamp.published_ns >= *record_from_ns && !*is_stuck && !*is_slow {
                    tally.latency.saturating_record(now_ns.saturating_sub(stamp.published_ns));
                }
            }
            Seen::Connected(after) => {
                outcome.has_connected = true;
                if let Some(after) = after.filter(|_| settings.members.joins_midway && !*is_returning) {
                    track.join_at(after);
                    counters.excused.fetch_add(after, Ordering::AcqRel);
                }
            }
            Seen::Presence(told) if settings.members.is_on => {
                tally.presence_last_ns = now_ns;
                match (members.replace(told.total), told.is_count) {
                    (None, _) if told.is_whole => tally.presence_begun += 1,
                    // There is nothing yet that could change.
                    (None, _) => tally.foreign += 1,
                    (Some(_), true) => tally.presence_counts += 1,
                    (Some(_), false) => tally.presence_named += 1,
                }
            }
            Seen::Gap => {
                track.tell_gap();
                *(if *is_stuck { &mut tally.gaps_stuck } else { &mut tally.gaps }) += 1;
            }
            Seen::Overload => tally.refused += 1,
            Seen::Closing => tally.closing += 1,
            Seen::Presence(_) | Seen::Other => tally.foreign += 1,
        });
        outcome.has_connected |= assignment.is_head_connected && stream.is_open();
        if let Err(err) = fed {
            tally.error(|| err.to_string());
            outcome.is_malformed = true;
        }
        outcome
    }

    fn connected(&mut self, key: usize, now_ns: u64) {
        let subscriber = &mut self.subscribers[key];
        subscriber.standing = Standing::Open;
        self.opening -= 1;
        let (taken, counter) = if subscriber.is_returning {
            (&mut self.tally.reconnect, &self.counters.returned)
        } else {
            (&mut self.tally.connect, &self.counters.connected)
        };
        taken.saturating_record(now_ns - subscriber.opened_ns);
        if (subscriber.is_stuck || subscriber.is_slow)
            && !self.is_reading_again
            && let Some(socket) = &mut subscriber.socket
        {
            // No wake-ups either: a stuck peer is silent, a slow one looks by itself.
            let _ = self.poll.registry().deregister(socket);
        }
        self.counters.connected_last_ns.fetch_max(now_ns, Ordering::AcqRel);
        counter.fetch_add(1, Ordering::AcqRel);
        self.counters.up.fetch_add(1, Ordering::AcqRel);
    }

    fn end(&mut self, key: usize, is_reset: bool) {
        let now_ns = self.clock.now_ns();
        let subscriber = &mut self.subscribers[key];
        if subscriber.socket.is_none() {
            return;
        }
        subscriber.close();
        if subscriber.standing == Standing::Opening && subscriber.is_returning {
            self.tally.error(|| "closed before connected".to_owned());
            self.not_back(key);
        } else if subscriber.standing == Standing::Opening {
            subscriber.standing = Standing::Failed;
            self.opening -= 1;
            self.tally.error(|| "closed before connected".to_owned());
            self.counters.failed.fetch_add(1, Ordering::AcqRel);
        } else if self.assignment.settings.poll_s > 0
            && !is_reset
            && subscriber.stream.ending() == Ending::Finished
        {
            self.ask_again(key, now_ns);
        } else {
            subscriber.standing = Standing::Ended;
            let ending = (!is_reset).then(|| subscriber.stream.ending());
            self.tally.end(ending, now_ns);
            self.counters.up.fetch_sub(1, Ordering::AcqRel);
            self.counters.ended.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// A poll has ended as it should: the next one goes on after it.
    fn ask_again(&mut self, key: usize, now_ns: u64) {
        let subscriber = &mut self.subscribers[key];
        subscriber.standing = Standing::Away;
        subscriber.is_returning = true;
        subscriber.attempts = 0;
        self.tally.polls += 1;
        self.counters.up.fetch_sub(1, Ordering::AcqRel);
        self.schedule.come_back(now_ns, key);
    }

    /// Each slow subscriber reads a little, if it is time.
    fn read_slowly(&mut self, buffer: &mut [u8]) {
        let now_ns = self.clock.now_ns();
        let slow = self.assignment.settings.keyed.slow;
        if slow == 0 || self.is_reading_again || now_ns < self.slow_ns {
            return;
        }
        self.slow_ns = now_ns + SLOW_TICK_NS;
        for key in 0..self.subscribers.len() {
            let subscriber = &mut self.subscribers[key];
            let Some(socket) = &mut subscriber.socket else { continue };
            if !subscriber.is_slow || subscriber.standing != Standing::Open {
                continue;
            }
            match socket.read(buffer) {
                Ok(0) => self.end(key, false),
                Ok(len) => self.take_in(key, &buffer[..len]),
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => self.end(key, true),
            }
        }
    }

    /// Counts what connected subscribers don't know.
    fn check_known(&mut self, known: Known) {
        let wanted = match known {
            Known::Newest(published) => Newest::of(published, self.assignment.settings.keyed.keys),
            Known::Members(_) => Newest::default(),
        };
        for subscriber in self.subscribers.iter().filter(|one| one.standing == Standing::Open) {
            self.tally.checked += 1;
            self.tally.unknown += match known {
                Known::Newest(_) => subscriber.newest.differences(&wanted),
                Known::Members(total) => u64::from(subscriber.members != Some(total)),
            };
        }
    }

    fn report_deliveries(&mut self) {
        if self.unreported > 0 {
            self.counters.delivered_last_ns.fetch_max(self.clock.now_ns(), Ordering::AcqRel);
            self.counters.deliveries.fetch_add(self.unreported, Ordering::AcqRel);
            self.unreported = 0;
        }
    }

    /// Hands over the tally. The receiver may be gone.
    fn hand_over(&mut self) {
        self.report_deliveries();
        let _ = self.taken.send(std::mem::take(&mut self.tally));
    }

    /// Stuck subscribers read again, and slow ones as fast as the others.
    fn read_again(&mut self) {
        self.is_reading_again = true;
        for key in 0..self.subscribers.len() {
            let subscriber = &self.subscribers[key];
            // Registering reports at once what is readable already.
            if (subscriber.is_stuck || subscriber.is_slow)
                && subscriber.standing == Standing::Open
                && self.register(key).is_err()
            {
                self.end(key, true);
            }
        }
    }

    fn begin_churn(&mut self, percent_per_s: u32, away: Duration) {
        let leaves_per_s = f64::from(percent_per_s) / 100.0 * count(self.subscribers.len() as u64);
        self.schedule.begin_churn(self.clock.now_ns(), leaves_per_s, away);
    }

    /// Cuts all connections.
    fn leave(&mut self) {
        for key in 0..self.subscribers.len() {
            self.cut(key);
        }
    }

    /// Schedules all that are away to come back.
    fn come_back(&mut self, pace: Pace) {
        let now_ns = self.clock.now_ns();
        let settings = &self.assignment.settings;
        let lanes = (settings.threads * settings.processes) as u64;
        let between_ns = 1_000_000_000 * lanes / u64::from(settings.open_rate_per_s);
        let in_flight_max = match pace {
            Pace::AtOnce | Pace::AsTold => usize::MAX,
            Pace::AsOpened => self.in_flight_max(),
        };
        self.schedule.set_in_flight_max(in_flight_max);
        let mut at_ns = now_ns;
        for (key, subscriber) in self.subscribers.iter().enumerate() {
            if subscriber.standing != Standing::Away {
                continue;
            }
            let due_ns = match pace {
                Pace::AtOnce => now_ns,
                Pace::AsTold => now_ns + retry_ns(subscriber.stream.retry()),
                Pace::AsOpened => at_ns,
            };
            self.schedule.come_back(due_ns, key);
            at_ns += between_ns;
        }
    }

    /// Cuts and reopens the connections whose time has come.
    fn come_and_go(&mut self) {
        let now_ns = self.clock.now_ns();
        let subscribers = &self.subscribers;
        let is_open = |key: usize| subscribers[key].standing == Standing::Open;
        for key in self.schedule.leaving(now_ns, subscribers.len(), is_open) {
            self.cut(key);
        }
        while let Some(key) = self.schedule.next_back(now_ns, self.opening) {
            self.reopen(key);
        }
    }

    /// Ends the connection of `key` from this side, if it is open.
    fn cut(&mut self, key: usize) {
        let subscriber = &mut self.subscribers[key];
        if subscriber.standing != Standing::Open {
            return;
        }
        subscriber.close();
        subscriber.standing = Standing::Away;
        subscriber.is_returning = true;
        subscriber.attempts = 0;
        self.tally.left += 1;
        self.counters.up.fetch_sub(1, Ordering::AcqRel);
    }

    fn reopen(&mut self, key: usize) {
        let opened_ns = self.clock.now_ns();
        let subscriber = &mut self.subscribers[key];
        if subscriber.standing != Standing::Away {
            return;
        }
        self.opening += 1;
        subscriber.attempts += 1;
        match connect(self.assignment.addr, subscriber.index, subscriber.is_stuck || subscriber.is_slow) {
            Ok(socket) => {
                subscriber.reopen(socket, opened_ns);
                self.send_request(key);
                if self.register(key).is_err() {
                    self.end(key, true);
                }
            }
            Err(err) => {
                self.tally.error(|| format!("connect to {}: {err}", self.assignment.addr));
                self.not_back(key);
            }
        }
    }

    /// An attempt to come back has failed: schedules the next one, or gives up.
    fn not_back(&mut self, key: usize) {
        self.opening -= 1;
        let subscriber = &mut self.subscribers[key];
        if subscriber.attempts >= ATTEMPTS_MAX {
            subscriber.standing = Standing::Failed;
            self.counters.failed.fetch_add(1, Ordering::AcqRel);
            return;
        }
        subscriber.standing = Standing::Away;
        self.tally.retries += 1;
        let due_ns = self.clock.now_ns() + retry_ns(subscriber.stream.retry());
        self.schedule.come_back(due_ns, key);
    }
}

/// No subscriber's key: there are never so many.
const WAKER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
/// What a slow subscriber reads at a time: 40 KiB a second.
const SLOW_BYTES: usize = 4 * 1024;
const SLOW_TICK_NS: u64 = 100_000_000;
const BUSY_TICK: Duration = Duration::from_millis(1);
const STEADY_TICK: Duration = Duration::from_millis(50);
/// Attempts to come back before a subscriber is given up.
const ATTEMPTS_MAX: u32 = 20;
