//! What the policies of its rooms give to a newcomer.

use tidegate::hub::log::entry::Entry;
use tidegate::hub::room_policy::Replay;
use tidegate::shard::batch::BATCH_BYTES_MAX;
use tidegate::types::position::Offset;

use super::super::listener::Replayed;
use super::super::model::{Event, To};
use super::{Life, room_name};

impl Life<'_> {
    /// What a stream in `rooms` begins with, of the events that it may have.
    pub(super) fn replay(&self, rooms: &[usize], may_have: impl Fn(&Offset) -> bool) -> Option<Replayed> {
        let mut offsets: Vec<Offset> =
            rooms.iter().flat_map(|room| self.replay_of(*room, &may_have)).collect();
        offsets.sort_unstable();
        let mut bytes = 0;
        let fits = |offset: &&Offset| {
            bytes += self.frame_bytes(**offset);
            bytes <= BATCH_BYTES_MAX
        };
        let left_out = offsets.len() - offsets.iter().rev().take_while(fits).count();
        let replayed = Replayed { offsets: offsets.split_off(left_out), left_out };
        (replayed.offsets.len() + left_out > 0).then_some(replayed)
    }

    fn replay_of(&self, room: usize, may_have: &impl Fn(&Offset) -> bool) -> Vec<Offset> {
        let expired_to = self.expired_to(To::Room(room));
        let events = self.order.between(To::Room(room), expired_to, Offset::MAX).iter().copied();
        let history = events.filter(|offset| self.order.is_history(*offset) && may_have(offset));
        match self.kinds[room].replay {
            Replay::Off => Vec::new(),
            Replay::Latest => {
                let kept = self.kept_of(room).into_iter().filter(may_have);
                kept.chain(history.filter(|offset| self.is_newest(*offset))).collect()
            }
            Replay::Newest(count) => {
                let history: Vec<Offset> = history.collect();
                history[history.len().saturating_sub(count)..].to_vec()
            }
        }
    }

    /// The newest events of their keys that others have driven out of the log of `room`. Where more than the number of
    /// events bounds it, the log is believed.
    fn kept_of(&self, room: usize) -> Vec<Offset> {
        let known = &self.order.known[room];
        let expired_to = self.expired_to(To::Room(room));
        let source = self.hub.rooms().get(&room_name(room)).expect("rooms of a listener exist");
        let slot = source.log();
        let newest = slot.get().into_iter().flat_map(|log| log.newest_of_keys(expired_to));
        let kept: Vec<Offset> = newest.map(|entry: &Entry| entry.offset).collect();
        assert!(kept.iter().all(|offset| self.is_newest(*offset)), "{kept:?} of room {room} are outdated");
        if known.is_exact() {
            assert!(
                known.held.kept.iter().eq(&kept),
                "{:?} of room {room} are kept, not {kept:?}",
                known.held
            );
        }
        kept
    }

    /// Whether an event has a key, and no newer one has taken its place.
    fn is_newest(&self, offset: Offset) -> bool {
        self.order.event(offset).key.is_some() && self.order.successor(offset).is_none()
    }

    /// The length of an event as one chunk, by the documents.
    fn frame_bytes(&self, offset: Offset) -> usize {
        let Event { to, name, id, text, .. } = self.order.event(offset);
        let field = |name: &str, value: &str| format!("{name}: {value}\n").len();
        let own = self.hub.epoch().position(offset).to_string();
        let mut bytes = field("id", id.as_ref().unwrap_or(&own)) + "\n".len();
        bytes += name.as_ref().map_or(0, |name| field("event", name));
        if let (To::Room(room), true) = (to, self.plan.says_room) {
            bytes += field("room", &room_name(*room));
        }
        bytes += text.split('\n').map(|line| field("data", line)).sum::<usize>();
        format!("{bytes:x}\r\n").len() + bytes + "\r\n".len()
    }
}
