//! Users who may not publish to a room for a time, and are told so.

use std::collections::HashMap;
use std::time::Duration;

use tidegate::hub::mailbox::Command;

use super::super::listener::Listener;
use super::super::plan::{ROOMS, USERS};
use super::{Life, room_name, user_name};

/// Until when each user is muted in each room; `None` until it is undone.
pub(super) type Muted = HashMap<(usize, usize), Option<u64>>;

impl Life<'_> {
    /// Mutes a user in a room, or undoes it.
    pub(super) fn mute(&mut self) {
        if !self.plan.mutes {
            return;
        }
        let (user, room) = (self.rng.usize(0..USERS), self.rng.usize(0..self.plan.rooms));
        if self.one_in(4) {
            self.say(|| format!("unmute user {user} in room {room}"));
            self.hub.mutes().undo(&user_name(user), &room_name(room));
            self.mutes.remove(&(user, room));
        } else {
            let time = (!self.one_in(4)).then(|| Duration::from_millis(self.rng.u64(0..300)));
            let until = time.map(|time| self.moment() + time);
            self.say(|| format!("mute user {user} in room {room} until {until:?}"));
            let muted = self.hub.mutes().put(&user_name(user), &room_name(room), until, self.moment());
            assert_eq!(muted, Ok(()), "there are places");
            self.mutes.insert((user, room), until.map(|until| until.0));
            self.tell_muted(user, room);
        }
        self.check_mutes();
    }

    /// Tells the streams of a shard, and checks that all are counted that are open.
    fn tell_muted(&mut self, user: usize, room: usize) {
        let at = self.rng.usize(0..self.nodes.len());
        let (Some(inbox), Some(source)) =
            (self.hub.users().get(&user_name(user)), self.hub.rooms().get(&room_name(room)))
        else {
            return;
        };
        let is_exact = self.prepare(at);
        let is_meant = |listener: &Listener| listener.user == Some(user) && listener.rooms.contains(&room);
        let meant = self.open(at, is_meant);
        for wire in &meant {
            self.nodes[at].listeners[*wire].mutings += 1;
        }
        let told =
            self.have_handled(at, |reply| Command::Muted { user: inbox, room: source, until: None, reply });
        assert!(
            told as usize == meant.len() || !is_exact && told as usize <= meant.len(),
            "{told} of {meant:?}"
        );
    }

    /// Checks who is muted.
    pub(super) fn check_mutes(&self) {
        let mutes = self.hub.mutes();
        let lasts = |user, room| {
            self.mutes.get(&(user, room)).is_some_and(|until| until.is_none_or(|until| until > self.now))
        };
        for room in 0..ROOMS {
            let muted: Vec<usize> = (0..USERS).filter(|user| lasts(*user, room)).collect();
            for user in 0..USERS {
                let covered = mutes.cover(&user_name(user), &room_name(room), self.moment());
                assert_eq!(covered, muted.contains(&user), "user {user} in room {room}");
            }
            assert_eq!(mutes.count(&room_name(room), self.moment()), muted.len(), "muted in room {room}");
        }
    }
}
