//! The application's say over what its users publish: any thread asks, the upstream thread sends.
//!
//! One request for each event. At most `auth_callback_concurrency` are under way, [`QUESTIONS_MAX`] more wait for no
//! longer than an answer may take, and the next are answered [`Unheard`]. Nothing is kept: each event is its own question.
//! What a question and its answer hold is taken from whatever [`Budget`] the asker has.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex as TurnLock, OwnedMutexGuard, mpsc, oneshot};

use crate::answer::told::Told;
use crate::config::UpstreamUrl;
use crate::upstream::client::{Client, Failed};
use crate::upstream::queue::{self, Queued};
use crate::upstream::stats::{Health, Outcome, Purpose, UpstreamStats};

/// Events that may wait for their turn.
pub const QUESTIONS_MAX: usize = 1024;

/// Publishers whose turns are remembered before those that are over are looked for. Twice as many as were not over then
/// are remembered before the next look, so that a crowd does not pay for a look with each of its requests.
const TURNS_KEPT: usize = 256;

/// Requests of one user that may wait for their turn. More would let one user hold the places of all.
pub const TURN_WAITERS_MAX: usize = 16;

/// An event that a user wants to publish.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Question<'a> {
    /// The token's user; `null` if the token has none.
    pub user: Option<&'a str>,
    /// The room.
    pub room: &'a str,
    /// The event's name; `null` if it has none.
    pub event: Option<&'a str>,
    /// Its data, as subscribers would get it.
    pub data: &'a str,
}

/// What the application says about an event.
#[derive(Debug)]
pub enum Said {
    /// It may be published as it is.
    Yes,
    /// It may be published with this data.
    With(Box<RawValue>),
    /// It may not be published.
    No(Told),
}

/// What bounds the bytes that a question and its answer hold.
pub trait Budget: Send {
    /// Holds `bytes` in all from now on, until the budget is dropped. Returns false if there is no room for them; then it
    /// holds what it held before.
    fn hold(&mut self, bytes: usize) -> bool;
}

/// An answer, and the bytes that it holds together with its question.
pub type Heard = (Said, Box<dyn Budget>);

/// Why there is no answer that counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unheard {
    /// The application gave none.
    NoAnswer,
    /// There is no room for it, or for the question.
    NoRoom,
}

/// Too many requests of a user wait for their turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooMany;

/// Asks the application.
#[derive(Clone)]
pub struct Publishing {
    queue: mpsc::Sender<Job>,
    turns: Arc<Mutex<Turns>>,
    stats: Arc<UpstreamStats>,
}

/// The turns of publishers. Those that nobody waits for are forgotten in time.
#[derive(Debug, Default)]
struct Turns {
    /// By user.
    known: HashMap<Box<str>, Weak<TurnLock<()>>>,
    /// How many there are at the next look.
    look_at: usize,
}

impl Turns {
    /// The lock that is the turn of `user`.
    fn of(&mut self, user: &str) -> Arc<TurnLock<()>> {
        if let Some(lock) = self.known.get(user).and_then(Weak::upgrade) {
            return lock;
        }
        if self.known.len() >= self.look_at.max(TURNS_KEPT) {
            self.known.retain(|_, turn| turn.strong_count() > 0);
            self.look_at = 2 * self.known.len();
            self.known.shrink_to(self.look_at.max(TURNS_KEPT));
        }
        let lock = Arc::default();
        self.known.insert(user.into(), Arc::downgrade(&lock));
        lock
    }
}

/// The right to ask for one publisher. The next request of that publisher waits until it is dropped.
pub struct Turn(#[allow(dead_code, reason = "it is held, not read")] OwnedMutexGuard<()>);

struct Job {
    body: Bytes,
    budget: Box<dyn Budget>,
    answer_bytes_max: usize,
    asked: Instant,
    reply: oneshot::Sender<Result<Heard, Unheard>>,
    stats: Arc<UpstreamStats>,
}

impl Queued for Job {
    fn asked(&self) -> Instant {
        self.asked
    }

    fn is_abandoned(&mut self) -> bool {
        self.reply.is_closed()
    }

    fn give_up(self) {
        self.stats.ended(Purpose::Publish, Outcome::Busy);
        // Its asker may be gone.
        let _ = self.reply.send(Err(Unheard::NoAnswer));
    }
}

/// How the application is asked.
pub(super) struct Terms {
    pub(super) url: UpstreamUrl,
    pub(super) timeout: Duration,
    pub(super) concurrency: usize,
}

impl Publishing {
    /// Creates it, and the work that the upstream thread has to [run](Asker::run) for it.
    pub(super) fn new(terms: Terms, client: Client, stats: Arc<UpstreamStats>) -> (Self, Asker) {
        let (queue, jobs) = mpsc::channel(QUESTIONS_MAX);
        let asker = Asker { terms: Arc::new(terms), client, jobs, health: Arc::default() };
        (Self { queue, turns: Arc::default(), stats }, asker)
    }

    /// Waits for the turn of `user`. Requests of one user are asked about in the order in which they came, so that what
    /// they publish keeps that order.
    ///
    /// # Errors
    ///
    /// If [`TURN_WAITERS_MAX`] wait already.
    pub async fn turn(&self, user: &str) -> Result<Turn, TooMany> {
        let lock = self.turns.lock().of(user);
        // Whoever has the turn holds it too, and so does `lock`.
        if Arc::strong_count(&lock) >= TURN_WAITERS_MAX + 2 {
            return Err(TooMany);
        }
        Ok(Turn(lock.lock_owned().await))
    }

    /// Asks about an event, whose answer may have `answer_bytes_max`. Waits up to twice `publish_callback_timeout`: for its
    /// turn, and for the answer. An event whose future is dropped is not asked about.
    ///
    /// # Errors
    ///
    /// If there is no answer in time, an invalid one, too many others wait, or `budget` has no room.
    pub async fn ask(
        &self,
        question: &Question<'_>,
        answer_bytes_max: usize,
        mut budget: Box<dyn Budget>,
    ) -> Result<Heard, Unheard> {
        // Written first, because only then its size is known: one for each thread at a time.
        let body: Bytes = serde_json::to_vec(question).expect("texts always serialise").into();
        if !budget.hold(body.len()) {
            return Err(Unheard::NoRoom);
        }
        let (reply, answer) = oneshot::channel();
        let (asked, stats) = (Instant::now(), self.stats.clone());
        let job = Job { body, budget, answer_bytes_max, asked, reply, stats };
        if let Err(refused) = self.queue.try_send(job) {
            refused.into_inner().give_up();
        }
        answer.await.unwrap_or(Err(Unheard::NoAnswer))
    }
}

/// The upstream thread's part.
pub(super) struct Asker {
    terms: Arc<Terms>,
    client: Client,
    jobs: mpsc::Receiver<Job>,
    health: Arc<Health>,
}

impl Asker {
    /// Sends questions in turns. Runs until its future is dropped.
    pub(super) async fn run(self) {
        let Self { terms, client, jobs, health } = self;
        queue::run(jobs, terms.concurrency, terms.timeout, |job| {
            let (terms, client, health) = (terms.clone(), client.clone(), health.clone());
            async move {
                let Job { body, mut budget, answer_bytes_max, reply, stats, .. } = job;
                let held = body.len();
                let hold = |bytes| budget.hold(held + bytes);
                let asked = send(&terms, &client, body, answer_bytes_max, hold).await;
                note(&stats, &health, &asked);
                let heard = match asked {
                    Ok(said) => Ok((said, budget)),
                    Err(Failed { outcome: Outcome::Busy, .. }) => Err(Unheard::NoRoom),
                    Err(_) => Err(Unheard::NoAnswer),
                };
                // Its asker may be gone.
                let _ = reply.send(heard);
            }
        })
        .await;
    }
}

async fn send(
    terms: &Terms,
    client: &Client,
    body: Bytes,
    answer_bytes_max: usize,
    hold: impl FnMut(usize) -> bool,
) -> Result<Said, Failed> {
    let request = client
        .http()
        .post(terms.url.as_url().clone())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .body(body)
        .build()
        .map_err(|_| Failed::new(Outcome::Unreachable, "the request cannot be built"))?;
    let answer = client.ask_within(request, answer_bytes_max, terms.timeout, hold).await?;
    decide(answer.status, &answer.body)
}

fn note(stats: &UpstreamStats, health: &Health, asked: &Result<Said, Failed>) {
    let (outcome, cause) = match asked {
        Ok(Said::Yes | Said::With(_)) => (Outcome::Ok, ""),
        Ok(Said::No(_)) => (Outcome::Refused, ""),
        Err(Failed { outcome, cause }) => (*outcome, cause.as_str()),
    };
    stats.ended(Purpose::Publish, outcome);
    if outcome == Outcome::Busy {
        // That it does not fit says nothing about the application.
        return;
    }
    let (is_news, name) = (health.note(outcome), outcome.as_str());
    tracing::debug!(outcome = name, cause, "the application was asked about an event");
    if is_news && outcome.is_answer() {
        tracing::info!("the application answers publish_callback again");
    } else if is_news {
        tracing::warn!(
            outcome = name,
            cause,
            "the application does not answer publish_callback: events are refused"
        );
    }
}

impl Said {
    /// What the `body` of a yes (200) says; `None` if it is no JSON object.
    #[must_use]
    pub fn of_yes(body: &[u8]) -> Option<Self> {
        let mut members: Members = serde_json::from_slice(body).ok()?;
        let data = members.remove("data").filter(|data| data.get() != "null");
        Some(data.map_or(Self::Yes, Self::With))
    }
}

/// The members of a yes. Not a struct: serde would take an array for one.
type Members = std::collections::HashMap<String, Box<RawValue>>;

/// What an answer with this `status` and `body` says.
fn decide(status: StatusCode, body: &[u8]) -> Result<Said, Failed> {
    match status {
        StatusCode::OK => {
            let malformed = || Failed::new(Outcome::Malformed, "the body is not a JSON object");
            Said::of_yes(body).ok_or_else(malformed)
        }
        StatusCode::FORBIDDEN => Ok(Said::No(Told::read(body))),
        other => Err(Failed::new(Outcome::Status, format!("status {}", other.as_u16()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_yes_other_data_a_no_or_nothing() {
        let said = |status: u16, body: &str| {
            decide(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
        };
        assert!(matches!(said(200, "{}"), Ok(Said::Yes)));
        assert!(matches!(said(200, r#"{"data":null,"more":1}"#), Ok(Said::Yes)));
        let Ok(Said::With(data)) = said(200, r#"{"data": {"a": 1 }}"#) else { panic!("other data") };
        assert_eq!(data.get(), r#"{"a": 1 }"#);
        let Ok(Said::No(told)) = said(403, r#"{"code":"too_long","title":"Say it shorter"}"#) else {
            panic!("a no")
        };
        assert_eq!((told.code(), told.title()), ("too_long", "Say it shorter"));
        for (status, body) in
            [(200, ""), (200, "[]"), (200, "yes"), (204, ""), (302, "{}"), (500, "{}"), (401, "{}")]
        {
            assert!(said(status, body).is_err(), "{status} {body}");
        }
    }

    #[tokio::test]
    async fn requests_of_one_publisher_take_turns_and_others_do_not_wait() {
        let (queue, _jobs) = mpsc::channel(1);
        let publishing = Publishing { queue, turns: Arc::default(), stats: Arc::default() };
        let first = publishing.turn("me").await;
        let _other = publishing.turn("you").await;
        let mut second = std::pin::pin!(publishing.turn("me"));
        assert!(futures_now(second.as_mut()).is_none());
        drop(first);
        assert!(matches!(futures_now(second), Some(Ok(_))));
        for n in 0..10 * TURNS_KEPT {
            drop(publishing.turn(&n.to_string()).await);
        }
        assert!(publishing.turns.lock().known.len() <= TURNS_KEPT);
    }

    /// Each further request of a crowd looked through the turns of all.
    #[test]
    fn turns_are_looked_through_once_for_as_many_as_there_are() {
        let (mut turns, mut looks, mut before) = (Turns::default(), 0, 0);
        let crowd: Vec<_> = (0..20 * TURNS_KEPT)
            .map(|n| {
                let lock = turns.of(&n.to_string());
                looks += usize::from(turns.look_at != before);
                before = turns.look_at;
                lock
            })
            .collect();
        assert!(looks <= 5, "{looks}");
        drop(crowd);
        for n in 0..100 * TURNS_KEPT {
            drop(turns.of(&format!("other {n}")));
        }
        assert!(turns.known.len() <= TURNS_KEPT && turns.known.capacity() <= 4 * TURNS_KEPT);
    }

    #[tokio::test]
    async fn one_publisher_does_not_hold_the_places_of_all() {
        let (queue, _jobs) = mpsc::channel(1);
        let publishing = Publishing { queue, turns: Arc::default(), stats: Arc::default() };
        let first = publishing.turn("me").await;
        let mut waiting: Vec<_> = (0..TURN_WAITERS_MAX).map(|_| Box::pin(publishing.turn("me"))).collect();
        for one in &mut waiting {
            assert!(futures_now(one.as_mut()).is_none(), "it waits");
        }
        assert!(publishing.turn("me").await.is_err());
        assert!(publishing.turn("you").await.is_ok());
        waiting.pop();
        assert!(futures_now(Box::pin(publishing.turn("me")).as_mut()).is_none(), "a place is free");
        drop((first, waiting));
        assert!(publishing.turn("me").await.is_ok());
    }

    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }
}
