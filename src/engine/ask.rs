//! Questions and orders to every shard, and what comes back.

use std::sync::Arc;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::{Command, Mailbox};
use crate::rights::identity::Identity;

/// What a shard's answer is given to.
type Done<T> = Box<dyn FnOnce(T) + Send>;

/// Asks every shard the same and waits for all answers.
///
/// # Errors
///
/// [`Code::Full`] if a shard's mailbox is.
pub async fn ask_shards<T: Send + 'static>(
    engine: &Engine,
    mut command: impl FnMut(Done<T>) -> Command,
) -> Result<Vec<T>, Problem> {
    let mut answers = Vec::new();
    for shard in 0..engine.shards.len() {
        let (send, answer) = tokio::sync::oneshot::channel();
        let done = Box::new(move |value| {
            // Nobody waits any more if the request was given up.
            let _ = send.send(value);
        });
        let mailbox: &Mailbox = engine.hub.mailbox(shard);
        mailbox.send(command(done)).map_err(|_| Code::Full)?;
        answers.push(answer);
    }
    let mut values = Vec::with_capacity(answers.len());
    for answer in answers {
        // A shard that has ended drops the question. It has no connections to speak of.
        values.extend(answer.await.ok());
    }
    Ok(values)
}

/// Ends all streams of identities that are `doomed`, and says how many there were.
///
/// # Errors
///
/// [`Code::Full`] if a shard has too much mail.
pub async fn end_sessions(
    engine: &Engine,
    doomed: impl Fn(&Identity) -> bool + Send + Sync + 'static,
) -> Result<u32, Problem> {
    let doomed: Arc<dyn Fn(&Identity) -> bool + Send + Sync> = Arc::new(doomed);
    let command = |done| Command::Revoke { doomed: doomed.clone(), done };
    Ok(ask_shards(engine, command).await?.iter().sum())
}
