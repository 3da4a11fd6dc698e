//! An order that several nodes follow: how a node publishes to it, and what a node does with each batch that it reads.
//!
//! A batch is one publish, or one change of access. It is appended as it is proposed, and *decided about where it is
//! applied*: on every node, in the order of the log, with the time of the log. So two nodes that publish the same own id,
//! or versions of one key, at the same moment have the same result everywhere. Each event of a batch has its position by its
//! index, whatever is decided: nodes that remember different things may differ in what they show, and never in what an id
//! means.
//!
//! Idempotency keys are decided in Redis itself, for all nodes at once.

use std::collections::HashSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::nodes::{Peers, Place};
use crate::hub::Published;
use crate::hub::draft::{Claim, Draft};
use crate::hub::own_ids::Repeats;
use crate::hub::presence::report::By;
use crate::order::change::Change;
use crate::order::claims::RequestClaim;
use crate::order::disk::kept::Kept;
use crate::order::entry::{self, Entry};
use crate::order::redis::call::{Closed, OnceKey, Repeat};
use crate::order::redis::link::{Adopted, Applied, LinkState, Loss};
use crate::order::refused::{Refused, Why};
use crate::types::clock::since_1970;
use crate::upstream::redis::stats::LinkStats;
use crate::upstream::redis::{AppendError, Appended, Follower, Handle};

/// What became of a batch of this node.
pub enum Outcome {
    /// It was a publish.
    Published(Result<Published, Refused>),
    /// It was a change. The future is the number of streams that it ended, or told.
    Changed(Pin<Box<dyn Future<Output = Result<u32, Problem>> + Send>>),
    /// The node has lost the order, and starts anew.
    Lost,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Published(result) => f.debug_tuple("Published").field(result).finish(),
            Self::Changed(_) => f.write_str("Changed"),
            Self::Lost => f.write_str("Lost"),
        }
    }
}

/// A node's way to the order.
pub struct Shared {
    handle: Handle<Outcome>,
    state: Arc<State>,
    /// Whether a publish is answered only once something beyond Redis has it.
    confirms: bool,
    /// The counters of the link.
    pub stats: Arc<LinkStats>,
}

/// What the thread that follows tells the others.
pub struct State {
    link: Mutex<LinkState>,
    kept: Mutex<Carried>,
    peers: Peers,
    /// How much may be appended behind a change before it is appended again.
    carry_bytes: u64,
    carry_age: Duration,
}

/// Changes in force, and how far the log has gone on.
#[derive(Default)]
struct Carried {
    kept: Kept,
    /// Bytes that were applied.
    bytes: u64,
    /// How much had been applied, and when, at every tenth of what may be.
    marks: Vec<(u64, u64, u64)>,
}

impl State {
    /// Nothing is followed yet. `bytes_max` and `age_max` are how much of the log is kept.
    #[must_use]
    pub fn new(bytes_max: u64, age_max: Duration) -> Arc<Self> {
        // Each node waits for another share, so that one of them appends for all.
        let share = 0.4 + 0.4 * fastrand::f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "about so many bytes"
        )]
        let carry_bytes = (bytes_max as f64 * share) as u64;
        let (link, kept) = (Mutex::new(LinkState::Connecting), Mutex::default());
        Arc::new(Self { link, kept, peers: Peers::default(), carry_bytes, carry_age: age_max.mul_f64(share) })
    }

    /// What the link does.
    #[must_use]
    pub fn link(&self) -> LinkState {
        *self.link.lock()
    }

    /// The other nodes.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }
}

impl Shared {
    /// Publishes by `handle`; and `confirms` each publish if something beyond Redis is to have it.
    #[must_use]
    pub fn new(handle: Handle<Outcome>, state: Arc<State>, confirms: bool, stats: Arc<LinkStats>) -> Self {
        Self { handle, state, confirms, stats }
    }

    /// What the link does.
    #[must_use]
    pub fn link(&self) -> LinkState {
        self.state.link()
    }

    /// The other nodes.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        self.state.peers()
    }

    /// Appends what this node says to the others. Returns whether the order has it.
    pub(super) async fn append_report(&self, body: Bytes) -> bool {
        self.handle.append(body, 1, Vec::new()).await.is_ok()
    }

    /// Publishes `drafts`. Those whose key is known are left out, and the others published.
    ///
    /// # Errors
    ///
    /// If one of them is refused, or the order cannot be reached.
    pub async fn publish(
        &self,
        engine: &Engine,
        mut drafts: Vec<Draft>,
        request: Option<RequestClaim>,
        repeats: Repeats,
    ) -> Result<Published, Refused> {
        let request = request.map(|request| request.claim);
        let mut indices: Vec<usize> = (0..drafts.len()).collect();
        let (mut before, mut stop) = (Published::default(), None);
        while !drafts.is_empty() {
            if engine.lifecycle.is_lost() {
                return Err(Refused::whole(Why::Away));
            }
            let (once, owners) = once_keys(&drafts, request.as_ref());
            let count = u32::try_from(drafts.len()).expect("at most 4,096 events");
            let appended = self.handle.append(body(&drafts, request.as_ref(), repeats), count, once).await;
            match appended {
                // It is in another order than the one by which this node would name it.
                Ok(_) if engine.lifecycle.is_lost() => return Err(Refused::whole(Why::Unknown)),
                Ok(Appended::Placed(placed, outcome)) => {
                    let result = match outcome {
                        Some(Outcome::Published(result)) => result,
                        // The log was trimmed before this node read so far.
                        None => Ok(Published { events: count, ..Published::one(placed.last, 0) }),
                        Some(Outcome::Changed(_) | Outcome::Lost) => Err(Refused::whole(Why::Unknown)),
                    };
                    return finish(before, result, &indices, stop);
                }
                Ok(Appended::Repeat(repeat)) => match owners[repeat.index] {
                    None => return Ok(first_answer(engine, request.as_ref(), &repeat)),
                    Some(at) => {
                        before.add(&first_event(engine, &drafts[at], &repeat));
                        drafts.remove(at);
                        indices.remove(at);
                    }
                },
                Err(AppendError::Mismatch(index)) => {
                    let at = owners[index];
                    let Some(at) = at.filter(|_| repeats == Repeats::EndThere) else {
                        let index = at.map(|at| indices[at]);
                        return Err(Refused { index, ..Refused::whole(Why::Mismatch) });
                    };
                    stop = Some((indices[at], Why::Mismatch));
                    drafts.truncate(at);
                    indices.truncate(at);
                }
                Err(err) => return Err(Refused::whole(err.into())),
            }
        }
        engine.order.count(&before);
        finish(before, Ok(Published::default()), &indices, stop)
    }

    /// Waits until everything that was applied here so far is where the setting `order_ack` wants it.
    ///
    /// # Errors
    ///
    /// [`Why::Unknown`], if it may be or may not.
    pub async fn confirm(&self, engine: &Engine) -> Result<(), Refused> {
        if !self.confirms {
            return Ok(());
        }
        // If the order is lost, what was confirmed is another one.
        let is_there = self.handle.confirm().await && !*engine.lifecycle.lost.borrow();
        if is_there { Ok(()) } else { Err(Refused::whole(Why::Unknown)) }
    }

    /// Appends `change`, which can be forgotten at `until`, in seconds since 1970. Returns how many streams of this node it ended,
    /// or told.
    ///
    /// # Errors
    ///
    /// If the order cannot be reached, or there is no place for the change here.
    pub async fn change(&self, engine: &Engine, change: &Change, until: u64) -> Result<u32, Problem> {
        let mut body = vec![entry::VERSION];
        entry::put_change(change, until, &mut body);
        let appended = self.handle.append(body.into(), 1, Vec::new()).await;
        match appended.map_err(|err| Problem::new(Why::from(err).into()))? {
            Appended::Placed(_, Some(Outcome::Changed(ended))) => {
                let ended = ended.await?;
                self.confirm(engine).await.map_err(|refused| Problem::new(refused.why.into()))?;
                Ok(ended)
            }
            Appended::Placed(..) | Appended::Repeat(_) => Err(Code::PublishUnknown.into()),
        }
    }

    /// Appends the changes in force again that the log may soon no longer have.
    pub async fn carry(&self) {
        let now = since_1970().as_secs();
        let State { carry_bytes, carry_age, .. } = *self.state;
        let due = self.state.kept.lock().due(carry_bytes, carry_age, now);
        for (change, until) in due {
            let mut body = vec![entry::VERSION];
            entry::put_change(&change, until, &mut body);
            if self.handle.append(body.into(), 1, Vec::new()).await.is_err() {
                return;
            }
        }
    }
}

impl Carried {
    /// The changes behind which more than `bytes` were applied, or that are older than `age`.
    fn due(&mut self, bytes: u64, age: Duration, unix_s: u64) -> Vec<(Change, u64)> {
        let is_far = |(_, applied, at): &&(u64, u64, u64)| {
            self.bytes - applied > bytes || unix_s.saturating_sub(*at) > age.as_secs()
        };
        let Some((position, ..)) = self.marks.iter().rev().find(is_far).copied() else {
            return Vec::new();
        };
        self.marks.retain(|(mark, ..)| *mark > position);
        self.kept.up_to(position, unix_s)
    }

    fn applied(&mut self, batch: &Applied) {
        self.bytes += batch.body.len() as u64 + ENTRY_BYTES;
        let unix_s = batch.time_ms / 1000;
        let is_new = |(_, bytes, at): &(u64, u64, u64)| {
            self.bytes - bytes >= MARK_BYTES || unix_s.saturating_sub(*at) >= MARK_S
        };
        if self.marks.last().is_none_or(is_new) {
            self.marks.push((batch.first, self.bytes, unix_s));
        }
        if self.marks.len() > MARKS_MAX {
            self.marks.remove(0);
        }
    }
}

/// What an entry takes in Redis beyond its body, about.
const ENTRY_BYTES: u64 = 64;
/// A mark is set every so many bytes and seconds.
const MARK_BYTES: u64 = 1 << 20;
const MARK_S: u64 = 60;
/// Marks that are remembered. What is before them is due.
const MARKS_MAX: usize = 4096;

/// The batch of a publish.
fn body(drafts: &[Draft], request: Option<&Claim>, repeats: Repeats) -> Bytes {
    let mut body = vec![entry::VERSION];
    entry::put_publish(request, repeats, &mut body);
    for draft in drafts {
        entry::put_event(draft, &mut body);
        entry::put_subscribers(0, &mut body);
    }
    body.into()
}

/// The keys of a publish, each once, and the index of the event that each is of; `None` if it is the request's.
fn once_keys(drafts: &[Draft], request: Option<&Claim>) -> (Vec<OnceKey>, Vec<Option<usize>>) {
    let (mut keys, mut owners, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    let count = u32::try_from(drafts.len()).expect("at most 4,096 events");
    let key = |claim: &Claim, first, count| {
        let Claim { key, content, time } = *claim;
        OnceKey { key, content, time, first, count }
    };
    if let Some(claim) = request {
        keys.push(key(claim, 0, count));
        owners.push(None);
        seen.insert(claim.key);
    }
    for (draft, (at, index)) in drafts.iter().zip((0..).zip(0_u32..)) {
        // One that comes twice in a batch is a repeat within it, which is decided where it is applied.
        if let Some(claim) = draft.claims.once.as_ref().filter(|claim| seen.insert(claim.key)) {
            keys.push(key(claim, index, 1));
            owners.push(Some(at));
        }
    }
    (keys, owners)
}

/// The answer of the first request with a claim: what this node remembers, else what Redis does.
fn first_answer(engine: &Engine, claim: Option<&Claim>, repeat: &Repeat) -> Published {
    let known = claim.and_then(|claim| engine.order.answer_to(claim, engine.clock.now()).ok().flatten());
    let events = u32::try_from(repeat.last - repeat.first + 1).unwrap_or(u32::MAX);
    let remembered = Published { events, is_repeat: true, ..Published::one(repeat.last, 0) };
    known.unwrap_or(remembered)
}

/// The same for an event.
fn first_event(engine: &Engine, draft: &Draft, repeat: &Repeat) -> Published {
    let first = first_answer(engine, draft.claims.once.as_ref(), repeat);
    Published { events: 0, skipped: 0, replayed: 1, is_repeat: false, ..first }
}

/// The result of a publish whose events are those at `indices`, after `before` became of others.
fn finish(
    before: Published,
    result: Result<Published, Refused>,
    indices: &[usize],
    stop: Option<(usize, Why)>,
) -> Result<Published, Refused> {
    let sum = |published: &Published| {
        let mut sum = *published;
        sum.add(&before);
        sum
    };
    let is_any = |published: &Published| published.events + published.skipped + published.replayed > 0;
    match (result, stop) {
        (Ok(published), None) => Ok(sum(&published)),
        (Ok(published), Some((index, why))) => {
            Err(Refused { index: Some(index), why, before: Some(sum(&published)).filter(is_any) })
        }
        (Err(refused), _) => {
            let index = refused.index.and_then(|index| indices.get(index)).copied();
            let before = sum(&refused.before.unwrap_or_default());
            Err(Refused { index, why: refused.why, before: Some(before).filter(is_any) })
        }
    }
}

impl From<AppendError> for Why {
    fn from(err: AppendError) -> Self {
        match err {
            AppendError::Unknown => Self::Unknown,
            AppendError::Closed(Closed::Full) => Self::StoreFull,
            AppendError::Mismatch(_) => Self::Mismatch,
            _ => Self::Away,
        }
    }
}

/// What this node does with the order that it reads.
pub struct Following {
    engine: Arc<Engine>,
    state: Arc<State>,
    /// Told once everything is read, before which nobody listens.
    caught_up: Option<mpsc::Sender<()>>,
    is_lost: bool,
}

impl Following {
    /// Applies to `engine`. `caught_up` is told once everything that is there has been read.
    #[must_use]
    pub fn new(engine: Arc<Engine>, state: Arc<State>, caught_up: mpsc::Sender<()>) -> Self {
        Self { engine, state, caught_up: Some(caught_up), is_lost: false }
    }

    fn read(&mut self, batch: &Applied) -> Outcome {
        let (mut drafts, mut publish, mut outcome) = (Vec::new(), (None, Repeats::RefuseAll), None);
        let mut reports = Vec::new();
        let read = entry::read(&batch.body, |entry| match entry {
            Entry::Event(draft, _) => drafts.push(*draft),
            Entry::Publish(request, repeats) => publish = (request, repeats),
            Entry::Change(change, until) => outcome = Some((change, until)),
            Entry::Report(from, report) => reports.push((from, *report)),
            Entry::Answer(..) | Entry::Tick => {}
        });
        if let Err(err) = read {
            tracing::error!(%err, position = batch.first, "the order has a batch that cannot be read");
            return self.lose();
        }
        if let Some((change, until)) = outcome {
            let unix_s = since_1970().as_secs();
            self.state.kept.lock().kept.put(&change, until, batch.first, unix_s);
            let by = if batch.mine.is_some() { By::Here } else { By::Elsewhere { knew: true } };
            return Outcome::Changed(self.change(change, until, by));
        }
        let place =
            Place { position: batch.first, time_ms: batch.time_ms, is_live: self.caught_up.is_none() };
        for (from, report) in reports {
            self.state.peers.apply(&self.engine, from, report, place);
        }
        let (request, repeats) = publish;
        let now = self.engine.clock.now();
        let age_ms = unix_ms().saturating_sub(batch.time_ms);
        let then = now.before(Duration::from_millis(age_ms));
        let order = &self.engine.order;
        let published = order.apply_shared(batch.first, batch.count, drafts, request, repeats, then);
        Outcome::Published(published)
    }

    /// Applies `change`, so far as that does not wait: afterwards the tables refuse, and the shards have been told.
    fn change(
        &self,
        change: Change,
        until: u64,
        by: By,
    ) -> Pin<Box<dyn Future<Output = Result<u32, Problem>> + Send>> {
        if self.caught_up.is_some() {
            if until > since_1970().as_secs() {
                self.engine.restore(&change, until);
            }
            return Box::pin(async { Ok(0) });
        }
        let engine = self.engine.clone();
        let mut ended: Pin<Box<dyn Future<Output = Result<u32, Problem>> + Send>> =
            Box::pin(async move { engine.apply(&change, by).await });
        match ended.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(result) => Box::pin(async { result }),
            std::task::Poll::Pending => ended,
        }
    }

    fn lose(&mut self) -> Outcome {
        self.is_lost = true;
        self.engine.lifecycle.lost.send_replace(true);
        Outcome::Lost
    }
}

impl Follower for Following {
    type Outcome = Outcome;

    fn apply(&mut self, batch: Applied) -> Outcome {
        if self.is_lost {
            return Outcome::Lost;
        }
        self.state.kept.lock().applied(&batch);
        self.read(&batch)
    }

    fn adopt(&mut self, adopted: Adopted) {
        let hub = &self.engine.hub;
        match adopted.loss {
            _ if self.is_lost => {}
            Loss::Start => hub.start_after(adopted.from, adopted.lineage),
            Loss::Nothing => {
                hub.go_on(adopted.lineage);
                hub.skip_to(adopted.from);
            }
            // Offsets may come again that streams here have passed. Nothing of this life can be continued.
            loss => {
                tracing::warn!(?loss, from = adopted.from, "what this node had of the order is lost in part");
                self.lose();
            }
        }
    }

    fn state(&mut self, state: LinkState) {
        *self.state.link.lock() = state;
        if state == LinkState::Live
            && let Some(caught_up) = self.caught_up.take()
        {
            // Nobody waits any more if the server ends.
            let _ = caught_up.send(());
        }
    }
}

fn unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}
