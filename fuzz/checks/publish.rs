//! Bodies that publishers send: one event, a batch, or lines.

use std::iter;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use serde_json::value::{RawValue, Value};
use tidegate::answer::problem::{Code, Problem};
use tidegate::http::api::publish::event_body::EventBody;
use tidegate::http::api::publish::fields::Event;
use tidegate::http::api::publish::idempotency::{self, IDEMPOTENCY_KEY};
use tidegate::http::api::publish::lines::{Line, Lines};
use tidegate::http::api::publish::malformed::without_bom;
use tidegate::http::api::publish::media::Media;
use tidegate::http::api::publish::{compact, event_body};
use tidegate::hub::draft::{Claims, Target};
use tidegate::rights::grant::PermissionName;
use tidegate::types::name::{EventId, EventKey, EventName, OnceKey, UserName};

use super::stream::is_nobodys_position;

/// The bound on data in these checks.
pub(crate) const EVENT_BYTES_MAX: usize = 64;

/// A body is read without panic; every event in it is the same after it is printed and read again, and none has an id
/// that is a position.
pub(crate) fn publish_body(bytes: &[u8]) {
    let events = match event_body::parse_body(bytes, EVENT_BYTES_MAX) {
        Ok(EventBody::One(event)) => vec![*event],
        Ok(EventBody::Batch(events)) => events,
        Err(problem) => {
            assert!(problem.to_json().len() < 1024);
            let text = without_bom(bytes).trim_ascii();
            assert!(problem.index.is_none() || text.starts_with(b"["));
            return;
        }
    };
    assert!(!events.is_empty());
    for event in events {
        let draft = &event.draft;
        assert!(draft.data.len() <= EVENT_BYTES_MAX);
        assert!(draft.version.is_none() || draft.key.is_some());
        assert_eq!(draft.claims, Claims::default(), "only the server makes claims");
        draft.id.iter().for_each(is_nobodys_position);
        let printed = to_json(&event).to_string();
        assert_eq!(event_body::parse_event(printed.as_bytes(), EVENT_BYTES_MAX), Ok(event));
    }
}

/// Returns the body that asks for `event`.
pub(crate) fn to_json(event: &Event) -> Value {
    let Event { draft, once } = event;
    let mut json = serde_json::json!({ "data": draft.data });
    match &draft.target {
        Target::Room(room) => json["room"] = room.as_str().into(),
        Target::User(user) => json["user"] = user.as_str().into(),
        Target::All => json["all"] = true.into(),
    }
    let name = draft.name.as_ref().map(EventName::as_str);
    let id = draft.id.as_ref().map(EventId::as_str);
    let exclude = draft.exclude.as_ref().map(UserName::as_str);
    let require = draft.require.as_ref().map(PermissionName::as_str);
    let key = draft.key.as_ref().map(EventKey::as_str);
    let once = once.as_ref().map(OnceKey::as_str);
    let texts = [("event", name), ("id", id), ("exclude", exclude), ("require", require), ("key", key)];
    for (field, text) in texts.into_iter().chain([("once", once)]) {
        if let Some(text) = text {
            json[field] = text.into();
        }
    }
    if let Some(version) = draft.version {
        json["version"] = version.into();
    }
    if !draft.store {
        json["store"] = false.into();
    }
    json
}

/// The key of a request is that of its one header, as it was sent; two headers are none.
pub(crate) fn idempotency_key(values: &[&[u8]]) {
    let header = |value: &&[u8]| Some((IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).ok()?));
    let Some(headers) = values.iter().map(header).collect::<Option<HeaderMap>>() else {
        return; // Not valid in a header.
    };
    match idempotency::key(&headers, Media::Json) {
        Ok(None) => assert!(values.is_empty()),
        Ok(Some(key)) => {
            assert_eq!(values, [key.as_str().as_bytes()]);
            assert!((1..=128).contains(&key.as_str().len()) && !key.as_str().contains(char::is_control));
        }
        Err(problem) => assert!(problem.code == Code::IdempotencyKeyInvalid && !values.is_empty()),
    }
    assert_eq!(idempotency::key(&headers, Media::Ndjson).is_ok(), values.is_empty(), "lines take none");
}

/// Compact JSON means the same as the original, is no longer, and cannot be made more compact.
pub(crate) fn compact(text: &str) {
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else {
        return;
    };
    let Ok(compact) = compact::compact(raw) else {
        assert!(serde_json::from_str::<Value>(text).is_err(), "only too deep for both");
        return;
    };
    assert!(compact.len() <= raw.get().len());
    let again: &RawValue = serde_json::from_str(&compact).expect("compact JSON is JSON");
    assert_eq!(compact::compact(again).as_ref(), Ok(&compact));
    // `Value` does not read all JSON: `1e999`, half surrogate pairs.
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        assert_eq!(serde_json::from_str::<Value>(&compact).ok(), Some(value));
    }
}

/// However `body` is cut, the same lines come out as from splitting it whole. `sizes` are those of the chunks, used in
/// turns; 0 is an empty chunk.
pub(crate) fn lines(body: &[u8], sizes: &[u8], line_bytes_max: usize) {
    let mut lines = Lines::new(line_bytes_max);
    let mut found = Vec::new();
    let mut rest = Bytes::copy_from_slice(body);
    // A one at the end of each round keeps all-empty rounds from going on for ever.
    let mut sizes = sizes.iter().copied().chain(iter::once(1)).cycle();
    while !rest.is_empty() {
        let size = usize::from(sizes.next().expect("it cycles"));
        lines.push(rest.split_to(size.min(rest.len())));
        found.extend(iter::from_fn(|| lines.next_line()));
    }
    found.extend(iter::from_fn(|| lines.finish()));
    assert_eq!(found, split_whole(body, line_bytes_max));
}

/// Returns the lines of `body` up to the first one that is too long.
fn split_whole(body: &[u8], line_bytes_max: usize) -> Vec<Result<Line, Problem>> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(body.split(|byte| *byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > line_bytes_max {
            found.push(Err(Problem::new(Code::EventTooLarge).at_line(number)));
            break;
        }
        if !without_bom(line).trim_ascii().is_empty() {
            found.push(Ok(Line { number, bytes: Bytes::copy_from_slice(line) }));
        }
    }
    found
}
