//! Questions and orders to every shard, and what comes back.

use futures_channel::oneshot;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::{Command, Reply};
use crate::rights::revocation::Whose;

impl Engine {
    /// Sends every shard the same and waits for all answers.
    ///
    /// # Errors
    ///
    /// [`Code::Full`] if a shard's mailbox is.
    pub async fn ask_shards<T>(
        &self,
        mut command: impl FnMut(Reply<T>) -> Command,
    ) -> Result<Vec<T>, Problem> {
        let mut answers = Vec::new();
        for shard in 0..self.shards.len() {
            let (reply, answer) = oneshot::channel();
            self.hub.mailbox(shard).send(command(reply)).map_err(|_| Code::Full)?;
            answers.push(answer);
        }
        let mut values = Vec::with_capacity(answers.len());
        for answer in answers {
            // A shard that has ended drops the question. It has no connections to speak of.
            values.extend(answer.await.ok());
        }
        Ok(values)
    }

    /// Ends the streams of those who are meant, and says how many there were.
    ///
    /// # Errors
    ///
    /// [`Code::Full`] if a shard has too much mail.
    pub async fn end_streams(&self, whose: Whose) -> Result<u32, Problem> {
        let ended = self.ask_shards(|reply| Command::Revoke { whose: whose.clone(), reply }).await?;
        Ok(ended.iter().sum())
    }
}
