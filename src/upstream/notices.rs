//! Tells the application of streams that ended, in batches: streams that end while a batch is under way go with the
//! next.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::sync::watch;

use crate::config::UpstreamUrl;
use crate::shard::notice::{Notice, Notices};
use crate::types::clock::Clock;
use crate::types::moment::jittered;
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

/// The upstream thread's part.
pub(super) struct Teller {
    pub(super) notices: Arc<Notices>,
    pub(super) url: UpstreamUrl,
    pub(super) client: Client,
    pub(super) stats: Arc<UpstreamStats>,
    pub(super) clock: Clock,
    pub(super) epoch: Epoch,
    pub(super) health: Health,
}

/// A batch as JSON.
#[derive(Serialize)]
struct NoticeBody<'a> {
    /// The epoch of this server. Names of connections are unique only within one.
    epoch: &'a str,
    events: Vec<Ended<'a>>,
}

#[derive(Serialize)]
struct Ended<'a> {
    user: Option<&'a str>,
    rooms: Vec<&'a str>,
    reason: &'static str,
    /// The same name as in its `connected` event.
    connection: String,
    /// Counted from the time the batch is sent.
    opened_s_ago: f64,
    closed_s_ago: f64,
}

impl Teller {
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
    async fn tell(&self, batch: &[Notice]) {
        // Counted as lost until it has arrived: the server may end while it is under way.
        let mut loss = Loss { notices: &self.notices, count: batch.len() as u64 };
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                let wait = BACK_OFF * 2_u32.pow(attempt - 1);
                tokio::time::sleep(jittered(wait, fastrand::f64())).await;
            }
            let sent = self.send(batch).await;
            let outcome = sent.as_ref().map_or_else(|failed| failed.outcome, |()| Outcome::Ok);
            self.stats.ended(Purpose::Notice, outcome);
            self.say(outcome, sent.as_ref().map_or_else(|failed| failed.cause.as_str(), |()| ""));
            if outcome == Outcome::Ok {
                loss.count = 0;
                return;
            }
        }
    }

    async fn send(&self, batch: &[Notice]) -> Result<(), Failed> {
        let now = self.clock.now();
        let ago = |moment| now.since(moment).as_secs_f64();
        let events = batch.iter().map(|notice| Ended {
            user: notice.user.as_ref().map(|user| user.name()),
            rooms: notice.rooms.iter().map(|room| room.name()).collect(),
            reason: notice.reason.as_str(),
            connection: notice.key.name(notice.shard),
            opened_s_ago: ago(notice.opened),
            closed_s_ago: ago(notice.closed),
        });
        let body = NoticeBody { epoch: self.epoch.as_str(), events: events.collect() };
        let body = serde_json::to_vec(&body).expect("text, numbers and lists always serialise");
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
            (true, true) => tracing::info!("the application answers disconnect_callback again"),
            (true, false) => {
                let outcome = outcome.as_str();
                tracing::warn!(
                    outcome,
                    cause,
                    "the application does not accept the notices of disconnect_callback"
                );
            }
            (false, _) => {}
        }
    }
}

/// Counts notices as dropped unless they have arrived.
struct Loss<'a> {
    notices: &'a Notices,
    count: u64,
}

impl Drop for Loss<'_> {
    fn drop(&mut self) {
        if self.count > 0 {
            self.notices.drop_count(self.count);
        }
    }
}
