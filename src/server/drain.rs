//! Ends the server in order: streams are told to reconnect, requests that have begun are answered, and what remains is
//! logged.
//!
//! It takes as long as this needs, at most `drain` and [`END_TIME`]. With the default settings that is below the ten
//! seconds after which containers are killed.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::config::ListenAddr;
use crate::engine::Engine;
use crate::engine::lifecycle::Stage;
use crate::server::Server;

/// How long a drain may exceed its setting: sockets that are full get a last chance to take their rest.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long requests that began before the end may take. It ends when none remains; a connection without a byte yet
/// uses it up, since its request may still be arriving.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// How long these requests, and reporting to the application the streams that a drain closed, may take together.
const END_TIME: Duration = Duration::from_secs(3);

/// Time between two checks of a drain's progress.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Time until the first log line about what remains. It doubles each time, up to [`REPORT_AFTER_MAX`].
const REPORT_AFTER: Duration = Duration::from_secs(1);
const REPORT_AFTER_MAX: Duration = Duration::from_secs(30);

impl Server {
    /// Closes every stream, as fast as `drain_rate` allows and `drain` demands, answers the requests that have begun,
    /// and ends. New connections are refused softly meanwhile, or left to the next process where a service manager
    /// holds the sockets.
    ///
    /// # Errors
    ///
    /// If a thread has already ended with an error.
    pub fn drain(mut self) -> io::Result<()> {
        let at_most = self.engine.config.drain;
        tracing::info!(streams = self.engine.hub.connections(), ?at_most, "draining");
        // First, because connections that are accepted from now on would be refused.
        self.engine.lifecycle.stage.send_replace(Stage::Draining);
        self.engine.hub.drain();
        self.wait_for_all(&self.engine.lifecycle.drained, at_most + DRAIN_GRACE);
        self.leave_paths();
        self.engine.lifecycle.stage.send_replace(Stage::Ending);
        let end = Instant::now() + END_TIME;
        self.wait_for_all(&self.engine.lifecycle.finished, LAST_REQUESTS);
        say_outcome(&self.engine);
        self.end(end.saturating_duration_since(Instant::now()))
    }

    /// Removes the files of the Unix sockets that it listens on. What connects from now on finds nobody, and may go to
    /// another server; what connected before is served.
    fn leave_paths(&mut self) {
        let is_admin =
            |path: &Path| matches!(&self.admin_address, Some(ListenAddr::Unix(unix)) if unix.path == path);
        self.own_files.retain(|path| is_admin(path) || fs::remove_file(path).is_err());
    }

    /// Waits until all threads have counted themselves in `count`, but no longer than `time`. Logs at intervals what remains.
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

/// Open streams, and requests that have begun and are not answered, a moment ago.
fn left(engine: &Engine) -> (u32, usize) {
    let requests = engine.shards.iter().map(|shard| shard.requests_left.load(Ordering::Relaxed)).sum();
    (engine.hub.connections(), requests)
}

/// Logs that the drain has ended, and what is cut off.
fn say_outcome(engine: &Engine) {
    match left(engine) {
        (0, 0) => tracing::info!("drained"),
        (streams, requests) => tracing::warn!(streams, requests, "out of time: cutting off what remains"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::live::CLOSING_TIME;
    use crate::config::Config;

    /// `docker stop` kills after ten seconds. A second is left for a busy machine.
    #[test]
    fn the_longest_end_fits_into_a_containers_ten_seconds() {
        let drain = Config::default_for(1024).drain;
        assert!(LAST_REQUESTS < END_TIME, "some of it is for the application");
        let longest = drain + DRAIN_GRACE + END_TIME + CLOSING_TIME;
        assert!(longest <= Duration::from_secs(9), "{longest:?}");
    }
}
