//! The queue of questions to the application: so many are under way at a time, and the others wait for no longer than
//! an answer may take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// A question in the queue.
pub(super) trait Queued: Send + 'static {
    /// When it was asked.
    fn asked(&self) -> Instant;

    /// Whether nobody waits for its answer. Then it is not sent.
    fn is_abandoned(&mut self) -> bool;

    /// Ends it unsent: too many are before it.
    fn give_up(self);
}

/// Has `send` send the questions in `queue`, at most `concurrency` at a time. Those that wait for longer
/// than `patience` are given up. Runs until all that ask are gone; dropping it ends all that are under way.
pub(super) async fn run<Q: Queued, F: Future<Output = ()> + Send + 'static>(
    mut queue: mpsc::Receiver<Q>,
    concurrency: usize,
    patience: Duration,
    send: impl Fn(Q) -> F,
) {
    let turns = Arc::new(Semaphore::new(concurrency));
    // Owns every request under way: dropping it ends them.
    let mut requests = JoinSet::new();
    loop {
        let turn = turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Some(mut question) = queue.recv().await else { return };
        while requests.try_join_next().is_some() {}
        if question.is_abandoned() {
            continue;
        }
        if question.asked().elapsed() > patience {
            question.give_up();
            continue;
        }
        let request = send(question);
        requests.spawn(async move {
            request.await;
            drop(turn);
        });
    }
}
