//! Changes of access: proposed to the order, and applied when the order has them.

use std::time::{Duration, UNIX_EPOCH};

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::hub::mailbox::Command;
use crate::hub::presence::report::By;
use crate::order::change::Change;
use crate::rights::revocation::Whose;
use crate::types::name::{RoomName, UserName};

impl Engine {
    /// Applies `change`, and commits it where the order has to. Returns how many streams it ended, or told. It is applied
    /// first, because it must not be committed if there is no place for it.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`], [`Code::MutesFull`] or [`Code::RevocationsFull`] if the table is full, and then nothing is
    /// changed; [`Code::Full`] if a shard has too much mail to end streams. Then new ones are refused already.
    /// [`Code::DiskFull`] or [`Code::OrderUnavailable`] if it cannot be committed: then it is in force until a restart.
    pub async fn propose(&self, change: Change) -> Result<u32, Problem> {
        if let Some(shared) = self.shared.get() {
            return match self.end_of(&change) {
                Some(until) => shared.change(self, &change, until).await,
                None => shared.change(self, &change, self.clock.unix_s() + 1).await,
            };
        }
        let ended = self.apply(&change, By::Here).await?;
        if let (Some(proposals), Some(until)) = (&self.proposals, self.end_of(&change)) {
            proposals.change(change, until).await.map_err(|refused| Problem::new(refused.why.into()))?;
        }
        Ok(ended)
    }

    /// When `change` can be forgotten, in seconds since 1970. `None` if there is nothing to remember.
    fn end_of(&self, change: &Change) -> Option<u64> {
        let now = self.clock.unix_s();
        match change {
            Change::Disconnect { stay_away, .. } => {
                (!stay_away.is_zero()).then(|| now + stay_away.as_secs() + 1)
            }
            Change::Mute { until, .. } => Some(until.unwrap_or(u64::MAX)),
            Change::Unmute { .. } => Some(u64::MAX),
            Change::Revoke { .. } => Some(now + self.config.revocation_time.as_secs()),
        }
    }

    /// Applies a change of an earlier life again, which is in force until `until`, in seconds since 1970. There are no streams
    /// yet.
    pub fn restore(&self, change: &Change, until: u64) {
        let now = self.clock.now();
        let restored = match change {
            Change::Disconnect { user, room, .. } => {
                let left = self.clock.moment_at(until).since(now);
                self.hub.send_away(user.as_str(), room.as_str(), left, now).is_ok()
            }
            Change::Mute { user, room, until } => {
                let end = until.map(|until| self.clock.moment_at(until));
                self.hub.mutes().put(user.as_str(), room.as_str(), end, now).is_ok()
            }
            // What it undid is not restored.
            Change::Unmute { .. } => true,
            Change::Revoke { revoked, when } => self.access.revocations.add(revoked, *when).is_ok(),
        };
        if !restored {
            tracing::error!(?change, "a change of access finds no place after the restart");
        }
    }

    /// Applies `change`: first to the table that refuses new streams, then to open streams. In the other order, a
    /// browser could reconnect before it is refused.
    ///
    /// # Errors
    ///
    /// [`Code::StayAwayFull`], [`Code::MutesFull`] or [`Code::RevocationsFull`] if the table is full; nothing is changed
    /// then. [`Code::Full`] if a shard's mailbox is full; a mute has none to end, and is in force.
    pub(super) async fn apply(&self, change: &Change, by: By) -> Result<u32, Problem> {
        match change {
            Change::Disconnect { user, room, stay_away } => {
                if !stay_away.is_zero() {
                    let told = self.hub.send_away(user.as_str(), room.as_str(), *stay_away, self.clock.now());
                    told.map_err(|wait| Problem::new(Code::StayAwayFull).retry_after_s(seconds(wait)))?;
                }
                self.disconnect(user, room, by).await
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

    async fn disconnect(&self, user: &UserName, room: &RoomName, by: By) -> Result<u32, Problem> {
        let (rooms, users) = (self.hub.rooms(), self.hub.users());
        let (Some(room), Some(user)) = (rooms.get(room.as_str()), users.get(user.as_str())) else {
            return Ok(0);
        };
        // First, because the user may have no stream left and be within its grace. It is part of this entry.
        let wakers = self.hub.presence().withdraw(&room, &user, by, self.clock.now());
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
