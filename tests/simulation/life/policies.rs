//! Policies of rooms, which change under way.

use std::sync::Arc;
use std::time::Duration;

use tidegate::hub::mailbox::Command;
use tidegate::hub::room_policy::{RoomPolicies, Slow};
use tidegate::rights::pattern::Pattern;

use super::super::kind::{self, Kind};
use super::{Life, room_name};

impl Life<'_> {
    /// Sets the policies of all rooms, and tells the shards.
    pub(super) fn set_policies(&mut self) {
        for (known, kind) in self.order.known.iter_mut().zip(&self.kinds) {
            known.follow(kind);
        }
        let table = |(room, kind): (usize, &Kind)| {
            (Pattern::exactly(&room_name(room)), Arc::new(kind.policy(self.plan.flush_interval)))
        };
        let tables = self.kinds.iter().enumerate().map(table).collect();
        let policies = RoomPolicies { tables, says_room: self.plan.says_room, ..RoomPolicies::default() };
        self.hub.set_policies(policies, self.moment());
        for shard in 0..self.nodes.len() {
            assert!(self.hub.mailbox(shard).send(Command::Policies).is_ok());
        }
    }

    /// Changes the policy of one room.
    pub(super) fn change_a_policy(&mut self) {
        if self.plan.kinds.is_none() {
            return;
        }
        let room = self.rng.usize(0..self.plan.rooms);
        let kind = &mut self.kinds[room];
        match self.rng.u32(0..9) {
            0 => kind.conflates = !kind.conflates,
            1 => kind.stores = !kind.stores,
            2 => kind.draw_replay(self.rng),
            3 | 7 => kind.draw_history(self.rng),
            4 => kind.draw_listeners(self.rng),
            6 => {
                kind.presence =
                    (kind.presence.is_none() || self.rng.bool()).then(|| kind::presence(self.rng));
            }
            5 => kind.flush_interval = Some(Duration::from_millis(self.rng.u64(0..20))),
            _ => kind.slow = *self.rng.choice(&[Slow::Gap, Slow::Close, Slow::Latest]).unwrap(),
        }
        if kind.presence.is_none() {
            self.end_members(room);
        }
        self.say(|| format!("room {room} becomes {:?}", self.kinds[room]));
        self.set_policies();
        if let Some(source) = self.hub.rooms().get(&room_name(room))
            && self.kinds[room].presence.is_none()
        {
            let page = self.hub.presence().page(&source, None, 1, usize::MAX, self.moment());
            assert_eq!(page.total, 0, "without presence, room {room} has no members");
        }
    }
}
