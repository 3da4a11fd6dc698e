//! HTTP/1 as bytes on a socket.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, is_gone};

/// Returns a request with a `host`, and a length if it has a body.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut lines = vec![format!("{method} {path} HTTP/1.1"), "host: localhost".to_owned()];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if method == "POST" || !body.is_empty() {
        lines.push(format!("content-length: {}", body.len()));
    }
    let head = format!("{}\r\n\r\n", lines.join("\r\n"));
    [head.as_bytes(), body].concat()
}

/// Returns one chunk of a body (RFC 9112 §7.1).
pub fn chunk(payload: &str) -> String {
    format!("{:x}\r\n{payload}\r\n", payload.len())
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection, and the bytes that were read from it and not used yet.
pub struct Conn {
    wire: Wire,
    unread: Vec<u8>,
}

impl Conn {
    pub fn tcp(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).expect("the server listens"))
    }

    /// Connects with a small receive buffer, so that the server soon blocks when the client does not read.
    pub fn tcp_with_small_buffer(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        // Before connecting, so that the window is small from the start.
        socket.set_recv_buffer_size(4096).expect("a buffer of that size");
        socket.connect(&addr.into()).expect("the server listens");
        Self::new(Wire::Tcp(socket.into()))
    }

    /// Takes over a connection that was made elsewhere.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        Self::new(Wire::Tcp(stream))
    }

    /// Makes the connection accept and acknowledge no more bytes, like a machine that lost its network: the kernel
    /// drops what arrives for it (`SO_ATTACH_FILTER`, socket(7)), which needs no privileges.
    pub fn vanish(&self) {
        // BPF_RET with a length of 0.
        let drop_all = [socket2::SockFilter::new(0x06, 0, 0, 0)];
        let Wire::Tcp(stream) = &self.wire else { panic!("only networks get lost") };
        socket2::SockRef::from(stream).attach_filter(&drop_all).expect("a filter");
    }

    pub fn unix(path: &Path) -> Self {
        Self::new(Wire::Unix(UnixStream::connect(path).expect("the server listens")))
    }

    fn new(wire: Wire) -> Self {
        let set = match &wire {
            Wire::Tcp(stream) => stream.set_read_timeout(Some(PATIENCE)),
            Wire::Unix(stream) => stream.set_read_timeout(Some(PATIENCE)),
        };
        set.expect("a time above zero");
        Self { wire, unread: Vec::new() }
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.wire {
            Wire::Tcp(stream) => stream.write_all(bytes),
            Wire::Unix(stream) => stream.write_all(bytes),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the server reads");
    }

    /// Ends the sending direction only.
    pub fn end_sending(&self) {
        let ended = match &self.wire {
            Wire::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Wire::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        ended.expect("an open connection");
    }

    /// Reads once. Returns false if the server has closed the connection.
    pub fn fill(&mut self) -> bool {
        let mut buf = [0; 16 << 10];
        let read = match &mut self.wire {
            Wire::Tcp(stream) => stream.read(&mut buf),
            Wire::Unix(stream) => stream.read(&mut buf),
        };
        match read {
            Ok(count) => {
                self.unread.extend_from_slice(&buf[..count]);
                count > 0
            }
            Err(err) if is_gone(&err) => false,
            // A child's end, for example, interrupts a read that has a timeout (signal(7)).
            Err(err) if err.kind() == io::ErrorKind::Interrupted => self.fill(),
            Err(err) => panic!("nothing more came after {:?}: {err}", String::from_utf8_lossy(&self.unread)),
        }
    }

    /// Reads a single byte and drops it. Returns false if the server has closed the connection.
    pub fn sip(&mut self) -> bool {
        let mut byte = [0];
        let read = match &mut self.wire {
            Wire::Tcp(stream) => stream.read(&mut byte),
            Wire::Unix(stream) => stream.read(&mut byte),
        };
        matches!(read, Ok(1))
    }

    /// Returns whether the server closed the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !self.fill()
    }

    /// Returns the bytes that come next, as many as there are; `None` if the connection ends.
    pub fn take_some(&mut self) -> Option<Vec<u8>> {
        (!self.unread.is_empty() || self.fill()).then(|| self.take_unread())
    }

    /// Takes all bytes that have been read.
    pub fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Returns the next `count` bytes, or `None` if the connection ends before.
    pub fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            if !self.fill() {
                return None;
            }
        }
        Some(self.unread.drain(..count).collect())
    }

    /// Returns all bytes up to and including `marker`, or `None` if the connection ends before.
    pub fn take_until(&mut self, marker: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.unread.windows(marker.len()).position(|window| window == marker) {
                return self.take(at + marker.len());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    pub fn take_to_end(&mut self) -> Vec<u8> {
        while self.fill() {}
        self.take_unread()
    }

    /// Returns the head of the next response.
    pub fn head(&mut self) -> Head {
        let head = self.take_until(b"\r\n\r\n");
        let Some(head) = head else {
            panic!("closed before a whole head: {:?}", String::from_utf8_lossy(&self.unread));
        };
        Head(String::from_utf8(head).expect("heads are ASCII"))
    }

    /// Returns the next response, whole.
    pub fn response(&mut self) -> Response {
        let head = self.head();
        let body = if matches!(head.status(), 100..200 | 204 | 304) {
            Vec::new()
        } else if let Some(length) = head.header("content-length") {
            self.take(length.parse().expect("a number")).expect("the whole body")
        } else {
            assert_eq!(head.header("transfer-encoding"), None, "only streams are chunked");
            self.take_to_end()
        };
        Response { head, body }
    }

    /// Sends `request` and returns the response.
    pub fn round(mut self, request: &[u8]) -> Response {
        self.send(request);
        self.response()
    }
}

/// The head of a response, as it came.
#[derive(Clone, Debug)]
pub struct Head(pub String);

impl Head {
    pub fn status(&self) -> u16 {
        self.0.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line")
    }

    /// Returns the value of a header that occurs once; `None` if it is missing.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.0.lines().skip(1).filter_map(|line| line.split_once(": "));
        let value = values.find(|(known, _)| known.eq_ignore_ascii_case(name))?.1;
        assert!(!values.any(|(known, _)| known.eq_ignore_ascii_case(name)), "{name} twice: {}", self.0);
        Some(value)
    }

    /// Returns the head with the value of `date` replaced, which must have the form of one (RFC 9110 §5.6.7).
    pub fn without_date(&self) -> String {
        let date = self.header("date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
        self.0.replace(date, "-")
    }
}

/// A response with all of its body.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Response {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.text()))
    }
}
