//! `GET {base}/rooms/{room}/history`: the events of a room, in pages, the newest first.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::answer::problem::{Code, Problem};
use crate::engine::Engine;
use crate::engine::buffers::Holds;
use crate::http::api::json;
use crate::http::api::query::HistoryQuery;
use crate::http::api::rooms::check_known;
use crate::http::call::{Call, Handled};
use crate::http::conn::held::Held;
use crate::http::conn::response_body::ResponseBody;
use crate::http::gate::caller::Caller;
use crate::hub::log::entry::Entry;
use crate::hub::memory_level::MemoryLevel;
use crate::hub::source::Source;
use crate::rights::grant::Action;
use crate::rights::identity::Identity;
use crate::shard::batch::is_met;
use crate::types::lineage::Presented;
use crate::types::moment::Moment;
use crate::types::name::RoomName;
use crate::types::position::Offset;
use crate::wire::frame::Frame;

/// Answers with a page. The thread composes one answer at a time.
///
/// # Errors
///
/// As [`Caller::may`]; [`Code::RoomUnknown`]; any problem with the query; as [`Held::hold`].
pub async fn history(call: &Call<'_>, caller: &Caller, room: &RoomName) -> Handled {
    caller.may(Action::Read(room.as_str()))?;
    check_known(&call.engine().hub, room)?;
    let query = HistoryQuery::parse(call.query())?;
    let reader = caller.identity().map(Arc::as_ref);
    let _turn = call.context.places.turn().await;
    let mut held = Held::new(call.engine(), call.exchange, Holds::Answer);
    let page = read(call.engine(), room.as_str(), &query, reader, &mut held)?;
    Ok(json::response(ResponseBody::held(page, held)))
}

/// Bytes of JSON with which a page is full, whatever limit was asked for: control characters take six bytes each. A
/// page has at least one event. It is held until it is read, and a client that asks for many pages may read none.
const PAGE_BYTES_MAX: usize = 256 << 10;

/// A page of a room's history.
#[derive(Serialize)]
struct Page<'a> {
    room: &'a str,
    /// Oldest first, so that a page can be put before the one already shown.
    events: Vec<PageEvent>,
    /// Whether there are older events.
    has_more: bool,
    /// The `before` that returns them.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
}

#[derive(Debug, Serialize)]
struct PageEvent {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    data: String,
    /// How long ago it was published.
    age_ms: u64,
}

/// Reads the newest page of what `reader` may read, as JSON. `held` takes its bytes from the budget before it is made.
///
/// # Errors
///
/// [`Code::BeforeInvalid`] if `before` is not a position in the current epoch; as [`Held::hold`].
fn read(
    engine: &Engine,
    name: &str,
    query: &HistoryQuery,
    reader: Option<&Identity>,
    held: &mut Held,
) -> Result<Bytes, Problem> {
    engine.spare_memory(MemoryLevel::NoReplays)?;
    let lineage = engine.hub.lineage();
    let before = match query.before.as_deref().map(|before| lineage.read(before)) {
        None => Offset::MAX,
        Some(Presented::Here(offset)) => offset,
        // Of what its reader saw, this much is still there.
        Some(Presented::Beyond(end)) => end + 1,
        Some(_) => return Err(Code::BeforeInvalid.into()),
    };
    let mut page = Page { room: name, events: Vec::new(), has_more: false, before: None };
    let mut bytes = PAGE_OVERHEAD + json_len(name);
    if let Some(room) = engine.hub.rooms().get(name) {
        // Cloned under the lock, parsed outside: a page of large events would delay publishers.
        let (entries, has_more) = newest_before(&room, before, query.limit, reader);
        bytes += page.take(&entries, engine.clock.now());
        let taken = page.events.len();
        page.has_more = has_more || taken < entries.len();
        let oldest = entries[..taken].last().filter(|_| page.has_more);
        page.before = oldest.map(|oldest| lineage.position(oldest.offset).to_string());
    }
    held.hold(bytes)?;
    let mut json = Vec::with_capacity(bytes);
    serde_json::to_writer(&mut json, &page).expect("text and numbers always serialise");
    Ok(json.into())
}

impl Page<'_> {
    /// Takes the first of `entries`, which are newest first, up to a full page. Returns their bytes as JSON.
    fn take(&mut self, entries: &[Entry], now: Moment) -> usize {
        let mut bytes = 0;
        for entry in entries {
            let age_ms = u64::try_from(now.since(entry.published).as_millis()).unwrap_or(u64::MAX);
            let event = PageEvent::of(&entry.frame, age_ms);
            let more = event.json_len();
            if bytes + more > PAGE_BYTES_MAX && !self.events.is_empty() {
                break;
            }
            bytes += more;
            self.events.push(event);
        }
        self.events.reverse();
        bytes
    }
}

/// Bytes of a page's JSON without its events and the room's name, at most.
const PAGE_OVERHEAD: usize = 128;

/// The same for an event without its texts.
const EVENT_OVERHEAD: usize = 64;

impl PageEvent {
    /// The event of `frame`.
    fn of(frame: &Frame, age_ms: u64) -> Self {
        Self { id: frame.id().into(), event: frame.name().map(Into::into), data: frame.data(), age_ms }
    }

    /// Bytes it takes as JSON, at most.
    fn json_len(&self) -> usize {
        EVENT_OVERHEAD + json_len(&self.id) + self.event.as_deref().map_or(0, json_len) + json_len(&self.data)
    }
}

/// Bytes of `text` as a JSON string without its quotes (RFC 8259 §7, as `serde_json` writes it).
fn json_len(text: &str) -> usize {
    let len = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    };
    text.bytes().map(len).sum()
}

/// The newest events below `before` that `reader` may read, newest first and at most about a page of them; and whether
/// there are more.
fn newest_before(
    room: &Source,
    before: Offset,
    limit: usize,
    reader: Option<&Identity>,
) -> (Vec<Entry>, bool) {
    let may_read = |entry: &&Entry| entry.require.as_ref().is_none_or(|name| is_met(name, room, reader));
    let log = room.log();
    let Some(log) = log.get() else {
        return (Vec::new(), false);
    };
    let mut older = log.newest_first().filter(|entry| entry.offset < before).filter(may_read);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < limit
        && bytes < PAGE_BYTES_MAX
        && let Some(entry) = older.next()
    {
        bytes += entry.frame.len();
        page.push(entry.clone());
    }
    (page, older.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name::EventName;
    use crate::wire::frame::Unsealed;

    #[test]
    fn the_bytes_of_a_page_are_known_before_it_is_made() {
        let every: String = (0..=0x7f_u8).map(char::from).chain("äß漢🦀".chars()).collect();
        assert_eq!(json_len(&every), serde_json::to_string(&every).unwrap().len() - "\"\"".len());
        let event = |event| PageEvent { id: every.clone(), event, data: every.clone(), age_ms: u64::MAX };
        for event in [event(None), event(Some(every.clone()))] {
            assert!(serde_json::to_string(&event).unwrap().len() < event.json_len());
        }
        let page = Page {
            room: &every,
            events: Vec::new(),
            has_more: false,
            before: Some("k3j9x2-18446744073709551615".into()),
        };
        assert!(serde_json::to_string(&page).unwrap().len() <= PAGE_OVERHEAD + json_len(&every));
    }

    #[test]
    fn an_encoded_event_reads_back_as_it_was() {
        let name = EventName::new("price").ok();
        let frame = Unsealed::new(name, "a\nid: no\n\nevent: no", 20).seal(b"k-1");
        let event = PageEvent::of(&frame, 0);
        assert_eq!(event.id, "k-1");
        assert_eq!(event.event.as_deref(), Some("price"));
        assert_eq!(event.data, "a\nid: no\n\nevent: no");
    }
}
