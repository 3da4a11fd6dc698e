//! Changes of access: proposed to the order, and applied when the order has them.

use std::time::{Duration, UNIX_EPOCH};

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::Command;
use crate::order::change::Change;
use crate::rights::revocation::Whose;
use crate::types::name::{RoomName, UserName};

impl Engine {
    /// Proposes `change`, and returns how many streams it ended, or told. The order in memory has no other nodes: a proposal is
    /// applied at once, after every event so far.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`], [`Code::MutesFull`] or [`Code::RevocationsFull`] if the table is full, and then nothing is
    /// changed; [`Code::Full`] if a shard has too much mail to end streams. Then new ones are refused already.
    pub async fn propose(&self, change: Change) -> Result<u32, Problem> {
        self.apply(&change).await
    }

    /// Applies `change`: first to the table that refuses new streams, then to open streams. In the other order, a
    /// browser could reconnect before it is refused.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`], [`Code::MutesFull`] or [`Code::RevocationsFull`] if the table is full; nothing is changed
    /// then. [`Code::Full`] if a shard's mailbox is full; a mute has none to end, and is in force.
    async fn apply(&self, change: &Change) -> Result<u32, Problem> {
        match change {
            Change::Disconnect { user, room, stay_away } => {
                if !stay_away.is_zero() {
                    let told = self.hub.send_away(user.as_str(), room.as_str(), *stay_away, self.clock.now());
                    told.map_err(|wait| Problem::new(Code::StayAwayFull).retry_after_s(seconds(wait)))?;
                }
                self.disconnect(user, room).await
            }
            Change::Mute { user, room, until } => self.mute(user, room, *until).await,
            Change::Unmute { user, room } => {
                self.hub.mutes().undo(user.as_str(), room.as_str());
                Ok(0)
            }
            Change::Revoke { revoked, when } => {
                self.access.revocations.add(revoked, *when).map_err(|_| Code::RevocationsFull)?;
                self.end_streams(Whose::Revoked(revoked.clone(), *when)).await
            }
        }
    }

    async fn mute(&self, user: &UserName, room: &RoomName, until: Option<u64>) -> Result<u32, Problem> {
        let end = until.map(|until| self.clock.moment_at(until));
        let muted = self.hub.mutes().put(user.as_str(), room.as_str(), end, self.clock.now());
        muted.map_err(|wait| Problem { retry_after_s: wait.map(seconds), ..Code::MutesFull.into() })?;
        let (rooms, users) = (self.hub.rooms(), self.hub.users());
        let (Some(room), Some(user)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
            return Ok(0);
        };
        let until = until.map(|until| rfc3339(until).into_boxed_str());
        let command =
            |reply| Command::Muted { user: user.clone(), room: room.clone(), until: until.clone(), reply };
        // In force whether they hear of it or not: to answer that the server is full would not be true.
        Ok(self.tell_shards(command).await.iter().sum())
    }

    async fn disconnect(&self, user: &UserName, room: &RoomName) -> Result<u32, Problem> {
        let (rooms, users) = (self.hub.rooms(), self.hub.users());
        let (Some(room), Some(user)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
            return Ok(0);
        };
        // First, because the user may have no stream left and be within its grace. It is part of this entry.
        let wakers = self.hub.presence().withdraw(&room, &user, self.clock.now());
        wakers.into_iter().for_each(std::task::Waker::wake);
        let command = |reply| Command::Disconnect { user: user.clone(), room: room.clone(), reply };
        Ok(self.ask_shards(command).await?.iter().sum())
    }
}

/// A time in seconds since 1970, as answers and events write it: `2026-11-29T08:00:00Z`.
#[must_use]
pub fn rfc3339(unix_s: u64) -> String {
    let unix_s = unix_s.min(YEAR_9999_S);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_s)).to_string()
}

/// The last second with a year of four digits.
const YEAR_9999_S: u64 = 253_402_300_799;

/// `wait` in whole seconds, at least 1.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX)
}
