//! Finds the hottest rooms at a bounded cost: rooms count their own events, and are sampled in turns.
//!
//! A log has its number of events, so nothing is added to the path of an event. Up to [`ROOMS_PER_SAMPLE`] rooms are
//! all read for every sample; where there are more, a sample reads some shares of the table, and the figures of the
//! others are as old as their last turn.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::hub::Hub;
use crate::hub::source::Source;
use crate::hub::table::Table;
use crate::types::moment::Moment;

/// Rooms after which a sample stops. It finishes the share of the table it is in, so it may read a 64th of all rooms
/// more.
pub(super) const ROOMS_PER_SAMPLE: usize = 10_000;

/// Rooms listed by events, and again by connections.
pub(super) const HOTTEST_MAX: usize = 10;

/// A room at its last turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct HotRoom {
    room: String,
    connections: u32,
    /// Events since the turn before.
    events: u64,
    per_s: f64,
    /// Absent in a room without presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<usize>,
}

/// The hottest rooms, as the page gets them.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    count: usize,
    /// The longest time between two turns of a room, in seconds.
    round_s: f64,
    /// Rooms with most events, the most first. None without events.
    busiest: Vec<HotRoom>,
    /// Rooms with most connections, the most first. None without connections.
    fullest: Vec<HotRoom>,
}

impl Rooms {
    /// Looks up who is present in the listed rooms: these are few, however many rooms there are.
    pub(super) fn count_members(&mut self, hub: &Hub, now: Moment) {
        for listed in self.busiest.iter_mut().chain(&mut self.fullest) {
            let room = hub.rooms().get(&listed.room).filter(|room| room.policy().presence.is_some());
            listed.members = room.map(|room| hub.presence().page(&room, None, 0, 0, now).total);
        }
    }
}

/// The results of the last turn of every share.
pub(super) struct Hottest {
    shares: Vec<Turn>,
    next: usize,
}

#[derive(Clone, Default)]
struct Turn {
    at: Moment,
    took_s: f64,
    rooms: usize,
    busiest: Vec<HotRoom>,
    fullest: Vec<HotRoom>,
}

impl Hottest {
    /// Without results; the first turns count from `now` on.
    pub(super) fn new(now: Moment) -> Self {
        Self { shares: vec![Turn { at: now, ..Turn::default() }; Table::shares()], next: 0 }
    }

    /// Reads the next shares of `table`.
    pub(super) fn look(&mut self, table: &Table, now: Moment) -> Rooms {
        let mut seen = 0;
        for _ in 0..self.shares.len() {
            if seen >= ROOMS_PER_SAMPLE {
                break;
            }
            let share = self.next;
            self.next = (share + 1) % self.shares.len();
            self.shares[share].turn(table, share, now);
            seen += self.shares[share].rooms;
        }
        let mut rooms = Rooms { count: 0, round_s: 0.0, busiest: Vec::new(), fullest: Vec::new() };
        for turn in &self.shares {
            rooms.count += turn.rooms;
            rooms.round_s = rounded(turn.took_s).max(rooms.round_s);
            rooms.busiest.extend_from_slice(&turn.busiest);
            rooms.fullest.extend_from_slice(&turn.fullest);
        }
        rooms.busiest.sort_by(|a, b| b.per_s.total_cmp(&a.per_s).then_with(|| a.room.cmp(&b.room)));
        rooms.fullest.sort_by(|a, b| b.connections.cmp(&a.connections).then_with(|| a.room.cmp(&b.room)));
        rooms.busiest.truncate(HOTTEST_MAX);
        rooms.fullest.truncate(HOTTEST_MAX);
        rooms
    }
}

impl Turn {
    fn turn(&mut self, table: &Table, share: usize, now: Moment) {
        self.took_s = now.since(self.at).as_secs_f64();
        self.at = now;
        self.rooms = 0;
        let (mut busiest, mut fullest) = (Top::default(), Top::default());
        table.visit(share, |room| {
            self.rooms += 1;
            let events = room.log().get_mut().map_or(0, |log| log.look(self.took_s));
            let figures = (events, room.connections());
            busiest.offer(events, room, figures);
            fullest.offer(room.connections().into(), room, figures);
        });
        self.busiest = busiest.into_rooms(self.took_s);
        self.fullest = fullest.into_rooms(self.took_s);
    }
}

/// The rooms with the highest value of one figure, at most [`HOTTEST_MAX`]. Names are copied: holding a room would keep
/// it from being removed.
#[derive(Default)]
struct Top(BTreeMap<(u64, String), (u64, u32)>);

impl Top {
    fn offer(&mut self, value: u64, room: &Source, figures: (u64, u32)) {
        let is_full = self.0.len() >= HOTTEST_MAX;
        if value == 0 || is_full && self.0.keys().next().is_some_and(|(least, _)| value <= *least) {
            return;
        }
        if is_full {
            self.0.pop_first();
        }
        self.0.insert((value, room.name().to_owned()), figures);
    }

    fn into_rooms(self, seconds: f64) -> Vec<HotRoom> {
        let room = |((_, room), (events, connections)): ((u64, String), (u64, u32))| {
            #[allow(clippy::cast_precision_loss, reason = "events of a few seconds")]
            let per_s = if seconds > 0.0 { rounded(events as f64 / seconds) } else { 0.0 };
            HotRoom { room, connections, events, per_s, members: None }
        };
        self.0.into_iter().map(room).collect()
    }
}

/// To three decimals, which is what can be told apart on a page.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubSettings;
    use crate::hub::admission::Caps;
    use crate::hub::draft::{Draft, Target};
    use crate::hub::history::HistoryBounds;
    use crate::hub::log::rules::LogBounds;
    use crate::order::memory::MemoryOrder;
    use crate::types::name::RoomName;
    use crate::types::position::Epoch;
    use std::sync::Arc;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000;

    fn hub() -> Arc<Hub> {
        let log = LogBounds { events_max: 2, bytes_max: 1 << 20 };
        Hub::new(HubSettings {
            shards: 1,
            epoch: Epoch::new(1),
            history: HistoryBounds { log, bytes_max: 1 << 30, age_max: Duration::from_hours(1) },
            caps: Caps { connections_max: 1, per_user_max: None, replace: false, per_address_max: None },
            delivery: None,
        })
    }

    fn publish(hub: &Arc<Hub>, room: &str, events: usize) {
        let target = Target::Room(RoomName::new(room).unwrap());
        let draft = Draft::to(target, "x");
        if events > 0 {
            MemoryOrder::new(hub.clone()).publish(vec![draft; events], Moment(1)).expect("no id of its own");
        }
    }

    fn names(rooms: &[HotRoom]) -> Vec<(&str, u64)> {
        rooms.iter().map(|room| (&*room.room, room.events)).collect()
    }

    #[test]
    fn events_are_counted_once_whatever_history_keeps_of_them() {
        let hub = hub();
        let mut hottest = Hottest::new(Moment(0));
        publish(&hub, "loud", 50);
        publish(&hub, "low", 1);
        let rooms = hottest.look(hub.rooms(), Moment(2 * SECOND));
        assert_eq!(names(&rooms.busiest), [("loud", 50), ("low", 1)]);
        assert_eq!(rooms.busiest[0].per_s.to_string(), "25");
        assert_eq!((rooms.count, rooms.round_s.to_string()), (2, "2".to_owned()));
        assert_eq!(rooms.fullest, []);
        publish(&hub, "low", 3);
        let rooms = hottest.look(hub.rooms(), Moment(3 * SECOND));
        assert_eq!(names(&rooms.busiest), [("low", 3)]);
    }

    #[test]
    fn only_the_highest_are_listed() {
        let hub = hub();
        let mut hottest = Hottest::new(Moment(0));
        for n in 1..=40 {
            publish(&hub, &format!("room {n}"), n);
            for _ in 0..n {
                hub.rooms().get_or_create(&format!("room {n}")).enter(u32::MAX);
            }
        }
        let rooms = hottest.look(hub.rooms(), Moment(SECOND));
        let wanted: Vec<(String, u64)> = (31..=40).rev().map(|n| (format!("room {n}"), n)).collect();
        let wanted: Vec<(&str, u64)> = wanted.iter().map(|(name, events)| (&**name, *events)).collect();
        assert_eq!((names(&rooms.busiest), names(&rooms.fullest)), (wanted.clone(), wanted));
    }

    #[test]
    fn many_rooms_are_looked_at_in_turns_and_none_is_forgotten() {
        const ROOMS: usize = 25_000;
        let hub = hub();
        let mut hottest = Hottest::new(Moment(0));
        // Held, because unused rooms are removed.
        let _held: Vec<_> = (0..ROOMS).map(|n| hub.rooms().get_or_create(&n.to_string())).collect();
        publish(&hub, "4711", 9);
        let mut found = 0;
        let mut looked_at = Vec::new();
        for second in 1..=3 {
            let rooms = hottest.look(hub.rooms(), Moment(second * SECOND));
            found = found.max(names(&rooms.busiest).first().map_or(0, |(_, events)| *events));
            looked_at.push(rooms.count);
        }
        assert_eq!(found, 9);
        assert!((ROOMS_PER_SAMPLE..ROOMS_PER_SAMPLE + ROOMS / 32).contains(&looked_at[0]), "{looked_at:?}");
        assert_eq!(looked_at[2], ROOMS);
    }
}
