//! Tells the application what has happened, in batches: what happens while a batch is under way goes with the next.
//! Streams that ended and presence each have a queue and a URL of their own, and this in common.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::watch;

use crate::config::UpstreamUrl;
use crate::hub::notices::Notices;
use crate::types::clock::Clock;
use crate::types::moment::{Moment, jittered};
use crate::types::position::Epoch;
use crate::upstream::client::{Client, Failed};
use crate::upstream::stats::{Health, Outcome, Purpose, UpstreamStats};

/// Notices in one request.
pub const BATCH_MAX: usize = 500;

/// How often one batch is sent before it is dropped.
pub const ATTEMPTS_MAX: u32 = 5;

/// How long the application may take for one batch.
pub const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait before a batch is sent again, doubled each time.
const BACK_OFF: Duration = Duration::from_millis(250);

/// Bytes of an answer that are read, to use the connection again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A kind of notice.
pub(super) trait Told: Sized + Send + 'static {
    /// The setting with the application's URL.
    const SETTING: &'static str;
    /// The purpose of the requests.
    const PURPOSE: Purpose;

    /// A batch as JSON, sent at `now`.
    fn body(batch: &[Self], epoch: Epoch, now: Moment) -> Vec<u8>;
}

/// The upstream thread's part for one kind of notices.
pub(super) struct Teller<T> {
    pub(super) notices: Arc<Notices<T>>,
    pub(super) url: UpstreamUrl,
    pub(super) client: Client,
    pub(super) stats: Arc<UpstreamStats>,
    pub(super) clock: Clock,
    pub(super) epoch: Epoch,
    pub(super) health: Health,
}

impl<T: Told> Teller<T> {
    /// Sends all notices until `ending` is true and none are left.
    pub(super) async fn run(self, mut ending: watch::Receiver<bool>) {
        loop {
            let next = poll_fn(|cx| self.notices.poll_take(BATCH_MAX, cx.waker()));
            let batch = tokio::select! {
                // Notices first: before the end, all that wait are sent.
                biased;
                batch = next => batch,
                _ = ending.wait_for(|ending| *ending) => return,
            };
            self.tell(&batch).await;
        }
    }

    /// Sends one batch, or drops it after the last attempt.
    async fn tell(&self, batch: &[T]) {
        // Counted as lost until it has arrived: the server may end while it is under way.
        let mut loss = Loss { notices: &self.notices, count: batch.len() as u64 };
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                let wait = BACK_OFF * 2_u32.pow(attempt - 1);
                tokio::time::sleep(jittered(wait, fastrand::f64())).await;
            }
            let sent = self.send(batch).await;
            let outcome = sent.as_ref().map_or_else(|failed| failed.outcome, |()| Outcome::Ok);
            self.stats.ended(T::PURPOSE, outcome);
            self.say(outcome, sent.as_ref().map_or_else(|failed| failed.cause.as_str(), |()| ""));
            if outcome == Outcome::Ok {
                loss.count = 0;
                return;
            }
        }
    }

    async fn send(&self, batch: &[T]) -> Result<(), Failed> {
        let body = T::body(batch, self.epoch, self.clock.now());
        let json = HeaderValue::from_static("application/json");
        let request = self.client.http().post(self.url.as_url().clone()).header(CONTENT_TYPE, json);
        let request = request.body(body).build();
        let request =
            request.map_err(|_| Failed::new(Outcome::Unreachable, "the request cannot be built"))?;
        match self.client.ask(request, ANSWER_BYTES_MAX, NOTICE_TIMEOUT).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(Failed::by_status(answer.status)),
            // A notice needs no valid body in its answer, so this counts like a wrong status.
            Err(Failed { outcome: Outcome::Malformed, cause }) => Err(Failed::new(Outcome::Status, cause)),
            Err(failed) => Err(failed),
        }
    }

    fn say(&self, outcome: Outcome, cause: &str) {
        match (self.health.note(outcome), outcome.is_answer()) {
            (true, true) => tracing::info!("the application answers {} again", T::SETTING),
            (true, false) => {
                let outcome = outcome.as_str();
                tracing::warn!(
                    outcome,
                    cause,
                    "the application does not accept the notices of {}",
                    T::SETTING
                );
            }
            (false, _) => {}
        }
    }
}

/// Counts notices as dropped unless they have arrived.
struct Loss<'a, T> {
    notices: &'a Notices<T>,
    count: u64,
}

impl<T> Drop for Loss<'_, T> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.notices.drop_count(self.count);
        }
    }
}
