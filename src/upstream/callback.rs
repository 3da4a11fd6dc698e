//! Authorisation by the application: any thread asks, the upstream thread sends.
//!
//! Single-flight: equal questions at the same time are one request. Decisions, refusals too, are kept for a short
//! while; failures are never kept. At most `auth_callback_concurrency` requests are under way, [`QUESTIONS_MAX`] more
//! wait for no longer than an answer may take, and the next are answered [`Denied::Busy`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use tokio::sync::{mpsc, watch};

use crate::config::UpstreamUrl;
use crate::rights::grant::PermissionError;
use crate::rights::identity::Identity;
use crate::types::clock::since_1970;
use crate::types::histogram::micros;
use crate::upstream::answer::{ANSWER_BYTES_MAX, Decided, Times, decide};
use crate::upstream::client::{Client, Failed};
use crate::upstream::question::{Key, Question};
use crate::upstream::queue::{self, Queued};
use crate::upstream::stats::{Health, Outcome, Purpose, UpstreamStats};
use crate::upstream::{Denied, Verdict};

/// Questions that may wait for their turn.
pub const QUESTIONS_MAX: usize = 1024;

/// Approximate bytes of decisions that are kept.
pub const DECISIONS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How the application is asked.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) url: UpstreamUrl,
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
    /// How long a decision is kept, if at all.
    pub(super) keep: Option<Duration>,
}

/// Asks the application. Cheap to clone.
#[derive(Clone)]
pub struct Callback {
    questions: Arc<Questions>,
    queue: mpsc::Sender<Job>,
}

impl Callback {
    /// Creates a callback, and the work that the upstream thread has to [run](Asker::run) for it.
    pub(super) fn new(terms: Terms, client: Client, stats: Arc<UpstreamStats>) -> (Self, Asker) {
        let (queue, jobs) = mpsc::channel(QUESTIONS_MAX);
        let decisions = terms.keep.map(|keep| Decisions::new(keep, DECISIONS_BYTES_MAX));
        let questions =
            Arc::new(Questions { inner: Mutex::new(Inner { flights: HashMap::new(), decisions }), stats });
        let asker = Asker { terms: Arc::new(terms), client, jobs, said: Arc::default() };
        (Self { questions, queue }, asker)
    }

    /// Asks `question`. Waits up to twice `auth_callback_timeout`: for its turn, and for the answer. A yes that is kept
    /// counts only while it `holds`. Dropping the future stops waiting; a question without waiters is not sent.
    ///
    /// # Errors
    ///
    /// A refusal by the application, or the reason why it could not be asked.
    pub async fn ask(&self, question: Question, holds: impl Fn(&Identity) -> bool) -> Verdict {
        let mut answer = match self.join(question, holds) {
            Attempt::Decided(verdict) => return verdict,
            Attempt::Waiting(answer) => answer,
        };
        let told = answer.wait_for(Option::is_some).await;
        told.map_or(Err(Denied::Down), |verdict| verdict.clone().unwrap_or(Err(Denied::Down)))
    }

    fn join(&self, question: Question, holds: impl Fn(&Identity) -> bool) -> Attempt {
        let body = question.body();
        let key = question.key(&body);
        let now = Instant::now();
        let mut inner = self.questions.inner.lock();
        let kept = inner.decisions.as_ref().and_then(|decisions| decisions.get(&key, now));
        if let Some(verdict) =
            kept.filter(|verdict| verdict.as_ref().map_or(true, |identity| holds(identity)))
        {
            return Attempt::Decided(verdict);
        }
        if let Some(flight) = inner.flights.get(&key) {
            return Attempt::Waiting(flight.subscribe());
        }
        let (sender, answer) = watch::channel(None);
        let flight = Arc::new(sender);
        inner.flights.insert(key, flight.clone());
        drop(inner);
        let job =
            Job { questions: self.questions.clone(), key, question, body, flight, asked: now, ended: false };
        match self.queue.try_send(job) {
            Err(mpsc::error::TrySendError::Full(job)) => job.give_up(),
            // Dropping the job answers its waiters.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
        Attempt::Waiting(answer)
    }
}

enum Attempt {
    Decided(Verdict),
    Waiting(watch::Receiver<Option<Verdict>>),
}

/// Sends the answer of a question under way to all that wait for it.
type Flight = Arc<watch::Sender<Option<Verdict>>>;

/// The state that all askers share.
struct Questions {
    inner: Mutex<Inner>,
    stats: Arc<UpstreamStats>,
}

struct Inner {
    /// Questions under way or in the queue; never more than both allow.
    flights: HashMap<Key, Flight>,
    decisions: Option<Decisions>,
}

/// A question in the queue or under way. Dropping it tells its waiters that the application is down.
struct Job {
    questions: Arc<Questions>,
    key: Key,
    question: Question,
    body: Bytes,
    flight: Flight,
    asked: Instant,
    ended: bool,
}

impl Job {
    /// Answers all waiters, and keeps a decision for later questions.
    fn end(mut self, verdict: Verdict) {
        self.tell(verdict);
    }

    fn tell(&mut self, verdict: Verdict) {
        self.ended = true;
        let mut inner = self.questions.inner.lock();
        if let Some(decisions) = &mut inner.decisions {
            decisions.keep(self.key, &verdict, Instant::now(), since_1970().as_secs());
        }
        inner.flights.remove(&self.key);
        drop(inner);
        // Waiters joined before the removal, so all of them get the verdict.
        self.flight.send_replace(Some(verdict));
    }
}

impl Queued for Job {
    fn asked(&self) -> Instant {
        self.asked
    }

    fn is_abandoned(&mut self) -> bool {
        // While the lock is held, no waiter can join.
        let mut inner = self.questions.inner.lock();
        let abandoned = self.flight.receiver_count() == 0;
        if abandoned {
            inner.flights.remove(&self.key);
            self.ended = true;
        }
        abandoned
    }

    fn give_up(self) {
        self.questions.stats.ended(Purpose::Callback, Outcome::Busy);
        tracing::debug!("too many questions wait for the application");
        self.end(Err(Denied::Busy));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Err(Denied::Down));
        }
    }
}

/// The upstream thread's part.
pub(super) struct Asker {
    terms: Arc<Terms>,
    client: Client,
    jobs: mpsc::Receiver<Job>,
    said: Arc<Said>,
}

impl Asker {
    /// Sends questions in turns. Runs until its future is dropped.
    pub(super) async fn run(self) {
        let Self { terms, client, jobs, said } = self;
        queue::run(jobs, terms.concurrency, terms.timeout, |job| {
            let (terms, client, said) = (terms.clone(), client.clone(), said.clone());
            async move {
                let verdict = send(&terms, &client, &said, &job).await;
                job.end(verdict);
            }
        })
        .await;
    }
}

async fn send(terms: &Terms, client: &Client, said: &Said, job: &Job) -> Verdict {
    let (sent, sent_at) = (Instant::now(), since_1970().as_secs());
    let asked = async {
        let request = client
            .http()
            .post(terms.url.as_url().clone())
            .headers(job.question.credentials.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .body(job.body.clone())
            .build()
            .map_err(|_| Failed::new(Outcome::Unreachable, "the request cannot be built"))?;
        let answer = client.ask(request, ANSWER_BYTES_MAX, terms.timeout).await?;
        // The answer may not include revocations that happened since it was asked.
        decide(
            &job.question,
            answer.status,
            &answer.body,
            Times { asked: sent_at, answered: since_1970().as_secs() },
        )
    };
    let decided = asked.await;
    let stats = &job.questions.stats;
    stats.callback.record(micros(sent.elapsed()), 1);
    let (outcome, cause) = match &decided {
        Ok(Decided { verdict: Ok(_), .. }) => (Outcome::Ok, ""),
        Ok(Decided { verdict: Err(_), .. }) => (Outcome::Refused, ""),
        Err(Failed { outcome, cause }) => (*outcome, cause.as_str()),
    };
    stats.ended(Purpose::Callback, outcome);
    said.say(outcome, cause);
    let Ok(Decided { verdict, misunderstood }) = decided else { return Err(Denied::Down) };
    said.say_misunderstood(&misunderstood);
    verdict
}

/// What was logged about the application already.
#[derive(Default)]
struct Said {
    health: Health,
    misunderstood: AtomicBool,
}

impl Said {
    fn say(&self, outcome: Outcome, cause: &str) {
        let (is_news, name) = (self.health.note(outcome), outcome.as_str());
        tracing::debug!(outcome = name, cause, "the application was asked");
        match outcome {
            _ if !is_news => {}
            _ if outcome.is_answer() => tracing::info!("the application answers auth_callback again"),
            Outcome::Status | Outcome::Malformed => {
                tracing::warn!(outcome = name, cause, "the application's answer to auth_callback is invalid");
            }
            _ => tracing::warn!(outcome = name, cause, "the application does not answer auth_callback"),
        }
    }

    /// Warns once: a permission that was meant to let a subscriber in is ignored, and the next answers will have the
    /// same mistake.
    fn say_misunderstood(&self, misunderstood: &[(usize, PermissionError)]) {
        for (index, err) in misunderstood {
            let entry = index + 1;
            if self.misunderstood.swap(true, Ordering::Relaxed) {
                tracing::debug!(entry, %err, "a permission in the application's answer is invalid");
            } else {
                tracing::warn!(entry, %err, "a permission in the application's answer is invalid");
            }
        }
    }
}

/// Decisions that are kept.
struct Decisions {
    keep: Duration,
    table: Cache<Key, Decision, DecisionWeight>,
}

#[derive(Clone)]
struct Decision {
    verdict: Verdict,
    until: Instant,
}

#[derive(Clone)]
struct DecisionWeight;

/// Bytes of a decision without its names.
const DECISION_BYTES: u64 = 512;

impl Weighter<Key, Decision> for DecisionWeight {
    fn weight(&self, _: &Key, decision: &Decision) -> u64 {
        let grant = decision.verdict.as_ref().map_or(0, |identity| identity.grant.bytes());
        DECISION_BYTES + grant as u64
    }
}

impl Decisions {
    fn new(keep: Duration, bytes_max: u64) -> Self {
        let count = usize::try_from(bytes_max / DECISION_BYTES).unwrap_or(usize::MAX);
        Self { keep, table: Cache::with_weighter(count, bytes_max, DecisionWeight) }
    }

    fn get(&self, key: &Key, now: Instant) -> Option<Verdict> {
        let decision = self.table.get(key)?;
        (now < decision.until).then(|| decision.verdict.clone())
    }

    /// Keeps a decision, and ignores failures. `unix_s` is the current time in seconds since 1970.
    fn keep(&mut self, key: Key, verdict: &Verdict, now: Instant, unix_s: u64) {
        let time = match verdict {
            Ok(identity) => identity.expires.map_or(self.keep, |expires| {
                self.keep.min(Duration::from_secs(expires.saturating_sub(unix_s)))
            }),
            Err(Denied::Unauthorized | Denied::Forbidden) => self.keep,
            Err(Denied::Down | Denied::Busy) => return,
        };
        self.table.insert(key, Decision { verdict: verdict.clone(), until: now + time });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::grant::{Grant, Permission};
    use crate::rights::identity::KeyId;

    const KEEP: Duration = Duration::from_secs(5);

    fn identity(expires: Option<u64>, rooms: usize) -> Arc<Identity> {
        let grant: Grant = (0..rooms).map(|room| Permission::to_read(&format!("{room:0128}"))).collect();
        Arc::new(Identity {
            user: None,
            token: None,
            issued: Some(900),
            expires,
            grant: Arc::new(grant),
            key: KeyId::APPLICATION,
            api_key: None,
        })
    }

    #[test]
    fn decisions_hold_for_their_time_and_failures_not_at_all() {
        let mut decisions = Decisions::new(KEEP, DECISIONS_BYTES_MAX);
        let now = Instant::now();
        for (at, verdict) in
            [Ok(identity(None, 1)), Err(Denied::Unauthorized), Err(Denied::Forbidden)].iter().enumerate()
        {
            let key = [u8::try_from(at).unwrap(); 32];
            decisions.keep(key, verdict, now, 1000);
            assert_eq!(decisions.get(&key, now + KEEP / 2).as_ref(), Some(verdict));
            assert_eq!(decisions.get(&key, now + KEEP), None);
        }
        for verdict in [Err(Denied::Down), Err(Denied::Busy)] {
            decisions.keep([9; 32], &verdict, now, 1000);
            assert_eq!(decisions.get(&[9; 32], now), None);
        }
    }

    #[test]
    fn a_decision_does_not_outlive_what_it_allows() {
        let mut decisions = Decisions::new(KEEP, DECISIONS_BYTES_MAX);
        let now = Instant::now();
        decisions.keep([1; 32], &Ok(identity(Some(1002), 1)), now, 1000);
        assert!(decisions.get(&[1; 32], now + Duration::from_secs(1)).is_some());
        assert_eq!(decisions.get(&[1; 32], now + Duration::from_secs(2)), None);
    }

    #[test]
    fn decisions_are_bounded_in_bytes() {
        let bytes_max = 1024 * 1024;
        let mut decisions = Decisions::new(KEEP, bytes_max);
        for at in 0..2000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&at.to_be_bytes());
            decisions.keep(key, &Ok(identity(None, 64)), Instant::now(), 1000);
        }
        assert!(decisions.table.weight() <= bytes_max);
        assert!((1..200).contains(&decisions.table.len()), "{}", decisions.table.len());
    }
}
