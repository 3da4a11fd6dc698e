//! An `EventSource` as in a browser, for thousands at once: it reads a stream, stores the last event id, and when the
//! stream ends it reconnects after the delay it was given (WHATWG HTML §9.2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

/// Something that happens to an `EventSource`.
#[derive(Debug)]
pub(crate) enum Event {
    /// The head of a stream has come.
    Open,
    /// An event was dispatched.
    Message(Message),
    /// The stream has ended. The client reconnects.
    End,
    /// There was no connection, or it broke before a whole head came. A browser reconnects after this, too.
    Unreached(io::Error),
    /// An answer that ends an `EventSource` for good: its head.
    Fatal(String),
}

/// An event as a page gets it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) kind: String,
    pub(crate) data: String,
}

pub(crate) struct EventSource {
    address: SocketAddr,
    /// The client's own address.
    from: IpAddr,
    path: String,
    headers: String,
    pub(crate) last_id: String,
    retry: Duration,
    stream: Option<Stream>,
    /// How often a stream was opened.
    pub(crate) opened: usize,
    /// Whether the next connection is not the first, and must wait.
    again: bool,
}

/// Addresses that the tests' clients use: one address has 28,000 ports, and closed ones stay unusable for a minute.
const CLIENT_ADDRESSES: usize = 16;

/// Returns the address of client `number`. No client has 127.0.0.1, so that a proxy may treat that address as internal.
pub(crate) fn client_address(number: usize) -> IpAddr {
    let last = 2 + u8::try_from(number % CLIENT_ADDRESSES).expect("at most 16");
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// Opens a connection from `from` to `address`.
pub(crate) async fn connect(from: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(address).await
}

/// Opens a connection from `from` to `address` and sends `request` on it.
///
/// With thousands of clients in one thread, a client that waits for its connection may be scheduled late. A browser in
/// its own process would have sent its request by then, so this asks the kernel to accept the bytes at once; on
/// loopback it does.
async fn send(from: IpAddr, address: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Err(err) if err.raw_os_error() != Some(EINPROGRESS) => return Err(err),
        _ => {}
    }
    let sent = socket.send(request).unwrap_or(0);
    let mut stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(()), Err)?;
    stream.write_all(&request[sent..]).await?;
    Ok(stream)
}

/// `connect(2)` on a non-blocking socket, in this architecture's numbers.
const EINPROGRESS: i32 = 115;

impl EventSource {
    /// Creates client `number`, for `path` of the server at `address`. Connects only in [`next`](Self::next).
    pub(crate) fn new(number: usize, address: SocketAddr, path: &str) -> Self {
        Self {
            address,
            from: client_address(number),
            path: path.to_owned(),
            headers: String::new(),
            last_id: String::new(),
            retry: Duration::from_secs(3),
            stream: None,
            opened: 0,
            again: false,
        }
    }

    /// Adds a header that browsers do not send.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers = format!("{}{name}: {value}\r\n", self.headers);
        self
    }

    /// Returns the next event, however long it takes.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            let Some(stream) = &mut self.stream else { return self.open().await };
            if let Some(block) = stream.take_block() {
                if let Some(message) = self.dispatch(&block) {
                    return Event::Message(message);
                }
            } else if !stream.read().await {
                self.stream = None;
                return Event::End;
            }
        }
    }

    /// Returns the next published event or event of the server, however often the stream ends before it.
    pub(crate) async fn message(&mut self) -> Message {
        loop {
            match self.next().await {
                Event::Message(message) => return message,
                Event::Open | Event::End => {}
                failed => panic!("{} {failed:?}", self.path),
            }
        }
    }

    /// Returns the next event of `kind`, and drops what comes before it.
    pub(crate) async fn message_of(&mut self, kind: &str) -> Message {
        loop {
            let message = self.message().await;
            if message.kind == kind {
                return message;
            }
        }
    }

    async fn open(&mut self) -> Event {
        if std::mem::replace(&mut self.again, true) {
            sleep(self.retry).await;
        }
        match self.request().await {
            Ok(Ok(stream)) => {
                self.opened += 1;
                self.stream = Some(stream);
                Event::Open
            }
            Ok(Err(head)) => Event::Fatal(head),
            Err(err) => Event::Unreached(err),
        }
    }

    /// Requests the stream; returns it, or the head of another answer.
    async fn request(&self) -> io::Result<Result<Stream, String>> {
        let Self { path, headers, last_id, .. } = self;
        let last_id =
            if last_id.is_empty() { String::new() } else { format!("last-event-id: {last_id}\r\n") };
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: tests\r\naccept: text/event-stream\r\ncache-control: no-cache\r\n"
        );
        let socket =
            send(self.from, self.address, format!("{head}{headers}{last_id}\r\n").as_bytes()).await?;
        let mut stream = Stream::new(socket);
        let head = stream.head().await?;
        let is_stream =
            head.starts_with("HTTP/1.1 200 ") && head.to_lowercase().contains("text/event-stream");
        Ok(if is_stream { Ok(stream) } else { Err(head) })
    }

    /// Reads a block as in §9.2.6. A block without data is no event, but its id counts.
    fn dispatch(&mut self, block: &str) -> Option<Message> {
        let mut message = Message { kind: "message".to_owned(), data: String::new() };
        let mut lines = Vec::new();
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "event" => value.clone_into(&mut message.kind),
                "data" => lines.push(value),
                "id" => value.clone_into(&mut self.last_id),
                "retry" => self.retry = Duration::from_millis(value.parse().expect("milliseconds")),
                _ => {}
            }
        }
        message.data = lines.join("\n");
        (!lines.is_empty()).then_some(message)
    }
}

/// A response's body as it comes.
struct Stream {
    socket: TcpStream,
    /// Bytes from the wire that were not taken yet.
    raw: Vec<u8>,
    /// Bytes left of the chunk, its CRLF included. `None` if the body is not chunked.
    chunk: Option<usize>,
    /// Bytes left of a body with a length.
    length: Option<usize>,
    /// Unframed bytes that were not taken yet.
    plain: Vec<u8>,
    ended: bool,
}

impl Stream {
    fn new(socket: TcpStream) -> Self {
        Self { socket, raw: Vec::new(), chunk: None, length: None, plain: Vec::new(), ended: false }
    }

    /// Reads the head, up to and including the blank line.
    async fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.raw.drain(..at + 4).collect();
                let head = String::from_utf8(head).expect("heads are ASCII");
                let field = |name: &str| {
                    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
                    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                };
                self.chunk = (field("transfer-encoding") == Some("chunked")).then_some(0);
                self.length = field("content-length").map(|length| length.parse().expect("a number"));
                self.unframe();
                return Ok(head);
            }
            let mut buf = [0; 4096];
            match self.socket.read(&mut buf).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.raw.extend_from_slice(&buf[..count]),
            }
        }
    }

    /// Reads more bytes. Returns false at the end, announced or not.
    async fn read(&mut self) -> bool {
        let mut buf = [0; 4096];
        if self.ended {
            return false;
        }
        let Ok(count @ 1..) = self.socket.read(&mut buf).await else { return false };
        self.raw.extend_from_slice(&buf[..count]);
        self.unframe();
        true
    }

    /// Removes the chunk framing (RFC 9112 §7.1).
    fn unframe(&mut self) {
        if let Some(left) = &mut self.length {
            *left = left.saturating_sub(self.raw.len());
            self.ended = *left == 0;
        }
        let Some(left) = &mut self.chunk else { return self.plain.append(&mut self.raw) };
        while !self.ended {
            if *left == 0 {
                let Some(at) = self.raw.windows(2).position(|window| window == b"\r\n") else { return };
                let size = std::str::from_utf8(&self.raw[..at]).expect("ASCII");
                let size = usize::from_str_radix(size, 16).expect("a chunk's size");
                self.raw.drain(..at + 2);
                self.ended = size == 0;
                *left = size + 2;
            } else {
                let count = self.raw.len().min(*left);
                if count == 0 {
                    return;
                }
                let data = count.min(left.saturating_sub(2));
                self.plain.extend_from_slice(&self.raw[..data]);
                self.raw.drain(..count);
                *left -= count;
            }
        }
    }

    /// Returns the next event's text, if all of it has come.
    fn take_block(&mut self) -> Option<String> {
        let at = self.plain.windows(2).position(|window| window == b"\n\n")?;
        let block = self.plain.drain(..at + 2).collect();
        Some(String::from_utf8(block).expect("UTF-8"))
    }
}
