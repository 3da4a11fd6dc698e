//! One connection in the model, and the check of everything it was sent.

use std::collections::HashMap;

use serde_json::Value;
use tidegate::hub::room_policy::Slow;
use tidegate::shard::join::Presence;
use tidegate::shard::reason::CloseReason;
use tidegate::types::position::{Epoch, Offset};
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;

use super::client::{Client, Item};
use super::held::Held;
use super::model::{Order, To};
use super::net::Wire;
use super::present::Known;
use super::right::{Claim, Rights};

/// The expected first events of a stream.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    /// The position of `connected`.
    pub cursor: Offset,
    /// The id of `connected`.
    pub id: Option<String>,
    /// `from`, `to` and `reason` of the gap that must follow at once.
    pub gap: Option<(String, Offset, &'static str)>,
    /// What the policies of its rooms bring.
    pub replay: Option<Replayed>,
}

/// What the policies of the rooms give to a newcomer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replayed {
    /// The events, oldest first.
    pub offsets: Vec<Offset>,
    /// How many did not fit.
    pub left_out: usize,
}

/// A connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub(crate) struct Listener {
    pub rooms: Vec<usize>,
    pub user: Option<usize>,
    pub address: Option<u8>,
    pub encoding: Encoding,
    pub heartbeat: Heartbeat,
    pub opening: Opening,
    /// The rights it has had.
    pub rights: Rights,
    /// Whether its user's deliveries are limited.
    pub is_rated: bool,
    /// The id it presented.
    pub presented: String,
    /// The reason if the test ended it.
    pub ended_by_us: Option<CloseReason>,
    /// Whether it ends with the first events.
    pub poll: bool,
    /// What it sees of who is present.
    pub presence: Presence,
    /// Whether its right was taken away: it must be closed for that reason, and no other connection may be.
    pub is_doomed: bool,
    /// The newest event when it joined.
    pub joined_at: Offset,
    /// When it joined.
    pub opened: u64,
    /// Whether it has taken all that it was offered, and nothing but that decides what it gets.
    pub keeps_up: bool,
    /// How often it was to be told that its user is muted.
    pub mutings: usize,
    /// Rooms in which its user is no member by it: those that the user has left since, and those without presence at the
    /// beginning or since.
    pub withdrawn: Vec<usize>,
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Up to here the subscriber has everything or was told of a gap.
    pub position: Offset,
    /// Whether there was a `connected`.
    pub begun: bool,
    pub events: usize,
    pub heartbeats: u64,
    /// Gaps by reason.
    pub gaps: Vec<&'static str>,
    /// Events of its sources in announced gaps of reason `slow`.
    pub lost: u64,
    /// How many warnings of its token's end it got.
    pub warnings: usize,
    /// Reason in the closing event.
    pub closing: Option<String>,
    /// Every id that a browser would have stored at some time.
    pub ids: Vec<String>,
    /// What it knows of who is present, by room.
    pub present: HashMap<String, Known>,
    /// How many events of the replay it has, and whether that has ended.
    replayed: usize,
    pub has_replay: bool,
    /// Whether it lost events of a room that ends slow streams: it ends for another reason at that moment.
    pub must_close: bool,
    /// How often it was told that its user is muted.
    pub mutings: usize,
}

const GAP_REASONS: [&str; 4] = ["evicted", "restart", "slow", "unknown"];

impl Listener {
    pub(crate) fn sources(&self) -> impl Iterator<Item = To> {
        let rooms = self.rooms.iter().map(|room| To::Room(*room));
        rooms.chain(self.user.map(To::User)).chain(std::iter::once(To::All))
    }

    /// Returns whether it makes its user, if it has one, a member of the room.
    pub(crate) fn is_present_in(&self, room: usize) -> bool {
        self.presence == Presence::Member && self.rooms.contains(&room) && !self.withdrawn.contains(&room)
    }

    /// Returns the client after everything that `wire` took, and how many published events were delivered by the
    /// server's count: those written whole, chunk and compressed segment included.
    pub(crate) fn hear(&self, wire: &Wire) -> (Client, usize) {
        let mut client = Client::new(self.encoding, &self.presented);
        client.take(&wire.bytes[..wire.whole]);
        let whole = client.items().len();
        client.take(&wire.bytes[wire.whole..]);
        let delivered = match self.encoding {
            Encoding { gzip: true, .. } => whole,
            Encoding { chunked: true, .. } => client.items_in_whole_chunks,
            Encoding { .. } => client.items().len(),
        };
        let delivered = &client.items()[..delivered];
        // The events that the policies bring are one piece with what is around them.
        let has_first = self.opening.replay.is_none() || delivered.iter().any(|item| item.is("replayed"));
        let delivered = delivered.iter().filter(|item| is_published(item)).count();
        (client, if has_first { delivered } else { 0 })
    }

    /// Checks every item: no loss without a gap, no repetition, no disorder, no event for other subscribers.
    pub(crate) fn walk(&self, items: &[Item], order: &Order, epoch: Epoch) -> Walk {
        let mut walk = Walk::default();
        for item in items {
            assert_eq!(walk.closing, None, "nothing follows the farewell: {item:?}");
            match item {
                Item::Event { name, data, id, room } => {
                    self.check_turn(&walk, name, item);
                    match name.as_str() {
                        "connected" => self.connected(&mut walk, data, id, epoch),
                        "replayed" => self.replayed(&mut walk, data, id, epoch),
                        "gap" => self.gap(&mut walk, data, id, order, epoch),
                        "expiring" => walk.warnings += 1,
                        "presence" => self.presence(&mut walk, room, data),
                        "muted" => self.muted(&mut walk, data),
                        "closing" => self.closing(&mut walk, data, order),
                        _ => self.event(&mut walk, item, order, epoch),
                    }
                    walk.ids.push(id.clone());
                }
                // A comment is one line of a heartbeat with an id, or the whole of a heartbeat without one.
                Item::Comment => walk.heartbeats += u64::from(self.heartbeat == Heartbeat::Comment),
                Item::Quiet { id } => {
                    assert_eq!(self.heartbeat, Heartbeat::Id, "others would take {item:?} for a message");
                    self.check_turn(&walk, "", item);
                    let position = own(id, epoch).expect("a heartbeat has a position");
                    self.pass(&mut walk, position, order, item);
                    walk.heartbeats += 1;
                    walk.ids.push(id.clone());
                }
            }
            assert!(walk.begun, "`connected` comes first, not {item:?}");
        }
        assert!(walk.warnings <= self.rights.warnings(), "once of each end: {self:?}");
        walk
    }

    /// Checks that an event of this name may come now.
    fn check_turn(&self, walk: &Walk, name: &str, item: &Item) {
        let must_be_gap = walk.begun && walk.gaps.is_empty() && self.opening.gap.is_some();
        assert!(!must_be_gap || ["gap", "presence"].contains(&name), "the gap comes at once, not {item:?}");
        let is_own = ["connected", "gap", "expiring", "presence", "muted", "closing"].contains(&name);
        if walk.begun && self.opening.replay.is_some() && !walk.has_replay {
            assert!(!is_own || name == "presence" && walk.replayed == 0, "a replay is not torn by {item:?}");
        }
        let may_end_it = name == "closing" || is_published(item);
        assert!(!walk.must_close || may_end_it, "after a loss that ends the stream: {item:?}");
    }

    fn closing(&self, walk: &mut Walk, data: &str, order: &Order) {
        let data: Value = serde_json::from_str(data).unwrap();
        let reason = data["reason"].as_str().unwrap();
        if reason == CloseReason::Slow.as_str() {
            assert!(!self.keeps_up, "only the slow are closed for it: {self:?}");
            let ends = |room: &usize| {
                let lacks = order.between(To::Room(*room), walk.position, Offset::MAX);
                order.known[*room].was_ever(Slow::Close) && !lacks.is_empty()
            };
            assert!(
                self.rooms.iter().any(ends),
                "no room that it lost events of ends slow streams: {self:?}"
            );
        }
        walk.closing = Some(reason.to_owned());
    }

    fn muted(&self, walk: &mut Walk, data: &str) {
        walk.mutings += 1;
        assert!(walk.mutings <= self.mutings, "told once of each: {data} {self:?}");
        let data: Value = serde_json::from_str(data).unwrap();
        let is_own = |own: &usize| data["room"] == format!("room-{own}");
        assert!(self.rooms.iter().any(is_own), "a room of its own, not {data}");
    }

    /// Returns whether it may know who is in this room. Without authentication, anyone may.
    pub(crate) fn sees_names(&self, room: usize) -> bool {
        self.rights.newest().is_none_or(|token| token.pass.sees_names(room))
    }

    fn presence(&self, walk: &mut Walk, room: &str, data: &str) {
        assert_ne!(self.presence, Presence::Off, "it did not ask");
        let data: Value = serde_json::from_str(data).expect("JSON");
        let is_own = |own: &usize| format!("room-{own}") == room;
        assert!(self.rooms.iter().any(is_own), "a room of its own, not {room:?}");
        walk.present.entry(room.to_owned()).or_default().take(&data);
    }

    fn connected(&self, walk: &mut Walk, data: &str, id: &str, epoch: Epoch) {
        assert!(!walk.begun, "connected once");
        walk.begun = true;
        walk.position = self.opening.cursor;
        assert_eq!(id, self.opening.id.as_deref().unwrap_or(&self.presented), "in {epoch}");
        let data: Value = serde_json::from_str(data).unwrap();
        let rooms: Vec<String> = self.rooms.iter().map(|room| format!("room-{room}")).collect();
        assert_eq!(data["rooms"], Value::from(rooms));
        assert_eq!(data["user"], Value::from(self.user.map(|user| format!("user-{user}"))));
    }

    /// The end of what the policies bring. The stream goes on where it would have begun without that.
    fn replayed(&self, walk: &mut Walk, data: &str, id: &str, epoch: Epoch) {
        let Replayed { offsets, left_out } = self.opening.replay.as_ref().expect("nobody owes it a replay");
        assert!(!std::mem::replace(&mut walk.has_replay, true), "replayed once");
        assert_eq!(walk.replayed, offsets.len(), "all of {offsets:?}");
        assert_eq!(own(id, epoch), Some(self.opening.cursor), "a resume goes on where the stream does");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["events"], offsets.len());
        assert_eq!(data["left_out"].as_u64().unwrap_or(0), *left_out as u64, "left out");
    }

    fn event(&self, walk: &mut Walk, item: &Item, order: &Order, epoch: Epoch) {
        let Item::Event { name, data, id, room } = item else { unreachable!("an event") };
        let offset = order.offset_of(data);
        let event = order.event(offset);
        let says = match event.to {
            To::Room(room) if order.says_room => format!("room-{room}"),
            _ => String::new(),
        };
        assert_eq!(*room, says, "an event of a room says which");
        assert_eq!(Some(name.as_str()), event.name.as_deref().or(Some("message")));
        match &event.id {
            Some(own) => assert_eq!(own, id),
            None => assert_eq!(own(id, epoch), Some(offset)),
        }
        if let (Some(replay), false) = (&self.opening.replay, walk.has_replay) {
            assert_eq!(replay.offsets.get(walk.replayed), Some(&offset), "the policies bring {replay:?}");
            walk.replayed += 1;
            return;
        }
        let owed = order.next_for(self, walk.position);
        let may_come_before = offset > walk.position && owed.is_none_or(|owed| offset < owed);
        let is_due = owed == Some(offset) || may_come_before && order.claim(self, offset) == Claim::May;
        assert!(is_due, "after {} it is owed {owed:?}, not {event:?}", walk.position);
        walk.position = offset;
        walk.events += 1;
    }

    fn gap(&self, walk: &mut Walk, data: &str, id: &str, order: &Order, epoch: Epoch) {
        let data: Value = serde_json::from_str(data).unwrap();
        let text = |key: &str| data[key].as_str().unwrap();
        let to = own(text("to"), epoch).expect("a gap ends at a position");
        assert_eq!(text("to"), id);
        let reason = *GAP_REASONS.iter().find(|reason| **reason == text("reason")).expect("a known reason");
        assert!(to >= walk.position, "a gap from {} goes forward, not to {to}", walk.position);
        let mut from = walk.position;
        if let (Some((from, gap_to, why)), true) = (&self.opening.gap, walk.gaps.is_empty()) {
            assert_eq!((text("from"), to, reason), (from.as_str(), *gap_to, *why));
        } else {
            assert_eq!(reason, "slow", "anything else is said at the beginning");
            from = own(text("from"), epoch).expect("a gap starts at a position");
            let skipped = order.next_for(self, walk.position).filter(|offset| *offset <= from);
            assert_eq!(skipped, None, "skipped before the gap from {from}");
            assert!(from >= walk.position);
        }
        if reason == "slow" && !self.is_rated {
            assert!(!self.keeps_up, "only the slow lose events: {self:?}");
            lost_to(walk, to, order);
        }
        let lost: usize = self.sources().map(|source| order.between(source, from, to).len()).sum();
        if matches!(reason, "slow" | "evicted") {
            assert!(lost > 0, "a gap of nothing: {data}");
        }
        self.check_named(&data, from, to, order);
        if reason == "slow" {
            walk.lost += lost as u64;
        }
        walk.position = to;
        walk.gaps.push(reason);
    }

    /// Checks that a gap names every source that lost events to it.
    fn check_named(&self, data: &Value, from: Offset, to: Offset, order: &Order) {
        let must_have = |source: &To| {
            let mut lost = order.between(*source, from, to).iter();
            lost.any(|offset| !order.may_be_skipped(*offset))
        };
        for source in self.sources().filter(must_have) {
            let named = match source {
                To::Room(room) => {
                    let room = Value::from(format!("room-{room}"));
                    data["rooms"].as_array().unwrap().contains(&room)
                }
                To::User(_) => data["inbox"] == true,
                To::All => data["all"] == true,
            };
            assert!(named, "{source:?} lost events, but the gap says {data}");
        }
    }

    /// Moves to a position that was only announced.
    fn pass(&self, walk: &mut Walk, position: Offset, order: &Order, item: &Item) {
        assert!(position >= walk.position, "{item:?} goes back from {}", walk.position);
        let owed = order.next_for(self, walk.position);
        assert!(owed.is_none_or(|offset| offset > position), "{item:?} passes {owed:?}");
        walk.position = position;
    }
}

/// Checks that the event at `to`, the newest that a subscriber lost, could be lost.
fn lost_to(walk: &mut Walk, to: Offset, order: &Order) {
    let To::Room(room) = order.event(to).to else {
        return;
    };
    let known = &order.known[room];
    walk.must_close |= known.slow() == Some(Slow::Close);
    if known.is_exact() {
        let Held { expired_to, lost, .. } = &known.held;
        assert!(to <= *expired_to, "{to} is still held");
        let is_latest = known.slow() == Some(Slow::Latest);
        assert!(!is_latest || lost.contains(&to), "the newest of the key of {to} was at hand");
    }
}

/// Returns the offset that `id` means in this epoch.
pub(crate) fn own(id: &str, epoch: Epoch) -> Option<Offset> {
    let (life, offset) = id.split_once('-')?;
    let offset: Offset = offset.parse().ok()?;
    (life == epoch.as_str() && format!("{life}-{offset}") == id).then_some(offset)
}

pub(crate) fn is_published(item: &Item) -> bool {
    let Item::Event { name, .. } = item else {
        return false;
    };
    let own = ["connected", "replayed", "gap", "expiring", "presence", "muted", "closing"];
    !own.contains(&name.as_str())
}
