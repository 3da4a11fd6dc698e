//! Commands to every shard, and their answers.

use futures_channel::oneshot;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::{Command, Reply};
use crate::rights::revocation::Whose;

impl Engine {
    /// Sends the same command to every shard and waits for all answers.
    ///
    /// # Errors
    ///
    /// [`Code::Full`] if a shard's mailbox is full.
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
            // A shard that has ended drops the command, and has no connections left.
            values.extend(answer.await.ok());
        }
        Ok(values)
    }

    /// Ends the streams that match `whose`, and returns their number.
    ///
    /// # Errors
    ///
    /// [`Code::Full`] if a shard's mailbox is full.
    pub async fn end_streams(&self, whose: Whose) -> Result<u32, Problem> {
        let ended = self.ask_shards(|reply| Command::Revoke { whose: whose.clone(), reply }).await?;
        Ok(ended.iter().sum())
    }
}
