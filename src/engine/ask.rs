//! Commands to every shard, and their answers.

use futures_channel::oneshot::{self, Receiver};

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
        let sent = (0..self.shards.len()).map(|shard| self.send(shard, &mut command));
        let answers: Vec<_> = sent.collect::<Result<_, Problem>>()?;
        Ok(received(answers).await)
    }

    /// Sends the same command to every shard whose mailbox has room, and waits for their answers. For what is in force
    /// already, and only has to be told.
    pub async fn tell_shards<T>(&self, mut command: impl FnMut(Reply<T>) -> Command) -> Vec<T> {
        let sent = (0..self.shards.len()).map(|shard| self.send(shard, &mut command));
        let answers: Vec<_> = sent.filter_map(Result::ok).collect();
        received(answers).await
    }

    fn send<T>(
        &self,
        shard: usize,
        command: &mut impl FnMut(Reply<T>) -> Command,
    ) -> Result<Receiver<T>, Problem> {
        let (reply, answer) = oneshot::channel();
        self.hub.mailbox(shard).send(command(reply)).map_err(|_| Code::Full)?;
        Ok(answer)
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

async fn received<T>(answers: Vec<Receiver<T>>) -> Vec<T> {
    let mut values = Vec::with_capacity(answers.len());
    for answer in answers {
        // A shard that has ended drops the command, and has no connections left.
        values.extend(answer.await.ok());
    }
    values
}
