//! A subscriber that sees every byte of its stream.

use flate2::{Decompress, FlushDecompress};
use serde_json::Value;

use super::BASE;
use super::conn::{Conn, Head, request};

/// How a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With the last chunk, so that nothing can be missing.
    LastChunk,
    /// With the connection.
    Closed,
}

/// The stream's first event.
#[derive(Clone, Debug, Default)]
pub struct Connected {
    /// Milliseconds.
    pub retry: u64,
    pub id: Option<String>,
    /// The text of `data:`.
    pub data: String,
}

impl Connected {
    fn parse(event: &str) -> Self {
        let mut lines = event.lines();
        let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).map(str::to_owned);
        let retry = field("retry: ").and_then(|retry| retry.parse().ok()).expect("retry comes first");
        assert_eq!(field("event: ").as_deref(), Some("connected"), "{event}");
        let (id, data) = match event.lines().nth(2).and_then(|line| line.strip_prefix("id: ")) {
            Some(id) => (Some(id.to_owned()), event.lines().nth(3)),
            None => (None, event.lines().nth(2)),
        };
        let data = data.and_then(|line| line.strip_prefix("data: ")).expect("one line of data").to_owned();
        Self { retry, id, data }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).expect("JSON")
    }
}

/// An open stream.
pub struct Listener {
    pub conn: Conn,
    pub head: Head,
    pub connected: Connected,
    chunked: bool,
    inflate: Option<Inflate>,
    /// Plain bytes that have come and were not used yet.
    plain: Vec<u8>,
    end: Option<End>,
}

impl Listener {
    /// Requests `{base}{path}` and reads up to and including `connected`.
    pub fn open(mut conn: Conn, path: &str, headers: &[(&str, &str)]) -> Self {
        let headers = [&[("accept", "text/event-stream")], headers].concat();
        conn.send(request("GET", &format!("{BASE}{path}"), &headers, b""));
        let mut listener = Self::answered(conn);
        assert_eq!(listener.head.status(), 200, "{}", listener.head.0);
        listener.connected = Connected::parse(&listener.event());
        listener
    }

    /// Reads the head of any answer to the request that was sent on `conn`.
    pub fn answered(mut conn: Conn) -> Self {
        let head = conn.head();
        let chunked = head.header("transfer-encoding") == Some("chunked");
        let inflate = (head.header("content-encoding") == Some("gzip")).then(Inflate::default);
        Self { conn, head, connected: Connected::default(), chunked, inflate, plain: Vec::new(), end: None }
    }

    /// Returns the id at which the stream started.
    pub fn start_id(&self) -> &str {
        self.connected.id.as_deref().expect("connected with an id")
    }

    /// Returns the payload of the next chunk, or the next bytes of a stream without chunks. `None` at the end.
    pub fn payload(&mut self) -> Option<Vec<u8>> {
        if self.end.is_some() {
            return None;
        }
        let payload = if self.chunked { self.chunk() } else { self.conn.take_some().ok_or(End::Closed) };
        payload.inspect_err(|end| self.end = Some(*end)).ok()
    }

    fn chunk(&mut self) -> Result<Vec<u8>, End> {
        let size = self.conn.take_until(b"\r\n").ok_or(End::Closed)?;
        let size = std::str::from_utf8(&size).expect("ASCII").trim_end();
        let size = usize::from_str_radix(size, 16).expect("a hexadecimal chunk size");
        let mut payload = self.conn.take(size + 2).ok_or(End::Closed)?;
        assert!(payload.ends_with(b"\r\n"), "a chunk ends with CRLF");
        payload.truncate(size);
        if size == 0 { Err(End::LastChunk) } else { Ok(payload) }
    }

    /// Returns the next event, heartbeats included: its exact bytes with the blank line, or a comment alone. `None` if
    /// the stream ends before.
    pub fn try_event(&mut self) -> Option<String> {
        loop {
            if let Some(len) = self.event_len() {
                let event = self.plain.drain(..len).collect();
                return Some(String::from_utf8(event).expect("UTF-8"));
            }
            let payload = self.payload()?;
            match &mut self.inflate {
                Some(inflate) => inflate.take(&payload, &mut self.plain),
                None => self.plain.extend_from_slice(&payload),
            }
        }
    }

    /// Returns the length of the event that has come. A comment belongs to the next lines only if these begin with an
    /// id: heartbeats are written at once.
    fn event_len(&self) -> Option<usize> {
        if let Some(rest) = self.plain.strip_prefix(b":\n")
            && !rest.starts_with(b"id: ")
        {
            return Some(2);
        }
        self.plain.windows(2).position(|window| window == b"\n\n").map(|at| at + 2)
    }

    #[track_caller]
    pub fn event(&mut self) -> String {
        self.try_event().expect("the stream goes on")
    }

    /// Returns the next `count` events.
    #[track_caller]
    pub fn events(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event()).collect()
    }

    /// Returns the next event's `data` lines, joined.
    #[track_caller]
    pub fn data(&mut self) -> String {
        let event = self.event();
        let lines: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert!(!lines.is_empty(), "no data in {event:?}");
        lines.join("\n")
    }

    /// Reads `event: closing` for `reason`, which must be the end, and returns the delay in milliseconds.
    #[track_caller]
    pub fn closing(&mut self, reason: &str) -> u64 {
        let event = self.event();
        let retry = event.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next());
        let retry = retry.unwrap_or_else(|| panic!("no retry in {event:?}"));
        assert_eq!(event, format!("retry: {retry}\nevent: closing\ndata: {{\"reason\":\"{reason}\"}}\n\n"));
        let end = if self.chunked { End::LastChunk } else { End::Closed };
        assert_eq!(self.end(), end);
        retry.parse().expect("a number")
    }

    /// Reads to the end, which must come between two events, without another event.
    #[track_caller]
    pub fn end(&mut self) -> End {
        assert_eq!(self.try_event(), None);
        assert_eq!(String::from_utf8_lossy(&self.plain), "", "ends between two events");
        self.end.expect("at the end")
    }
}

/// Decompresses a gzip stream as it comes, like a browser: all flushed bytes are available at once.
struct Inflate {
    raw: Decompress,
    head: usize,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { raw: Decompress::new(false), head: 0 }
    }
}

impl Inflate {
    fn take(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        // RFC 1952 §2.3: ten bytes when no flag is set.
        while self.head < 10
            && let Some((byte, rest)) = bytes.split_first()
        {
            let fixed = [0x1f, 0x8b, 8, 0];
            assert!(fixed.get(self.head).is_none_or(|fixed| fixed == byte), "a gzip header");
            self.head += 1;
            bytes = rest;
        }
        loop {
            let (read, written) = (self.raw.total_in(), self.raw.total_out());
            out.reserve(4096);
            self.raw.decompress_vec(bytes, out, FlushDecompress::None).expect("valid deflate");
            bytes = &bytes[usize::try_from(self.raw.total_in() - read).expect("no more than given")..];
            if bytes.is_empty() && self.raw.total_out() == written {
                return;
            }
        }
    }
}
