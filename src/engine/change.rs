//! Changes of access: proposed to the order, and applied when the order has them.

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::Command;
use crate::order::change::Change;
use crate::rights::revocation::Whose;
use crate::types::name::{RoomName, UserName};

impl Engine {
    /// Proposes `change`, and returns how many streams it ended. The order in memory has no other nodes: a proposal is
    /// applied at once, after every event so far.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`] or [`Code::RevocationsFull`] if the table is full, and then nothing is changed; [`Code::Full`] if
    /// a shard has too much mail.
    pub async fn propose(&self, change: Change) -> Result<u32, Problem> {
        self.apply(&change).await
    }

    /// Applies `change`: first to the table that refuses new streams, then to open streams. In the other order, a
    /// browser could reconnect before it is refused.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`] or [`Code::RevocationsFull`] if the table is full; nothing is changed then.
    /// [`Code::Full`] if a shard's mailbox is full.
    async fn apply(&self, change: &Change) -> Result<u32, Problem> {
        match change {
            Change::Disconnect { user, room, stay_away } => {
                if !stay_away.is_zero() {
                    let told = self.hub.send_away(user.as_str(), room.as_str(), *stay_away, self.clock.now());
                    told.map_err(|wait| {
                        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
                        Problem::new(Code::StayAwayFull).retry_after_s(seconds)
                    })?;
                }
                self.disconnect(user, room).await
            }
            Change::Revoke { revoked, when } => {
                self.access.revocations.add(revoked, *when).map_err(|_| Code::RevocationsFull)?;
                self.end_streams(Whose::Revoked(revoked.clone(), *when)).await
            }
        }
    }

    /// Ends the membership of `user` in `room` now, whatever streams it has there.
    pub fn end_presence(&self, room: &RoomName, user: &UserName) {
        let (rooms, users) = (self.hub.rooms(), self.hub.users());
        let (Some(room), Some(user)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
            return;
        };
        let wakers = self.hub.presence().withdraw(&room, &user, self.clock.now());
        wakers.into_iter().for_each(std::task::Waker::wake);
    }

    async fn disconnect(&self, user: &UserName, room: &RoomName) -> Result<u32, Problem> {
        // First, because the user may have no stream left and be within its grace.
        self.end_presence(room, user);
        let (rooms, users) = (self.hub.rooms(), self.hub.users());
        let (Some(room), Some(user)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
            return Ok(0);
        };
        let command = |reply| Command::Disconnect { user: user.clone(), room: room.clone(), reply };
        Ok(self.ask_shards(command).await?.iter().sum())
    }
}
