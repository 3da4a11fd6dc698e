//! Clients that ask, get what there is, and ask again where they were (long polling).
//!
//! Each gets every event once and in order, over all its polls.

use std::io;

use super::churn::BACK_MAX;
use super::one::Run;
use crate::client::fleet::{Done, Fleet};
use crate::number::{count, ms, per};
use crate::report::found::Found;
use crate::report::special::Poll;

impl Run {
    /// Publishes while all poll.
    pub(super) fn poll(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        let (feed, window) = self.begin_feed(&fleet)?;
        self.counted(&mut fleet)?;
        self.end_feed(&mut fleet, feed)?;
        self.progress.say("waiting for the last deliveries");
        self.wait_delivered(&mut fleet)?;
        let span = self.close_window(&window, &fleet)?;
        let counted = self.counted(&mut fleet)?;
        self.take_memory();
        // Those that have just got something ask again.
        let total = self.settings().connections;
        self.sync(&mut fleet)?;
        self.watch(&mut fleet, BACK_MAX, |counts| counts.settled() >= total)?;
        self.report.found = Some(Found::Poll(Poll {
            polls: counted.polls,
            polls_per_s: count(counted.polls) / span.seconds.max(1e-9),
            cpu_us_each: per(span.cpu_us(), counted.polls),
            events_each: per(count(span.deliveries), counted.polls),
            connect_p99_ms: ms(counted.reconnect.value_at_quantile(0.99)),
            refused: counted.refused,
        }));
        if counted.polls == 0 {
            self.report.faults.push("no poll ended".to_owned());
        }
        self.finish(fleet, &span, None)
    }
}
