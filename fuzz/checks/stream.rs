//! What a stream says, and what a client that resumes presents.

use tidegate::types::lineage::{Lineage, Presented};
use tidegate::types::name::{EventId, EventName};
use tidegate::types::position::{EPOCH_BYTES, Epoch};
use tidegate::wire::frame::Unsealed;

/// A presented id means a position of this epoch only if it is exactly what this epoch writes for it.
pub(crate) fn cursor(text: &str) {
    for epoch in [Epoch::new(0), Epoch::new(1_234_567_890)] {
        let as_written = |offset| epoch.position(offset).to_string() == text;
        match Lineage::root(epoch, 0).read(text) {
            Presented::Here(offset) => assert!(as_written(offset)),
            Presented::Beyond(end) => unreachable!("the only term goes on, and not to {end}"),
            Presented::Elsewhere | Presented::Foreign => {
                let digits = text.strip_prefix(epoch.as_str()).and_then(|rest| rest.strip_prefix('-'));
                let offset = digits.and_then(|digits| digits.parse().ok());
                assert!(offset.is_none_or(|offset| !as_written(offset)), "it was written by this life");
            }
        }
    }
    if let Ok(id) = EventId::new(text) {
        is_nobodys_position(&id);
    }
}

/// No epoch takes an id that a publisher may choose for a position: neither any two epochs, nor the one whose text it
/// begins with.
pub(super) fn is_nobodys_position(id: &EventId) {
    let digits = id.as_str().chars().take(EPOCH_BYTES).map(|digit| digit.to_digit(36).unwrap_or(0));
    let digits: Vec<u64> = digits.map(u64::from).collect();
    let named = digits.iter().rev().fold(0, |seed, digit| 36 * seed + digit);
    for epoch in [Epoch::new(0), Epoch::new(1_234_567_890), Epoch::new(named)] {
        assert_eq!(Lineage::root(epoch, 0).read(id.as_str()), Presented::Foreign, "{id} in {epoch}");
    }
}

/// The encoder makes of a valid event one chunk with one event in it, which an `EventSource` reads as intended: the
/// same name and id, and the same data but for its line ends. Names and ids that could break out are refused.
pub(crate) fn encode_then_parse(name: Option<&str>, id: &str, data: &str) {
    let (Ok(name), Ok(id)) = (name.map(EventName::new).transpose(), EventId::new(id)) else {
        return;
    };
    let room = data.len().is_multiple_of(2).then_some("a room: é");
    let frame = Unsealed::from_room(name.clone(), room, data, id.as_str().len()).seal(id.as_str().as_bytes());
    assert_eq!(
        (frame.room(), frame.id(), frame.name()),
        (room, id.as_str(), name.as_ref().map(EventName::as_str))
    );
    let plain = frame.plain();
    let head = format!("{:x}\r\n", plain.len());
    assert_eq!(&frame.chunk()[..], [head.as_bytes(), &plain, b"\r\n"].concat());

    let text = std::str::from_utf8(&plain).expect("an event stream is UTF-8");
    let meant = data.replace("\r\n", "\n").replace('\r', "\n");
    let name = name.as_ref().map_or("message", EventName::as_str);
    assert_eq!(event_source(text), [(name.to_owned(), id.as_str().to_owned(), meant)]);
}

/// The events in a stream: name, last event id, data (WHATWG HTML §9.2.6, without `retry`).
fn event_source(stream: &str) -> Vec<(String, String, String)> {
    let (mut events, mut name, mut last_id, mut data) =
        (Vec::new(), String::new(), String::new(), String::new());
    for line in stream.replace("\r\n", "\n").split(['\n', '\r']) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                if let Some(data) = data.strip_suffix('\n') {
                    let name = if name.is_empty() { "message" } else { &name };
                    events.push((name.to_owned(), last_id.clone(), data.to_owned()));
                }
                name.clear();
                data.clear();
            }
            "event" => value.clone_into(&mut name),
            "data" => data = data + value + "\n",
            "id" if !value.contains('\0') => value.clone_into(&mut last_id),
            _ => {}
        }
    }
    events
}
