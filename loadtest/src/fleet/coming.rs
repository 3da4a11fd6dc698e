//! Listeners that leave and come back: what churn, storms and resumes are made of.
//!
//! They leave as browsers do whose network is gone: without a word, by a reset. They come back with the id of the last
//! event that arrived whole, and go on with the same sequence, so that anything lost, repeated or reordered over the
//! reconnect shows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Pace;
use super::conn::{Standing, connect};
use super::worker::Worker;

/// Who comes back when, and who leaves next.
#[derive(Debug)]
pub(super) struct Comings {
    /// Time and key of every listener that is away with a time to come back.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Connections that may be under way at once.
    in_flight_max: usize,
    churn: Option<Churn>,
}

#[derive(Debug)]
struct Churn {
    since_ns: u64,
    leaves_per_s: f64,
    away_ns: u64,
    left: u64,
    /// Whose turn it is.
    next: usize,
}

impl Default for Comings {
    fn default() -> Self {
        Self { due: BinaryHeap::new(), in_flight_max: usize::MAX, churn: None }
    }
}

impl Comings {
    /// Whether the thread has to look at the clock often.
    pub(super) fn is_busy(&self) -> bool {
        self.churn.is_some() || !self.due.is_empty()
    }

    pub(super) fn settle(&mut self) {
        self.churn = None;
    }
}

impl Worker {
    pub(super) fn begin_churn(&mut self, percent_per_s: u32, away: Duration) {
        self.comings.churn = Some(Churn {
            since_ns: self.clock.now_ns(),
            leaves_per_s: f64::from(percent_per_s) / 100.0
                * crate::report::count(self.listeners.len() as u64),
            away_ns: u64::try_from(away.as_nanos()).unwrap_or(u64::MAX),
            left: 0,
            next: 0,
        });
    }

    /// Everybody leaves.
    pub(super) fn leave(&mut self) {
        for key in 0..self.listeners.len() {
            self.cut(key);
        }
    }

    /// Everybody who is away comes back.
    pub(super) fn come_back(&mut self, pace: Pace) {
        let now_ns = self.clock.now_ns();
        let settings = &self.plan.settings;
        let lanes = (settings.threads * settings.processes) as u64;
        let between_ns = 1_000_000_000 * lanes / u64::from(settings.open_rate_per_s);
        self.comings.in_flight_max = match pace {
            Pace::AtOnce | Pace::AsTold => usize::MAX,
            Pace::AsOpened => self.in_flight_max(),
        };
        let mut at_ns = now_ns;
        for (key, listener) in self.listeners.iter().enumerate() {
            if listener.standing != Standing::Away {
                continue;
            }
            let due_ns = match pace {
                Pace::AtOnce => now_ns,
                Pace::AsTold => now_ns + told_ns(listener.stream.retry()),
                Pace::AsOpened => at_ns,
            };
            self.comings.due.push(Reverse((due_ns, key)));
            at_ns += between_ns;
        }
    }

    /// Lets those leave and those come back whose time it is.
    pub(super) fn come_and_go(&mut self) {
        let now_ns = self.clock.now_ns();
        self.leave_in_turn(now_ns);
        while let Some(Reverse((at_ns, key))) = self.comings.due.peek().copied() {
            if at_ns > now_ns || self.opening >= self.comings.in_flight_max {
                return;
            }
            self.comings.due.pop();
            self.reopen(key);
        }
    }

    fn leave_in_turn(&mut self, now_ns: u64) {
        let Some(churn) = &mut self.comings.churn else {
            return;
        };
        let seconds = crate::report::ms(now_ns.saturating_sub(churn.since_ns)) / 1e3;
        let mut leaving = Vec::new();
        // At most one round: nobody leaves twice at once, however late this thread is.
        for _ in 0..self.listeners.len() {
            if crate::report::count(churn.left) >= seconds * churn.leaves_per_s {
                break;
            }
            let key = churn.next;
            churn.next = (key + 1) % self.listeners.len();
            if self.listeners[key].standing == Standing::Open {
                churn.left += 1;
                leaving.push((key, now_ns + churn.away_ns));
            }
        }
        for (key, back_ns) in leaving {
            self.cut(key);
            self.comings.due.push(Reverse((back_ns, key)));
        }
    }

    /// Ends the connection of `key` from this side, if it is open.
    fn cut(&mut self, key: usize) {
        let listener = &mut self.listeners[key];
        if listener.standing != Standing::Open {
            return;
        }
        listener.close();
        listener.standing = Standing::Away;
        listener.is_returning = true;
        listener.attempts = 0;
        self.tally.left += 1;
        self.counters.up.fetch_sub(1, Ordering::AcqRel);
    }

    fn reopen(&mut self, key: usize) {
        let opened_ns = self.clock.now_ns();
        let listener = &mut self.listeners[key];
        if listener.standing != Standing::Away {
            return;
        }
        self.opening += 1;
        listener.attempts += 1;
        match connect(self.plan.addr, listener.index, listener.is_stuck) {
            Ok(socket) => {
                listener.reopen(socket, opened_ns);
                self.send_request(key);
                if self.register(key).is_err() {
                    self.end(key, true);
                }
            }
            Err(err) => {
                self.tally.error(|| format!("connect to {}: {err}", self.plan.addr));
                self.not_back(key);
            }
        }
    }

    /// An attempt to come back has failed: once more, when the server says or after a second, as browsers do.
    pub(super) fn not_back(&mut self, key: usize) {
        self.opening -= 1;
        let listener = &mut self.listeners[key];
        if listener.attempts >= ATTEMPTS_MAX {
            listener.standing = Standing::Failed;
            self.counters.failed.fetch_add(1, Ordering::AcqRel);
            return;
        }
        listener.standing = Standing::Away;
        self.tally.retries += 1;
        let due_ns = self.clock.now_ns() + told_ns(listener.stream.retry());
        self.comings.due.push(Reverse((due_ns, key)));
    }
}

fn told_ns(retry: Option<Duration>) -> u64 {
    let retry = retry.unwrap_or(RETRY).min(RETRY_MAX);
    u64::try_from(retry.as_nanos()).unwrap_or(0)
}

/// Attempts to come back before a listener is given up.
const ATTEMPTS_MAX: u32 = 20;
/// Where the server said nothing.
const RETRY: Duration = Duration::from_secs(1);
/// Whatever the server says, nobody waits longer.
const RETRY_MAX: Duration = Duration::from_mins(1);
