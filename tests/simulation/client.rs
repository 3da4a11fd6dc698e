//! A subscriber's end of the wire, written from the standards and not from the server: chunks (RFC 9112 §7.1), gzip
//! (RFC 1952), and the event stream (WHATWG HTML §9.2.6). Takes bytes in any portions.

use flate2::{Decompress, FlushDecompress, Status};
use tidegate::wire::encoding::Encoding;

/// The head before the stream.
pub(crate) const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A block that ended at a blank line, or a comment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// An event, with the `lastEventId` it leaves behind, and the room it says it is from.
    Event { name: String, data: String, id: String, room: String },
    /// No event, but perhaps a new `lastEventId`.
    Quiet { id: String },
    /// Not at a blank line: a comment.
    Comment,
}

impl Item {
    /// Returns whether it is an event of this name.
    pub(crate) fn is(&self, event: &str) -> bool {
        matches!(self, Self::Event { name, .. } if name == event)
    }
}

/// All layers below and including `EventSource`.
pub(crate) struct Client {
    head: usize,
    encoding: Encoding,
    chunks: Chunks,
    gzip: Option<Decompress>,
    gzip_head: usize,
    source: EventSource,
    /// How many items there were when a chunk last ended.
    pub items_in_whole_chunks: usize,
}

impl Client {
    /// `id` is the last event id of an earlier stream.
    pub(crate) fn new(encoding: Encoding, id: &str) -> Self {
        Self {
            head: 0,
            encoding,
            chunks: Chunks::default(),
            gzip: encoding.gzip.then(|| Decompress::new(false)),
            gzip_head: 0,
            source: EventSource { id: id.to_owned(), last_event_id: id.to_owned(), ..EventSource::default() },
            items_in_whole_chunks: 0,
        }
    }

    pub(crate) fn items(&self) -> &[Item] {
        &self.source.items
    }

    /// Returns the reconnect delay that the server asked for last, in milliseconds.
    pub(crate) fn retry(&self) -> Option<u64> {
        self.source.retry
    }

    /// Returns whether the last chunk has come.
    pub(crate) fn has_ended(&self) -> bool {
        self.chunks.state == ChunkState::Ended
    }

    /// Returns whether the received bytes end between two blocks of the stream.
    pub(crate) fn is_between_events(&self) -> bool {
        self.source.line.is_empty() && self.source.data.is_empty() && self.source.name.is_empty()
    }

    pub(crate) fn take(&mut self, mut bytes: &[u8]) {
        let head = bytes.len().min(HEAD.len() - self.head);
        assert_eq!(bytes[..head], HEAD[self.head..self.head + head], "the head goes out as it is");
        self.head += head;
        bytes = &bytes[head..];
        if !self.encoding.chunked {
            return self.body(bytes);
        }
        while !bytes.is_empty() {
            let mut payload = Vec::new();
            let ended = self.chunks.take(&mut bytes, &mut payload);
            self.body(&payload);
            if ended {
                self.items_in_whole_chunks = self.source.items.len();
            }
        }
    }

    fn body(&mut self, mut bytes: &[u8]) {
        let Some(inflate) = &mut self.gzip else {
            return self.source.take(bytes);
        };
        while self.gzip_head < 10
            && let Some((byte, rest)) = bytes.split_first()
        {
            let fixed = [0x1f, 0x8b, 8, 0];
            assert!(fixed.get(self.gzip_head).is_none_or(|want| want == byte), "a gzip header");
            self.gzip_head += 1;
            bytes = rest;
        }
        while !bytes.is_empty() {
            let mut out = [0; 4096];
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(bytes, &mut out, FlushDecompress::None).expect("valid deflate");
            assert_ne!(status, Status::StreamEnd, "the stream goes on");
            let (read, written) = (inflate.total_in() - read, inflate.total_out() - written);
            self.source.take(&out[..usize::try_from(written).unwrap()]);
            bytes = &bytes[usize::try_from(read).unwrap()..];
            assert!(read > 0 || written > 0, "inflate goes on");
        }
        // Output that fitted into the window but not into `out` comes without more input.
        loop {
            let mut out = [0; 4096];
            let written = inflate.total_out();
            let _ = inflate.decompress(&[], &mut out, FlushDecompress::None);
            let written = usize::try_from(inflate.total_out() - written).unwrap();
            self.source.take(&out[..written]);
            if written == 0 {
                return;
            }
        }
    }
}

#[derive(Default)]
struct Chunks {
    state: ChunkState,
    size: String,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum ChunkState {
    #[default]
    Size,
    Payload(usize),
    /// Bytes of `\r\n` still to come.
    Tail(usize),
    /// Bytes of the `\r\n` after the last chunk still to come.
    Last(usize),
    Ended,
}

impl Chunks {
    /// Takes from `bytes` up to the end of a chunk. Returns whether it got there.
    fn take(&mut self, bytes: &mut &[u8], payload: &mut Vec<u8>) -> bool {
        while let Some((byte, rest)) = bytes.split_first() {
            match self.state {
                ChunkState::Size => {
                    *bytes = rest;
                    self.size.push(char::from(*byte));
                    if let Some(digits) = self.size.strip_suffix("\r\n") {
                        let size = usize::from_str_radix(digits, 16).expect("a hexadecimal chunk size");
                        self.size.clear();
                        self.state = if size == 0 { ChunkState::Last(2) } else { ChunkState::Payload(size) };
                    }
                }
                ChunkState::Payload(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    payload.extend_from_slice(now);
                    *bytes = rest;
                    let left = left - now.len();
                    self.state = if left == 0 { ChunkState::Tail(2) } else { ChunkState::Payload(left) };
                }
                ChunkState::Tail(left) | ChunkState::Last(left) => {
                    assert_eq!(*byte, b"\n\r"[left - 1], "a chunk ends with CRLF");
                    *bytes = rest;
                    self.state = match (self.state, left) {
                        (ChunkState::Tail(_), 2) => ChunkState::Tail(1),
                        (ChunkState::Tail(_), _) => ChunkState::Size,
                        (_, 2) => ChunkState::Last(1),
                        _ => ChunkState::Ended,
                    };
                    if left == 1 {
                        return true;
                    }
                }
                ChunkState::Ended => panic!("nothing follows the last chunk"),
            }
        }
        false
    }
}

/// The `EventSource` of a browser.
#[derive(Default)]
struct EventSource {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    room: String,
    id: String,
    last_event_id: String,
    retry: Option<u64>,
    items: Vec<Item>,
}

impl EventSource {
    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    let line = String::from_utf8(std::mem::take(&mut self.line)).expect("UTF-8");
                    self.interpret(&line);
                }
                _ => self.line.push(byte),
            }
        }
    }

    fn interpret(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.items.push(Item::Comment),
            "event" => value.clone_into(&mut self.name),
            // Browsers ignore it.
            "room" => value.clone_into(&mut self.room),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => self.retry = value.parse().ok(),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        self.last_event_id.clone_from(&self.id);
        let (mut name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        let room = std::mem::take(&mut self.room);
        let id = self.last_event_id.clone();
        if data.is_empty() {
            return self.items.push(Item::Quiet { id });
        }
        data.pop();
        if name.is_empty() {
            name.push_str("message");
        }
        self.items.push(Item::Event { name, data, id, room });
    }
}
