//! What the rest of the program sees: a handle that appends, and a follower that is told.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::order::redis::call::{Beyond, Closed, OnceKey, Repeat};
use crate::order::redis::link::{Adopted, Applied, LinkState, Placed, RefusedWhy, Settings};
use crate::order::redis::scripts::Keep;
use crate::upstream::redis::address::Address;
use crate::upstream::redis::stats::{Fate, LinkStats};

/// Is told what is in the order, on the thread of the link, in the order of the log. What takes long here delays everything.
pub trait Follower: Send {
    /// What becomes of a batch where it is applied. Whoever appended it is told.
    type Outcome: Send + 'static;

    /// A batch of the order.
    fn apply(&mut self, batch: Applied) -> Self::Outcome;

    /// The order is another one from now on, in part or as a whole. The first call of all.
    fn adopt(&mut self, adopted: Adopted);

    /// The link does something else than before.
    fn state(&mut self, state: LinkState);
}

/// What a link needs.
pub struct Setup {
    /// Where Redis is.
    pub address: Address,
    /// Where the order is in it, and how much of it is kept.
    pub keep: Keep,
    /// Times and bounds.
    pub settings: Settings,
    /// What is to have a batch beyond Redis itself when [`Handle::confirm`] says so.
    pub beyond: Option<Beyond>,
    /// What is counted.
    pub stats: Arc<LinkStats>,
    /// Bytes of batches that are not answered yet. One is always let in.
    pub unanswered_bytes_max: u32,
    /// Batches that are not answered yet.
    pub unanswered_max: usize,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Appended<O> {
    /// It is in the order, and the follower was given it, with this outcome; `None` if the log no longer had it.
    Placed(Placed, Option<O>),
    /// A key of it is known: this is what has it.
    Repeat(Repeat),
}

/// Why a batch is not appended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AppendError {
    /// Redis cannot be reached or used. The batch is not in the order, and will not be.
    Away,
    /// Too much is not answered yet. The same holds.
    Busy,
    /// Redis takes no writes. The same holds.
    Closed(Closed),
    /// The key with this index came with other content before. The same holds.
    Mismatch(usize),
    /// Redis did not answer in time. The batch may be in the order, or may come to be.
    Unknown,
    /// The thread ends. The same holds.
    Stopped,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "Redis is away",
            Self::Busy => "too much waits for Redis",
            Self::Closed(Closed::Full) => "Redis is full",
            Self::Closed(Closed::Unsafe) => "Redis takes no writes",
            Self::Mismatch(_) => "the key came with something else before",
            Self::Unknown => "Redis did not answer in time",
            Self::Stopped => "the link to Redis ends",
        })
    }
}

impl std::error::Error for AppendError {}

impl AppendError {
    /// The word for it in metrics.
    pub(super) fn fate(self) -> Fate {
        match self {
            Self::Away | Self::Stopped => Fate::Away,
            Self::Busy => Fate::Busy,
            Self::Closed(Closed::Full) => Fate::Full,
            Self::Closed(Closed::Unsafe) => Fate::Unsafe,
            Self::Mismatch(_) => Fate::Mismatch,
            Self::Unknown => Fate::Unknown,
        }
    }
}

impl From<RefusedWhy> for AppendError {
    fn from(why: RefusedWhy) -> Self {
        match why {
            RefusedWhy::Away => Self::Away,
            RefusedWhy::Busy => Self::Busy,
            RefusedWhy::Closed(closed) => Self::Closed(closed),
            RefusedWhy::Mismatch(index) => Self::Mismatch(index),
        }
    }
}

/// A batch on its way to the thread.
pub(super) struct Request<O> {
    pub(super) body: Bytes,
    pub(super) count: u32,
    pub(super) once: Vec<OnceKey>,
    pub(super) answer: oneshot::Sender<Result<Appended<O>, AppendError>>,
    /// Its share of the bytes that may be unanswered.
    pub(super) share: OwnedSemaphorePermit,
}

/// Someone who asks for a confirmation.
pub(super) type Asked = oneshot::Sender<bool>;

/// Appends to the order, from any thread.
pub struct Handle<O> {
    requests: mpsc::Sender<Request<O>>,
    confirms: mpsc::Sender<Asked>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
    stats: Arc<LinkStats>,
}

impl<O> Clone for Handle<O> {
    fn clone(&self) -> Self {
        let (requests, confirms) = (self.requests.clone(), self.confirms.clone());
        let (bytes, stats) = (self.bytes.clone(), self.stats.clone());
        Self { requests, confirms, bytes, bytes_max: self.bytes_max, stats }
    }
}

impl<O> Handle<O> {
    pub(super) fn new(
        requests: mpsc::Sender<Request<O>>,
        confirms: mpsc::Sender<Asked>,
        bytes: Arc<Semaphore>,
        bytes_max: u32,
        stats: Arc<LinkStats>,
    ) -> Self {
        Self { requests, confirms, bytes, bytes_max, stats }
    }

    /// Whether everything that was applied here before the call is in what [`Setup::beyond`] names. If this is false, it may
    /// be or may not.
    pub async fn confirm(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.confirms.try_send(answer).is_ok() && answered.await.unwrap_or(false)
    }

    /// Appends a batch of `count` events, unless one of its keys is known.
    ///
    /// If the future is dropped, the batch is appended all the same.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]: after all but two of them the batch is not in the order and will not be.
    pub async fn append(
        &self,
        body: Bytes,
        count: u32,
        once: Vec<OnceKey>,
    ) -> Result<Appended<O>, AppendError> {
        match self.request(body, count, once) {
            Ok(answered) => answered.await.unwrap_or(Err(AppendError::Stopped)),
            Err(refused) => {
                self.stats.note(refused.fate());
                Err(refused)
            }
        }
    }

    fn request(
        &self,
        body: Bytes,
        count: u32,
        once: Vec<OnceKey>,
    ) -> Result<oneshot::Receiver<Result<Appended<O>, AppendError>>, AppendError> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX).clamp(1, self.bytes_max);
        let share = self.bytes.clone().try_acquire_many_owned(length).map_err(|_| AppendError::Busy)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { body, count, once, answer, share };
        self.requests.try_send(request).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => AppendError::Busy,
            mpsc::error::TrySendError::Closed(_) => AppendError::Stopped,
        })?;
        Ok(answered)
    }
}
