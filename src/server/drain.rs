//! The end in order: streams are told to come back, requests that were begun are answered, and what is left is said.
//!
//! It takes as long as that takes, and `drain` and [`END_TIME`] at most. With the settings as they come that is below the ten
//! seconds after which containers are killed.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::engine::lifecycle::Stage;
use crate::server::Server;

/// How long a drain may take beyond its setting: sockets that are full get a last chance to take their rest.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long requests that were begun before the end may take. It is over as soon as there are none; a connection on which
/// nothing has come yet uses it up, since its request may be on the way.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// How long these requests and telling the application of the streams that a drain closed may take together.
const END_TIME: Duration = Duration::from_secs(3);

/// Time between two looks at how far a drain is.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time after which what is left is said for the first time. It doubles each time, up to [`REPORT_AFTER_MAX`].
const REPORT_AFTER: Duration = Duration::from_secs(1);
const REPORT_AFTER_MAX: Duration = Duration::from_secs(30);

impl Server {
    /// Closes every stream, as fast as `drain_rate` allows and `drain` demands, answers the requests that were begun, and
    /// ends. Newcomers are refused softly meanwhile, or left to the next process where a service manager holds the sockets.
    ///
    /// # Errors
    ///
    /// If a thread had ended before with an error.
    pub fn drain(mut self) -> io::Result<()> {
        let at_most = self.engine.config.drain;
        tracing::info!(streams = self.engine.hub.connections(), ?at_most, "draining");
        // First: connections that are accepted from now on would be refused.
        self.engine.lifecycle.stage.send_replace(Stage::Draining);
        self.engine.hub.drain();
        self.wait_for_all(&self.engine.lifecycle.drained, at_most + DRAIN_GRACE);
        self.engine.lifecycle.stage.send_replace(Stage::Ending);
        let end = Instant::now() + END_TIME;
        self.wait_for_all(&self.engine.lifecycle.finished, LAST_REQUESTS);
        say_outcome(&self.engine);
        self.end(end.saturating_duration_since(Instant::now()))
    }

    /// Waits until `count` is that of all threads, but no longer than `time`. Says now and then what is left.
    fn wait_for_all(&self, count: &AtomicUsize, time: Duration) {
        let started = Instant::now();
        let (mut report_at, mut report_after) = (REPORT_AFTER, REPORT_AFTER);
        while count.load(Ordering::Acquire) < self.workers.len() && started.elapsed() < time {
            std::thread::sleep(LOOK_AGAIN);
            if started.elapsed() >= report_at {
                let (streams, requests) = left(&self.engine);
                tracing::info!(streams, requests, "still draining");
                report_after = (2 * report_after).min(REPORT_AFTER_MAX);
                report_at += report_after;
            }
        }
    }
}

/// Streams that are open, and requests that were begun and are not answered, as of a moment ago.
fn left(engine: &Engine) -> (u32, usize) {
    let requests = engine.shards.iter().map(|shard| shard.requests_left.load(Ordering::Relaxed)).sum();
    (engine.hub.connections(), requests)
}

/// Says that it is over, and what is cut off by that.
fn say_outcome(engine: &Engine) {
    match left(engine) {
        (0, 0) => tracing::info!("drained"),
        (streams, requests) => tracing::warn!(streams, requests, "out of time: cutting off what is left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::live::CLOSING_TIME;
    use crate::config::Config;

    /// `docker stop` kills after ten seconds. With a second to spare for a busy machine it is never needed.
    #[test]
    fn the_longest_end_fits_into_a_containers_ten_seconds() {
        let drain = Config::default_for(1024).drain;
        assert!(LAST_REQUESTS < END_TIME, "some of it is for the application");
        let longest = drain + DRAIN_GRACE + END_TIME + CLOSING_TIME;
        assert!(longest <= Duration::from_secs(9), "{longest:?}");
    }
}
