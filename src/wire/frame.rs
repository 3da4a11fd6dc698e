//! One published event as bytes: encoded once, then shared by every stream it is for.
//!
//! A frame is stored as a complete HTTP/1.1 chunk (RFC 9112 §7.1), because nearly every connection is sent chunks:
//! delivering a single event to a room copies nothing, and a batch is frames end to end.

use bytes::Bytes;

use crate::types::name::EventName;

/// An encoded event: `<hex size>\r\n[event: <name>\n]id: <id>\n[room: <room>\n](data: <line>\n)+\n\r\n`.
///
/// `EventSource` ignores the field `room` (WHATWG HTML §9.2.6); clients that know it tell the rooms of one stream apart.
#[derive(Clone, Debug)]
pub struct Frame {
    chunk: Bytes,
    /// Length of `<hex size>\r\n`, at most [`CHUNK_HEAD_BYTES_MAX`].
    head: u8,
    /// Length of the event's name, 0 if it has none: names are not empty.
    name: u8,
    /// Length of its id.
    id: u8,
    /// Length of the name of its room, 0 if it does not say one.
    room: u8,
}

impl Frame {
    /// The event as one HTTP/1.1 chunk.
    #[must_use]
    pub fn chunk(&self) -> &Bytes {
        &self.chunk
    }

    /// The event without chunk framing, as HTTP/1.0 and compression need it. Shares the chunk's memory.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        self.chunk.slice(usize::from(self.head)..self.chunk.len() - CHUNK_TAIL.len())
    }

    /// The event's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let begin = usize::from(self.head) + "event: ".len();
        (self.name > 0).then(|| self.text(begin, begin + usize::from(self.name)))
    }

    /// The event's id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text(self.id_at(), self.id_at() + usize::from(self.id))
    }

    /// The room it says it is from.
    #[must_use]
    pub fn room(&self) -> Option<&str> {
        let begin = self.room_at() + "room: ".len();
        (self.room > 0).then(|| self.text(begin, begin + usize::from(self.room)))
    }

    /// The event's data, as an `EventSource` receives it: with `\n` for each line end.
    #[must_use]
    pub fn data(&self) -> String {
        let room_bytes = if self.room > 0 { field_bytes("room", usize::from(self.room)) } else { 0 };
        let begin = self.room_at() + room_bytes;
        let end = self.chunk.len() - "\n\n".len() - CHUNK_TAIL.len();
        let lines = self.text(begin, end).split('\n');
        lines.map(|line| &line["data: ".len()..]).collect::<Vec<_>>().join("\n")
    }

    fn id_at(&self) -> usize {
        let name_bytes = if self.name > 0 { field_bytes("event", usize::from(self.name)) } else { 0 };
        usize::from(self.head) + name_bytes + "id: ".len()
    }

    fn room_at(&self) -> usize {
        self.id_at() + usize::from(self.id) + "\n".len()
    }

    fn text(&self, begin: usize, end: usize) -> &str {
        std::str::from_utf8(&self.chunk[begin..end]).expect("a frame is made of text")
    }

    /// Bytes this frame keeps alive.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunk.len()
    }

    /// Always false: a frame has at least an id and one data line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// An event without its id. All costly work is done, so that little is left to do under the order's lock.
#[derive(Debug)]
pub struct Unsealed {
    /// `[space for the size, the name and the id][[room: <room>\n](data: <line>\n)+\n\r\n]`
    buf: Vec<u8>,
    /// Where the lines after the id start.
    rest_at: usize,
    name: Option<EventName>,
    /// Length of the name of its room, 0 if it does not say one.
    room: u8,
}

impl Unsealed {
    /// Encodes `data`, leaving room for an id of up to `id_bytes_max` bytes.
    ///
    /// LF, CR and CRLF each start a new `data:` line (WHATWG HTML §9.2.5), so browsers hand JavaScript the same text
    /// with `\n` line ends.
    #[must_use]
    pub fn new(name: Option<EventName>, data: &str, id_bytes_max: usize) -> Self {
        Self::from_room(name, None, data, id_bytes_max)
    }

    /// The same for an event that says which room it is from.
    ///
    /// # Panics
    ///
    /// If the name of the room is longer than 255 bytes.
    #[must_use]
    pub fn from_room(name: Option<EventName>, room: Option<&str>, data: &str, id_bytes_max: usize) -> Self {
        let name_bytes = name.as_ref().map_or(0, |name| field_bytes("event", name.as_str().len()));
        let room_bytes = room.map_or(0, |room| field_bytes("room", room.len()));
        let rest_at = CHUNK_HEAD_BYTES_MAX + name_bytes + field_bytes("id", id_bytes_max);
        let breaks = data.bytes().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
        // The beginning of each further `data:` line takes the place of a line end.
        let data_bytes = data.len() + field_bytes("data", 0) + breaks * (field_bytes("data", 0) - 1);
        // Exact, so that `Bytes` takes the buffer over without a copy. Only a CRLF counts as two.
        let mut buf = Vec::with_capacity(rest_at + room_bytes + data_bytes + 1 + CHUNK_TAIL.len());
        buf.resize(rest_at, 0);
        if let Some(room) = room {
            put_field(&mut buf, "room", room);
        }
        for line in lines(data) {
            put_field(&mut buf, "data", line);
        }
        buf.push(b'\n');
        buf.extend_from_slice(CHUNK_TAIL);
        let room = room.map_or(0, |room| u8::try_from(room.len()).expect("names are short"));
        Self { buf, rest_at, name, room }
    }

    /// Completes the event with its id. Writes a few dozen bytes and allocates nothing.
    ///
    /// # Panics
    ///
    /// If `id` is longer than the `id_bytes_max` given to [`Unsealed::new`], or than 255 bytes.
    #[must_use]
    pub fn seal(mut self, id: &[u8]) -> Frame {
        let mut at = self.rest_at;
        let mut prepend = |bytes: &[u8]| {
            self.buf[at - bytes.len()..at].copy_from_slice(bytes);
            at -= bytes.len();
            at
        };
        prepend(b"\n");
        prepend(id);
        let mut payload_at = prepend(b"id: ");
        if let Some(name) = &self.name {
            prepend(b"\n");
            prepend(name.as_str().as_bytes());
            payload_at = prepend(b"event: ");
        }
        let mut size = [0; CHUNK_HEAD_BYTES_MAX];
        let size = chunk_head(self.buf.len() - CHUNK_TAIL.len() - payload_at, &mut size);
        let start = payload_at - size.len();
        self.buf[start..payload_at].copy_from_slice(size);
        let len = |bytes: usize| u8::try_from(bytes).expect("chunk heads, names and ids are short");
        let name = self.name.as_ref().map_or(0, |name| name.as_str().len());
        let (head, name, id) = (len(size.len()), len(name), len(id.len()));
        let mut chunk = Bytes::from(self.buf);
        bytes::Buf::advance(&mut chunk, start);
        Frame { chunk, head, name, id, room: self.room }
    }
}

/// Appends `<name>: <value>\n`.
pub(super) fn put_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

fn field_bytes(name: &str, value_bytes: usize) -> usize {
    name.len() + 2 + value_bytes + 1
}

/// Splits on the three SSE line ends. `str::lines` will not do: it keeps a lone CR.
pub(super) fn lines(data: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        let Some(at) = text.find(['\r', '\n']) else {
            return Some(text);
        };
        let end = if text[at..].starts_with("\r\n") { at + 2 } else { at + 1 };
        rest = Some(&text[end..]);
        Some(&text[..at])
    })
}

/// Longest `<hex size>\r\n`: eight digits are 4 GiB, far above any event or batch.
pub const CHUNK_HEAD_BYTES_MAX: usize = 10;

/// The end of every chunk.
pub const CHUNK_TAIL: &[u8] = b"\r\n";

/// Formats `<hex size>\r\n` into the end of `buf` and returns that part.
///
/// # Panics
///
/// If `size` is 4 GiB or more.
pub(super) fn chunk_head(size: usize, buf: &mut [u8; CHUNK_HEAD_BYTES_MAX]) -> &[u8] {
    let mut at = buf.len() - CHUNK_TAIL.len();
    buf[at..].copy_from_slice(CHUNK_TAIL);
    let mut rest = size;
    loop {
        at -= 1;
        buf[at] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return &buf[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(name: Option<&str>, id: &str, data: &str) -> Frame {
        let name = name.map(|name| EventName::new(name).unwrap());
        Unsealed::new(name, data, 64).seal(id.as_bytes())
    }

    #[test]
    fn a_frame_is_one_chunk_around_one_event() {
        let frame = frame(Some("price"), "k3v9q2-7", "42");
        assert_eq!(&frame.plain()[..], b"event: price\nid: k3v9q2-7\ndata: 42\n\n");
        assert_eq!(&frame.chunk()[..], b"24\r\nevent: price\nid: k3v9q2-7\ndata: 42\n\n\r\n");
        assert!(frame.len() == frame.chunk().len() && !frame.is_empty());
    }

    #[test]
    fn a_frame_knows_its_fields() {
        let frame = frame(Some("price"), "k-1", "a\nid: no\n\nevent: no\r");
        assert_eq!((frame.name(), frame.id()), (Some("price"), "k-1"));
        assert_eq!(frame.data(), "a\nid: no\n\nevent: no\n");
        let frame = Unsealed::new(None, "", 64).seal(b"7");
        assert_eq!((frame.name(), frame.id(), frame.data()), (None, "7", String::new()));
    }

    #[test]
    fn an_event_of_a_room_says_which() {
        let name = EventName::new("say").ok();
        let frame = Unsealed::from_room(name, Some("lobby"), "room: no\nhi", 64).seal(b"k-1");
        assert_eq!(&frame.plain()[..], b"event: say\nid: k-1\nroom: lobby\ndata: room: no\ndata: hi\n\n");
        assert_eq!((frame.room(), frame.id(), frame.data().as_str()), (Some("lobby"), "k-1", "room: no\nhi"));
        assert_eq!(Unsealed::new(None, "", 64).seal(b"7").room(), None);
    }

    #[test]
    fn every_line_end_starts_a_new_data_line() {
        let frame = frame(None, "1", "a\nb\rc\r\nd\n");
        assert_eq!(&frame.plain()[..], b"id: 1\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    }

    #[test]
    fn empty_data_is_still_an_event() {
        assert_eq!(&frame(None, "1", "").plain()[..], b"id: 1\ndata: \n\n");
    }

    #[test]
    fn an_event_is_given_the_memory_it_needs_and_no_more() {
        for (name, before) in [(None, "id: 12345678\n"), (Some("price"), "event: price\nid: 12345678\n")] {
            let name = name.map(|name| EventName::new(name).unwrap());
            for (data, room) in [("", None), ("one", Some("a")), ("one\ntwo\rthree\n", Some("lobby"))] {
                let unsealed = Unsealed::from_room(name.clone(), room, data, 8);
                assert_eq!(unsealed.rest_at, CHUNK_HEAD_BYTES_MAX + before.len());
                assert_eq!(unsealed.buf.capacity(), unsealed.buf.len(), "{data:?}");
            }
        }
    }

    #[test]
    fn sizes_are_hexadecimal_without_padding() {
        let mut buf = [0; CHUNK_HEAD_BYTES_MAX];
        assert_eq!(chunk_head(0, &mut buf), b"0\r\n");
        assert_eq!(chunk_head(255, &mut buf), b"ff\r\n");
        assert_eq!(chunk_head(0xffff_ffff, &mut buf), b"ffffffff\r\n");
    }
}
