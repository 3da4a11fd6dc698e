//! Server-Sent Events, as far as the load test looks into them (WHATWG HTML §9.2.6).
//!
//! Keeps no event: a line is judged where it lies in the read buffer, and only a few words stay behind. A line that was
//! cut by the end of a read is the one thing copied. A lone CR is not taken for a line end; no encoder here writes one.

use std::time::Duration;

use memchr::{memchr, memmem, memrchr};

use super::WireError;

/// One dispatched event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Seen {
    /// A message whose data began with `<seq> <published_ns> `.
    Stamped(Stamp),
    /// `connected`: the stream is up. It begins after the event with this offset, if ids are kept and this one has an
    /// offset.
    Connected(Option<u64>),
    /// `presence`: who is there.
    Presence(Presence),
    /// `gap`: the server announces a loss.
    Gap,
    /// `overload`: a soft refusal.
    Overload,
    /// `closing`: the stream is about to end.
    Closing,
    /// Anything else.
    Other,
}

/// What the publisher wrote at the head of an event's data.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stamp {
    /// Consecutive from zero for each room or user.
    pub seq: u64,
    /// When it was published, in nanoseconds since the start.
    pub published_ns: u64,
    /// Bytes of the whole data line, this stamp included.
    pub data_bytes: u32,
}

/// What a message about who is there says first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Presence {
    /// Only the number is told: `count`. Otherwise `state` or `diff`.
    pub is_count: bool,
    /// It replaces what was known: `state` or `count`.
    pub is_whole: bool,
    /// Members.
    pub total: u64,
}

/// Incremental parser of one event stream.
#[derive(Debug, Default)]
pub struct Events {
    /// A line whose end hasn't been read yet.
    carry: Vec<u8>,
    kind: Kind,
    data: Data,
    /// Whether a line of the current block was read and its blank line was not.
    is_inside: bool,
    /// The newest id, for a subscriber that comes back. `None` if it is not needed: copying costs.
    id: Option<Id>,
    /// The newest `retry:`, milliseconds.
    retry_ms: Option<u32>,
}

/// An id counts once its block has ended (§9.2.6): a block cut short must come again.
#[derive(Debug, Default)]
struct Id {
    read: Vec<u8>,
    dispatched: Vec<u8>,
    is_fresh: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Kind {
    #[default]
    Message,
    Connected,
    Gap,
    Overload,
    Closing,
    Presence,
    Other,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Data {
    #[default]
    None,
    Stamped(Stamp),
    Presence(Presence),
    Other,
}

impl Events {
    /// Remembers ids from now on, beginning with `id`; empty for none.
    pub fn keep_id(&mut self, id: Vec<u8>) {
        self.id = Some(Id { dispatched: id, ..Id::default() });
    }

    /// The id of the last block that ended, if ids are kept and there was one.
    #[must_use]
    pub fn last_id(&self) -> &[u8] {
        self.id.as_ref().map_or(&[], |id| &id.dispatched)
    }

    /// The time to wait before a reconnect, by the server's `retry:`.
    #[must_use]
    pub fn retry(&self) -> Option<Duration> {
        self.retry_ms.map(|ms| Duration::from_millis(ms.into()))
    }

    /// Reads on; `out` gets every event whose blank line has come.
    ///
    /// # Errors
    ///
    /// [`WireError::Line`] when a line grows past 1 MiB.
    pub fn feed(&mut self, bytes: &[u8], out: &mut impl FnMut(Seen)) -> Result<(), WireError> {
        let mut rest = bytes;
        if !self.carry.is_empty() {
            let Some(at) = memchr(b'\n', rest) else {
                return self.keep(rest);
            };
            let mut line = std::mem::take(&mut self.carry);
            line.extend_from_slice(&rest[..at]);
            self.line(&line, out);
            rest = &rest[at + 1..];
        }
        while let Some(at) = memchr(b'\n', rest) {
            self.line(&rest[..at], out);
            rest = &rest[at + 1..];
        }
        self.keep(rest)
    }

    /// Whether the stream may end here without tearing an event.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        self.carry.is_empty() && !self.is_inside
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), WireError> {
        if self.carry.len() + part.len() > LINE_BYTES_MAX {
            return Err(WireError::Line);
        }
        if !part.is_empty() {
            self.carry.extend_from_slice(part);
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut impl FnMut(Seen)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.dispatch(out);
            return;
        }
        // A comment is part of no event: heartbeats may be one and nothing else.
        self.is_inside |= !line.starts_with(b":");
        if let Some(value) = field(line, b"data") {
            self.data = match self.data {
                Data::None => data(value),
                _ => Data::Other,
            };
        } else if let Some(value) = field(line, b"event") {
            self.kind = match value {
                b"" | b"message" => Kind::Message,
                b"connected" => Kind::Connected,
                b"gap" => Kind::Gap,
                b"overload" => Kind::Overload,
                b"closing" => Kind::Closing,
                b"presence" => Kind::Presence,
                _ => Kind::Other,
            };
        } else if let (Some(id), Some(value)) = (&mut self.id, field(line, b"id")) {
            id.read.clear();
            id.read.extend_from_slice(value);
            id.is_fresh = true;
        } else if let Some(value) = field(line, b"retry") {
            // Comments and what can't be parsed carry nothing that is checked here.
            self.retry_ms = std::str::from_utf8(value).ok().and_then(|ms| ms.parse().ok()).or(self.retry_ms);
        }
    }

    fn dispatch(&mut self, out: &mut impl FnMut(Seen)) {
        self.is_inside = false;
        let kind = std::mem::take(&mut self.kind);
        let data = std::mem::take(&mut self.data);
        if let Some(id) = &mut self.id
            && std::mem::take(&mut id.is_fresh)
        {
            std::mem::swap(&mut id.read, &mut id.dispatched);
        }
        out(match (kind, data) {
            // A block without data is no event: heartbeats, `retry:` alone.
            (_, Data::None) => return,
            (Kind::Message, Data::Stamped(stamp)) => Seen::Stamped(stamp),
            (Kind::Connected, _) => Seen::Connected(offset(self.last_id())),
            (Kind::Presence, Data::Presence(presence)) => Seen::Presence(presence),
            (Kind::Gap, _) => Seen::Gap,
            (Kind::Overload, _) => Seen::Overload,
            (Kind::Closing, _) => Seen::Closing,
            (Kind::Message | Kind::Presence | Kind::Other, _) => Seen::Other,
        });
    }
}

/// The value of `name: value`, without the one optional space.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// What the first line of an event's data is.
fn data(line: &[u8]) -> Data {
    let presence = || presence(line).map(Data::Presence);
    stamp(line).map(Data::Stamped).or_else(presence).unwrap_or(Data::Other)
}

/// The beginning of `{"type":"count","rev":9,"total":10000,…`. Names and data of members come after it.
fn presence(line: &[u8]) -> Option<Presence> {
    let rest = line.strip_prefix(br#"{"type":""#)?;
    let kind = &rest[..memchr(b'"', rest)?];
    let at = memmem::find(rest, br#""total":"#)? + br#""total":"#.len();
    let digits = rest[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let total = std::str::from_utf8(&rest[at..at + digits]).ok()?.parse().ok()?;
    let is_count = kind == b"count";
    Some(Presence { is_count, is_whole: is_count || kind == b"state", total })
}

/// The offset in an id, `<epoch>-<offset>`.
fn offset(id: &[u8]) -> Option<u64> {
    let digits = &id[memrchr(b'-', id)? + 1..];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn stamp(data: &[u8]) -> Option<Stamp> {
    let (seq, rest) = number(data)?;
    let (published_ns, _) = number(rest)?;
    let data_bytes = u32::try_from(data.len()).ok()?;
    Some(Stamp { seq, published_ns, data_bytes })
}

/// `<digits> `, and what follows.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b' ' if at > 0 => return Some((value, &bytes[at + 1..])),
            _ => return None,
        }
    }
    None
}

const LINE_BYTES_MAX: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> (Vec<Seen>, Events) {
        let mut events = Events::default();
        let mut seen = Vec::new();
        for piece in pieces {
            events.feed(piece, &mut |event| seen.push(event)).expect("short lines");
        }
        (seen, events)
    }

    #[test]
    fn fields_come_in_any_order_and_heartbeats_are_no_events() {
        let (seen, events) = read(&[b"retry: 3000\nevent: connected\nid: e-0\ndata: {}\n\n\
            : beat\nid: e-1\n\n\
            data: 0 17 xx\nid: e-2\n\n\
            id: e-3\r\nevent: message\r\ndata:1 18 y\r\n\r\n\
            data: {}\nevent: gap\n\n\
            data: 2 19 x\ndata: second line\n\n"]);
        let first = Stamp { seq: 0, published_ns: 17, data_bytes: 7 };
        let second = Stamp { seq: 1, published_ns: 18, data_bytes: 6 };
        assert_eq!(
            seen,
            [Seen::Connected(None), Seen::Stamped(first), Seen::Stamped(second), Seen::Gap, Seen::Other]
        );
        assert!(events.is_between_events());
    }

    #[test]
    fn an_id_counts_when_its_block_has_ended() {
        let mut events = Events::default();
        events.keep_id(b"e-1".to_vec());
        events.feed(b"retry: 3127\ndata: 0 1 x\nid: e-2\n", &mut |_| {}).expect("short lines");
        assert_eq!(events.last_id(), b"e-1");
        events.feed(b"\ndata: 1 1 x\n\n: beat\nid: e-3\n\nid: e-4", &mut |_| {}).expect("short lines");
        assert_eq!(events.last_id(), b"e-3");
        assert_eq!(events.retry(), Some(Duration::from_millis(3_127)));
        let mut careless = Events::default();
        careless.feed(b"id: e-9\ndata: 0 1 x\n\n", &mut |_| {}).expect("short lines");
        assert_eq!(careless.last_id(), b"");
    }

    #[test]
    fn a_stream_says_where_it_begins_and_who_is_there() {
        let mut events = Events::default();
        events.keep_id(Vec::new());
        let mut seen = Vec::new();
        let text = b"event: connected\nid: k3-v9-41\ndata: {}\n\n\
            event: presence\nroom: r0\ndata: {\"type\":\"state\",\"rev\":4,\"total\":2,\"members\":[]}\n\n\
            event: presence\ndata: {\"type\":\"diff\",\"rev\":5,\"total\":3,\"leave\":[\"x\"]}\n\n\
            event: presence\ndata: {\"type\":\"count\",\"rev\":6,\"total\":10000}\n\n\
            event: presence\ndata: {\"rev\":6}\n\n";
        events.feed(text, &mut |event| seen.push(event)).expect("short lines");
        let told = |is_count, is_whole, total| Seen::Presence(Presence { is_count, is_whole, total });
        let wanted = [
            Seen::Connected(Some(41)),
            told(false, true, 2),
            told(false, false, 3),
            told(true, true, 10_000),
            Seen::Other,
        ];
        assert_eq!(seen, wanted);
        assert_eq!(events.last_id(), b"k3-v9-41", "what is told of members has no id");
    }

    #[test]
    fn a_bare_comment_is_between_events() {
        let (seen, events) = read(&[b"data: 0 1 x\n\n:\n:\n"]);
        assert_eq!(seen.len(), 1);
        assert!(events.is_between_events());
        let (_, events) = read(&[b"data: 0 1 x\n:\n"]);
        assert!(!events.is_between_events());
    }

    #[test]
    fn an_event_without_its_blank_line_is_inside() {
        let (seen, events) = read(&[b"data: 0 1 x\n"]);
        assert!(seen.is_empty() && !events.is_between_events());
        let (_, events) = read(&[b"data: 0 1 x\n\nda"]);
        assert!(!events.is_between_events());
    }

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(stamp(b"99999999999999999999999 1 x"), None);
        assert_eq!(stamp(b"1 2"), None);
        assert_eq!(stamp(b" 1 2 "), None);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut events = Events::default();
        let part = vec![b'x'; 600 * 1024];
        events.feed(&part, &mut |_| {}).expect("below the bound");
        assert_eq!(events.feed(&part, &mut |_| {}), Err(WireError::Line));
    }
}
