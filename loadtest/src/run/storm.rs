//! All connections are cut at once and come back: in the same moment, and with the jitter that the server's `retry:` tells.

use std::io;
use std::time::Duration;

use super::churn::BACK_MAX;
use super::one::Run;
use super::traffic::FOREVER;
use crate::client::fleet::{Command, Done, Fleet, Pace};
use crate::number::{ms, per};
use crate::report::found::{Found, Storm, Surge};
use crate::target::meter;

impl Run {
    /// Two storms in a row. On a server that can resume events flow all the time, and none may be missed; on others
    /// nothing is published, since subscribers that are away would miss it.
    pub(super) fn storm(&mut self, mut fleet: Fleet) -> io::Result<Done> {
        self.meter.reset_peak();
        let calm = Duration::from_secs(self.settings().seconds);
        let can_resume = self.job.source.can_resume();
        let feed = can_resume.then(|| self.publish(self.settings(), FOREVER.as_secs_f64())).transpose()?;
        self.sleep_warm_up();
        let window = self.open_window(&fleet)?;
        self.begin_series(&fleet, None)?;
        self.pass(&mut fleet, calm)?;
        self.progress.say("all cut, back at once");
        let at_once = self.surge(&mut fleet, Pace::AtOnce)?;
        self.pass(&mut fleet, calm)?;
        self.progress.say("all cut, back with jitter");
        let with_jitter = self.surge(&mut fleet, Pace::AsTold)?;
        self.pass(&mut fleet, calm)?;
        let admin = self.target.admin.filter(|_| self.settings().tokens);
        let verifications = admin.map(|admin| meter::shown(admin, "tidegate_token_verifications_total"));
        let verifications = verifications.transpose()?;
        self.report.found = Some(Found::Storm(Storm { at_once, with_jitter, verifications }));
        let Some(feed) = feed else {
            return fleet.stop();
        };
        feed.stop();
        self.published.absorb(feed.join()?);
        self.wait_delivered(&mut fleet)?;
        let span = self.close_window(&window, &fleet)?;
        self.take_memory();
        self.finish(fleet, &span, None)
    }

    /// Cuts all connections and waits until all are back.
    fn surge(&mut self, fleet: &mut Fleet, pace: Pace) -> io::Result<Surge> {
        self.counted(fleet)?;
        let cut_ns = self.clock.now_ns();
        let before = self.meter.cpu()?;
        fleet.command(Command::Leave)?;
        fleet.command(Command::Return(pace))?;
        self.sync(fleet)?;
        let total = self.settings().connections;
        self.watch(fleet, BACK_MAX, |counts| counts.settled() >= total)?;
        let back_ns = fleet.counts().connected_last_ns;
        let after = self.meter.cpu()?;
        let tally = self.counted(fleet)?;
        let returned = tally.reconnect.len();
        let cpu = after.zip(before).map(|(after, before)| after.since(&before));
        let surge = Surge {
            left: tally.left,
            returned,
            back_seconds: ms(back_ns.saturating_sub(cut_ns)) / 1e3,
            reconnect_p50_ms: ms(tally.reconnect.value_at_quantile(0.5)),
            reconnect_p99_ms: ms(tally.reconnect.value_at_quantile(0.99)),
            reconnect_max_ms: ms(tally.reconnect.max()),
            retries: tally.retries,
            refused: tally.refused,
            replayed: tally.replayed,
            cpu_us_each: cpu.map_or(f64::NAN, |cpu| per(ms(cpu.total_ns) * 1e3, returned)),
        };
        self.fault(surge.left.saturating_sub(returned), "subscribers not back after a storm");
        Ok(surge)
    }
}
