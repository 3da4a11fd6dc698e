//! One connection in the model, and the check of everything it was sent.

use std::collections::HashMap;

use serde_json::Value;
use tidegate::shard::join::Presence;
use tidegate::shard::reason::CloseReason;
use tidegate::types::position::{Epoch, Offset};
use tidegate::wire::control::Heartbeat;
use tidegate::wire::encoding::Encoding;

use super::client::{Client, Item};
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
}

/// A connection.
#[derive(Debug)]
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
}

const GAP_REASONS: [&str; 4] = ["evicted", "restart", "slow", "unknown"];

impl Listener {
    pub(crate) fn sources(&self) -> impl Iterator<Item = To> {
        let rooms = self.rooms.iter().map(|room| To::Room(*room));
        rooms.chain(self.user.map(To::User)).chain(std::iter::once(To::All))
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
        let delivered = client.items()[..delivered].iter().filter(|item| is_published(item)).count();
        (client, delivered)
    }

    /// Checks every item: no loss without a gap, no repetition, no disorder, no event for other subscribers.
    pub(crate) fn walk(&self, items: &[Item], order: &Order, epoch: Epoch) -> Walk {
        let mut walk = Walk::default();
        for item in items {
            assert_eq!(walk.closing, None, "nothing follows the farewell: {item:?}");
            match item {
                Item::Event { name, data, id, room } => {
                    let must_be_gap = walk.begun && walk.gaps.is_empty() && self.opening.gap.is_some();
                    let may_come = ["gap", "presence"].contains(&name.as_str());
                    assert!(!must_be_gap || may_come, "the gap comes at once, not {item:?}");
                    match name.as_str() {
                        "connected" => self.connected(&mut walk, data, id, epoch),
                        "gap" => self.gap(&mut walk, data, id, order, epoch),
                        "expiring" => walk.warnings += 1,
                        "presence" => self.presence(&mut walk, room, data),
                        "closing" => {
                            let data: Value = serde_json::from_str(data).unwrap();
                            walk.closing = Some(data["reason"].as_str().unwrap().to_owned());
                        }
                        _ => self.event(&mut walk, item, order, epoch),
                    }
                    walk.ids.push(id.clone());
                }
                // A comment is one line of a heartbeat with an id, or the whole of a heartbeat without one.
                Item::Comment => walk.heartbeats += u64::from(self.heartbeat == Heartbeat::Comment),
                Item::Quiet { id } => {
                    assert_eq!(self.heartbeat, Heartbeat::Id, "others would take {item:?} for a message");
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

    fn event(&self, walk: &mut Walk, item: &Item, order: &Order, epoch: Epoch) {
        let Item::Event { name, data, id, room } = item else { unreachable!("an event") };
        let offset = order.offset_of(data);
        let event = order.event(offset);
        let says = if let To::Room(room) = event.to { format!("room-{room}") } else { String::new() };
        assert_eq!(*room, says, "an event of a room says which");
        assert_eq!(Some(name.as_str()), event.name.as_deref().or(Some("message")));
        match &event.id {
            Some(own) => assert_eq!(own, id),
            None => assert_eq!(own(id, epoch), Some(offset)),
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
        let lost: usize = self.sources().map(|source| order.between(source, from, to).len()).sum();
        if matches!(reason, "slow" | "evicted") {
            assert!(lost > 0, "a gap of nothing: {data}");
        }
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
        if reason == "slow" {
            walk.lost += lost as u64;
        }
        walk.position = to;
        walk.gaps.push(reason);
    }

    /// Moves to a position that was only announced.
    fn pass(&self, walk: &mut Walk, position: Offset, order: &Order, item: &Item) {
        assert!(position >= walk.position, "{item:?} goes back from {}", walk.position);
        let owed = order.next_for(self, walk.position);
        assert!(owed.is_none_or(|offset| offset > position), "{item:?} passes {owed:?}");
        walk.position = position;
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
    !["connected", "gap", "expiring", "presence", "closing"].contains(&name.as_str())
}
