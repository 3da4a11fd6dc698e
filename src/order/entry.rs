//! Entries as bytes: how a batch of the order is stored, and sent to other nodes.
//!
//! ```text
//! batch := version u8, item*
//! item  := an item of this module in postcard's format; an event is followed by its number of subscribers (varint)
//! ```
//!
//! Events, changes, reports and ticks take one position each, in their order. An answer takes none. A batch of another version is
//! refused as a whole, so an item is never passed over.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hub::Published;
use crate::hub::draft::{Claim, Claims, Draft, Target};
use crate::hub::own_ids::Repeats;
use crate::order::change::Change;
use crate::order::report::{Report, ReportItem};
use crate::rights::grant::PermissionName;
use crate::rights::revocation::{Revoked, When};
use crate::types::name::{EventId, EventKey, EventName, RoomName, UserName};
use crate::types::node::NodeId;

/// The version of this format.
pub const VERSION: u8 = 1;

/// An entry of the order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// An event, and the connections that it was for where it was published.
    Event(Box<Draft>, u32),
    /// A change of the right to be connected, and when it can be forgotten, in seconds since 1970.
    Change(Change, u64),
    /// The answer to a request that is published once. Takes no position.
    Answer(Claim, Published),
    /// A sign of life.
    Tick,
    /// The events after it are one publish. Takes no position.
    Publish(Option<Claim>, Repeats),
    /// What a node says to the others.
    Report(NodeId, Box<Report>),
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// A version that this program does not know.
    Version(u8),
    /// They are cut off, or were never a batch.
    Damaged,
    /// A name in them is not allowed.
    Name,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "version {version}, and this program knows version {VERSION} only")
            }
            Self::Damaged => f.write_str("damaged"),
            Self::Name => f.write_str("a name that is not allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[derive(Debug, Deserialize, Serialize)]
enum Item<'a> {
    #[serde(borrow)]
    Event(Event<'a>),
    Change(ChangeItem<'a>, u64),
    Answer(ClaimItem, AnswerItem),
    Tick,
    Publish {
        request: Option<ClaimItem>,
        ends_there: bool,
    },
    Report(NodeId, #[serde(borrow)] ReportItem<'a>),
}

#[derive(Debug, Deserialize, Serialize)]
struct Event<'a> {
    #[serde(borrow)]
    target: TargetItem<'a>,
    name: Option<&'a str>,
    id: Option<&'a str>,
    data: &'a str,
    exclude: Option<&'a str>,
    require: Option<&'a str>,
    key: Option<&'a str>,
    version: Option<u64>,
    store: bool,
    once: Option<ClaimItem>,
    is_known: bool,
    repeat: Option<ClaimItem>,
}

#[derive(Debug, Deserialize, Serialize)]
enum TargetItem<'a> {
    Room(&'a str),
    User(&'a str),
    All,
}

#[derive(Debug, Deserialize, Serialize)]
enum ChangeItem<'a> {
    Disconnect { user: &'a str, room: &'a str, stay_away_ms: u64 },
    Mute { user: &'a str, room: &'a str, until: Option<u64> },
    Unmute { user: &'a str, room: &'a str },
    RevokeToken { token: &'a str, at: u64, leeway_s: u64 },
    RevokeUser { user: &'a str, at: u64, leeway_s: u64 },
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct ClaimItem {
    key: u128,
    content: u128,
    time_ms: u64,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct AnswerItem {
    offset: u64,
    subscribers: u64,
    events: u32,
    skipped: u32,
    replayed: u32,
}

/// Appends an item to `out`.
fn put(item: &Item<'_>, out: &mut Vec<u8>) {
    let before = std::mem::take(out);
    *out = postcard::to_extend(item, before).expect("a vector takes everything");
}

/// Appends an event to `out`. [`put_subscribers`] must follow.
pub fn put_event(draft: &Draft, out: &mut Vec<u8>) {
    let target = match &draft.target {
        Target::Room(room) => TargetItem::Room(room.as_str()),
        Target::User(user) => TargetItem::User(user.as_str()),
        Target::All => TargetItem::All,
    };
    let event = Event {
        target,
        name: draft.name.as_ref().map(EventName::as_str),
        id: draft.id.as_ref().map(EventId::as_str),
        data: &draft.data,
        exclude: draft.exclude.as_ref().map(UserName::as_str),
        require: draft.require.as_ref().map(PermissionName::as_str),
        key: draft.key.as_ref().map(EventKey::as_str),
        version: draft.version,
        store: draft.store,
        once: draft.claims.once.as_ref().map(ClaimItem::from),
        is_known: draft.claims.is_known,
        repeat: draft.claims.repeat.as_ref().map(ClaimItem::from),
    };
    put(&Item::Event(event), out);
}

/// Appends to `out` how many connections the event before was for.
pub fn put_subscribers(subscribers: u32, out: &mut Vec<u8>) {
    let before = std::mem::take(out);
    *out = postcard::to_extend(&subscribers, before).expect("a vector takes everything");
}

/// Appends a change to `out`, which can be forgotten at `until`, in seconds since 1970.
pub fn put_change(change: &Change, until: u64, out: &mut Vec<u8>) {
    let item = match change {
        Change::Disconnect { user, room, stay_away } => ChangeItem::Disconnect {
            user: user.as_str(),
            room: room.as_str(),
            stay_away_ms: millis(*stay_away),
        },
        Change::Mute { user, room, until } => {
            ChangeItem::Mute { user: user.as_str(), room: room.as_str(), until: *until }
        }
        Change::Unmute { user, room } => ChangeItem::Unmute { user: user.as_str(), room: room.as_str() },
        Change::Revoke { revoked, when: When { at, leeway_s } } => match revoked {
            Revoked::Token(token) => ChangeItem::RevokeToken { token, at: *at, leeway_s: *leeway_s },
            Revoked::User(user) => {
                ChangeItem::RevokeUser { user: user.as_str(), at: *at, leeway_s: *leeway_s }
            }
        },
    };
    put(&Item::Change(item, until), out);
}

/// Appends to `out` the answer to a request that made `claim`.
pub fn put_answer(claim: &Claim, answer: &Published, out: &mut Vec<u8>) {
    let Published { offset, subscribers, events, skipped, replayed, .. } = *answer;
    let answer = AnswerItem { offset, subscribers, events, skipped, replayed };
    put(&Item::Answer(claim.into(), answer), out);
}

/// Appends to `out` that the events after it are one publish, which made this claim and treats events that are refused like
/// this.
pub fn put_publish(request: Option<&Claim>, repeats: Repeats, out: &mut Vec<u8>) {
    let (request, ends_there) = (request.map(Into::into), repeats == Repeats::EndThere);
    put(&Item::Publish { request, ends_there }, out);
}

/// Appends to `out` what the node `from` says to the others.
pub fn put_report(from: NodeId, report: &Report, out: &mut Vec<u8>) {
    put(&Item::Report(from, report.into()), out);
}

/// Appends a sign of life to `out`.
pub fn put_tick(out: &mut Vec<u8>) {
    put(&Item::Tick, out);
}

/// Calls `visit` with each entry of `batch`, in their order.
///
/// # Errors
///
/// If it is no batch. Then some entries may have been visited.
pub fn read(batch: &[u8], mut visit: impl FnMut(Entry)) -> Result<(), DecodeError> {
    let (version, mut rest) = batch.split_first().ok_or(DecodeError::Damaged)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    while !rest.is_empty() {
        let (item, more): (Item<'_>, _) =
            postcard::take_from_bytes(rest).map_err(|_| DecodeError::Damaged)?;
        rest = more;
        visit(match item {
            Item::Event(event) => {
                let (subscribers, more) =
                    postcard::take_from_bytes(rest).map_err(|_| DecodeError::Damaged)?;
                rest = more;
                Entry::Event(Box::new(event.draft().ok_or(DecodeError::Name)?), subscribers)
            }
            Item::Change(change, until) => Entry::Change(change.change().ok_or(DecodeError::Name)?, until),
            Item::Answer(claim, answer) => Entry::Answer(claim.into(), answer.into()),
            Item::Tick => Entry::Tick,
            Item::Publish { request, ends_there } => {
                let repeats = if ends_there { Repeats::EndThere } else { Repeats::RefuseAll };
                Entry::Publish(request.map(Into::into), repeats)
            }
            Item::Report(from, item) => {
                Entry::Report(from, Box::new(item.report().ok_or(DecodeError::Name)?))
            }
        });
    }
    Ok(())
}

impl Event<'_> {
    /// The event. `None` if a name in it is not allowed.
    fn draft(&self) -> Option<Draft> {
        let target = match self.target {
            TargetItem::Room(room) => Target::Room(RoomName::new(room).ok()?),
            TargetItem::User(user) => Target::User(UserName::new(user).ok()?),
            TargetItem::All => Target::All,
        };
        Some(Draft {
            name: self.name.map(EventName::new).transpose().ok()?,
            id: self.id.map(EventId::new).transpose().ok()?,
            exclude: self.exclude.map(UserName::new).transpose().ok()?,
            require: self.require.map(PermissionName::new).transpose().ok()?,
            key: self.key.map(EventKey::new).transpose().ok()?,
            version: self.version,
            store: self.store,
            claims: Claims {
                once: self.once.map(Into::into),
                is_known: self.is_known,
                repeat: self.repeat.map(Into::into),
            },
            ..Draft::to(target, self.data)
        })
    }
}

impl ChangeItem<'_> {
    /// The change. `None` if a name in it is not allowed.
    fn change(&self) -> Option<Change> {
        let names = |user, room| Some((UserName::new(user).ok()?, RoomName::new(room).ok()?));
        Some(match *self {
            Self::Disconnect { user, room, stay_away_ms } => {
                let ((user, room), stay_away) = (names(user, room)?, Duration::from_millis(stay_away_ms));
                Change::Disconnect { user, room, stay_away }
            }
            Self::Mute { user, room, until } => {
                let (user, room) = names(user, room)?;
                Change::Mute { user, room, until }
            }
            Self::Unmute { user, room } => {
                let (user, room) = names(user, room)?;
                Change::Unmute { user, room }
            }
            Self::RevokeToken { token, at, leeway_s } => {
                Change::Revoke { revoked: Revoked::Token(token.into()), when: When { at, leeway_s } }
            }
            Self::RevokeUser { user, at, leeway_s } => {
                let revoked = Revoked::User(UserName::new(user).ok()?);
                Change::Revoke { revoked, when: When { at, leeway_s } }
            }
        })
    }
}

impl From<&Claim> for ClaimItem {
    fn from(claim: &Claim) -> Self {
        Self { key: claim.key, content: claim.content, time_ms: millis(claim.time) }
    }
}

impl From<ClaimItem> for Claim {
    fn from(item: ClaimItem) -> Self {
        Self { key: item.key, content: item.content, time: Duration::from_millis(item.time_ms) }
    }
}

impl From<AnswerItem> for Published {
    fn from(answer: AnswerItem) -> Self {
        let AnswerItem { offset, subscribers, events, skipped, replayed } = answer;
        Self { offset, subscribers, events, skipped, replayed, is_repeat: false }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(key: u128) -> Claim {
        Claim { key, content: key + 1, time: Duration::from_mins(5) }
    }

    fn user(name: &str) -> UserName {
        UserName::new(name).expect("a name")
    }

    fn room(name: &str) -> RoomName {
        RoomName::new(name).expect("a name")
    }

    fn drafts() -> Vec<Draft> {
        let full = Draft {
            name: EventName::new("said").ok(),
            id: EventId::new("order-17").ok(),
            exclude: Some(user("ann")),
            require: PermissionName::new("staff").ok(),
            key: EventKey::new("k").ok(),
            version: Some(u64::MAX),
            store: false,
            claims: Claims { once: Some(claim(u128::MAX - 1)), repeat: Some(claim(7)), is_known: true },
            ..Draft::to(Target::Room(room("lobby")), "two\nlines \u{1F600}")
        };
        vec![full, Draft::to(Target::User(user("bob")), ""), Draft::to(Target::All, "x".repeat(100_000))]
    }

    fn changes() -> Vec<Change> {
        let (user, room, when) = (user("ann"), room("lobby"), When { at: 5, leeway_s: 60 });
        vec![
            Change::Disconnect {
                user: user.clone(),
                room: room.clone(),
                stay_away: Duration::from_millis(1500),
            },
            Change::Mute { user: user.clone(), room: room.clone(), until: Some(99) },
            Change::Mute { user: user.clone(), room: room.clone(), until: None },
            Change::Unmute { user: user.clone(), room },
            Change::Revoke { revoked: Revoked::Token("jti".into()), when },
            Change::Revoke { revoked: Revoked::User(user), when },
        ]
    }

    /// One batch with everything in it, and what it says.
    fn everything() -> (Vec<u8>, Vec<Entry>) {
        let (mut batch, mut entries) = (vec![VERSION], Vec::new());
        for (draft, subscribers) in drafts().into_iter().zip(0..) {
            put_event(&draft, &mut batch);
            put_subscribers(subscribers, &mut batch);
            entries.push(Entry::Event(Box::new(draft), subscribers));
        }
        for change in changes() {
            put_change(&change, 77, &mut batch);
            entries.push(Entry::Change(change, 77));
        }
        let answer = Published { events: 3, skipped: 1, replayed: 2, ..Published::one(u64::MAX, 9) };
        put_answer(&claim(3), &answer, &mut batch);
        put_tick(&mut batch);
        put_publish(Some(&claim(5)), Repeats::EndThere, &mut batch);
        entries.extend([Entry::Answer(claim(3), answer), Entry::Tick]);
        entries.push(Entry::Publish(Some(claim(5)), Repeats::EndThere));
        (batch, entries)
    }

    fn read_all(batch: &[u8]) -> Result<Vec<Entry>, DecodeError> {
        let mut entries = Vec::new();
        read(batch, |entry| entries.push(entry))?;
        Ok(entries)
    }

    #[test]
    fn what_is_written_is_read() {
        let (batch, entries) = everything();
        assert_eq!(read_all(&batch), Ok(entries));
    }

    /// A batch of an older program must read the same for ever. If this fails, [`VERSION`] has to rise.
    #[test]
    fn the_format_does_not_change_by_itself() {
        let mut batch = vec![VERSION];
        let draft = Draft { key: EventKey::new("k").ok(), ..Draft::to(Target::Room(room("r")), "d") };
        put_event(&draft, &mut batch);
        put_subscribers(300, &mut batch);
        put_tick(&mut batch);
        let event = b"\x00\x00\x01r\x00\x00\x01d\x00\x00\x01\x01k\x00\x01\x00\x00\x00";
        assert_eq!(batch, [b"\x01".as_slice(), event, b"\xac\x02", b"\x03"].concat());
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_refused() {
        let (mut batch, entries) = everything();
        let whole = batch.len();
        batch.truncate(300);
        for len in 0..batch.len() {
            // A cut between two items leaves a shorter batch; the count beside it tells that from a whole one.
            if let Ok(read) = read_all(&batch[..len]) {
                assert!(entries.starts_with(&read) && len < whole);
            }
        }
        assert_eq!(read_all(&[]), Err(DecodeError::Damaged));
        assert_eq!(read_all(&[9, 3]), Err(DecodeError::Version(9)));
        assert_eq!(read_all(&[VERSION, 200]), Err(DecodeError::Damaged));
        let mut bad_name = vec![VERSION];
        let event = Event { target: TargetItem::Room("\n"), ..event_of_nothing() };
        put(&Item::Event(event), &mut bad_name);
        put_subscribers(0, &mut bad_name);
        assert_eq!(read_all(&bad_name), Err(DecodeError::Name));
    }

    fn event_of_nothing() -> Event<'static> {
        let (name, id, exclude, require, key) = (None, None, None, None, None);
        let (version, once, repeat, is_known) = (None, None, None, false);
        let (target, data, store) = (TargetItem::All, "", true);
        Event { target, name, id, data, exclude, require, key, version, store, once, is_known, repeat }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (batch, _) = everything();
        for _ in 0..if cfg!(miri) { 50 } else { 20_000 } {
            let mut damaged = batch[..batch.len().min(rng.usize(1..400))].to_vec();
            for _ in 0..rng.usize(1..5) {
                let at = rng.usize(0..damaged.len());
                damaged[at] = rng.u8(..);
            }
            let _ = read_all(&damaged);
        }
    }
}
