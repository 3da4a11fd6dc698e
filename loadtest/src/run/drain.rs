//! SIGTERM under load: when each stream ends, and where in its bytes.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use super::one::Run;
use crate::client::fleet::{Done, Fleet, Standing};
use crate::number::ms;
use crate::report::measured::Drain;

impl Run {
    /// SIGTERM in the middle of traffic.
    pub(super) fn drain(&mut self, fleet: Fleet) -> io::Result<Done> {
        let limit = Duration::from_secs(self.settings().seconds);
        // Goes on publishing while the streams end: that is what could tear them.
        let feed = self.publish(self.settings(), limit.as_secs_f64() + 2.0)?;
        std::thread::sleep(Duration::from_secs(2));
        let signal_ns = self.clock.now_ns();
        let mut exit_ns = signal_ns;
        let deadline = Instant::now() + limit;
        self.target.terminate()?;
        let total = self.report.opening.connected;
        let ended = || fleet.counts().ended;
        let mut exit = None;
        self.progress.begin("draining", Some(total as u64));
        while (ended() < total || exit.is_none()) && Instant::now() < deadline {
            if exit.is_none() {
                exit = self.target.wait(Duration::ZERO)?;
                exit_ns = self.clock.now_ns();
            }
            self.progress.at(ended() as u64, "streams ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let exit_seconds = ms(exit_ns - signal_ns) / 1e3;
        feed.stop();
        self.published.absorb(feed.join()?);
        let done = fleet.stop()?;
        let tally = &done.tally;
        let last_ns = tally.ended_ns.iter().max().copied().unwrap_or(signal_ns);
        let open = done.subscribers.iter().filter(|one| one.standing == Standing::Open).count();
        let drain = Drain {
            closes_by_second: by_second(&tally.ended_ns, signal_ns),
            finished: tally.ends_finished,
            boundary: tally.ends_boundary,
            torn: tally.ends_torn,
            reset: tally.ends_reset,
            open: open as u64,
            closing_events: tally.closing,
            last_close_seconds: ms(last_ns.saturating_sub(signal_ns)) / 1e3,
            exit_seconds: exit.map(|_| exit_seconds),
            exit_code: exit.and_then(|status| status.code()),
        };
        let killed_by = exit.and_then(|status| status.signal());
        self.judge_drain(&drain, killed_by);
        self.report.drain = Some(drain);
        // The publisher's connection ends with the server; that is no fault here.
        self.published.error = None;
        let mut traffic = self.tally(&done, &done.tally);
        traffic.disconnects = 0;
        traffic.requests_refused = 0;
        self.judge_traffic(&traffic, &done);
        self.report.traffic = Some(traffic);
        Ok(done)
    }

    fn judge_drain(&mut self, drain: &Drain, killed_by: Option<i32>) {
        self.fault(drain.torn, "streams torn inside an event");
        self.fault(drain.reset, "streams reset");
        self.fault(drain.open, "streams still open");
        match (drain.exit_code, killed_by) {
            (Some(0), _) => {}
            (Some(code), _) => self.report.faults.push(format!("exit code {code}")),
            (None, Some(signal)) => self.report.faults.push(format!("killed by signal {signal}")),
            (None, None) => self.report.faults.push("did not exit".to_owned()),
        }
    }
}

/// How many of `ended_ns` fall into each second after `from_ns`.
fn by_second(ended_ns: &[u64], from_ns: u64) -> Vec<u64> {
    let mut seconds = Vec::new();
    for at in ended_ns {
        let second = usize::try_from(at.saturating_sub(from_ns) / 1_000_000_000).unwrap_or(0);
        if seconds.len() <= second {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_counted_by_whole_seconds_after_the_signal() {
        let second = 1_000_000_000;
        let ended = [second + 5, second * 2 - 1, second * 2, second * 4 + 7, 3];
        assert_eq!(by_second(&ended, second), [3, 1, 0, 1]);
        assert!(by_second(&[], 0).is_empty());
    }
}
