//! The floor: what fan-out costs when nothing is offered but fan-out.
//!
//! One thread, bare epoll, one `send` of one contiguous slice per connection and event (or, with `--tick`, per connection
//! and tick). No ids to resume from, no history, no heartbeat, no limits, no checks of what it is sent. It is a
//! yardstick, and must never face a network: it trusts its peers to be the load test.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use tidegate_loadtest::target::request::{Batch, Publish};

/// The featureless reference server.
#[derive(Parser)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Events of a room within this many milliseconds leave in one send, as in `20ms`.
    #[arg(long, value_parser = parse_tick)]
    tick: Option<Duration>,
    /// Keep an index of users, so that `{"user":…}` can be published.
    #[arg(long)]
    users: bool,
}

fn main() -> ExitCode {
    match Floor::bind(&Args::parse()).and_then(Floor::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("floor: {err}");
            ExitCode::FAILURE
        }
    }
}

fn parse_tick(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?}: wanted milliseconds, as in 20ms");
    let millis: u64 = text.strip_suffix("ms").ok_or_else(wanted)?.parse().map_err(|_| wanted())?;
    if !(1..=10_000).contains(&millis) {
        return Err(wanted());
    }
    Ok(Duration::from_millis(millis))
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    room_names: HashMap<Box<str>, usize>,
    rooms: Vec<Room>,
    users: Option<HashMap<Box<str>, usize>>,
    /// Rooms with events waiting for the tick.
    due: Vec<usize>,
    tick: Option<Duration>,
    tick_at: Option<Instant>,
    events_total: u64,
}

struct Conn {
    stream: TcpStream,
    role: Role,
}

enum Role {
    /// Still speaking HTTP; the request as far as it has come.
    Requests(Vec<u8>),
    Listener {
        room: usize,
        /// Invariant: `rooms[room].members[place]` is this connection.
        place: usize,
        /// What the socket did not take.
        unsent: Vec<u8>,
    },
}

#[derive(Default)]
struct Room {
    members: Vec<usize>,
    /// Chunk-framed events waiting for the tick.
    waiting: Vec<u8>,
}

impl Floor {
    fn bind(args: &Args) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(args.listen), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        // Both are inherited by accepted sockets, so accepting needs no call to set them.
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        socket.bind(&args.listen.into())?;
        socket.listen(4096)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            conns: Vec::with_capacity(20_000),
            free: Vec::new(),
            room_names: HashMap::new(),
            rooms: Vec::new(),
            users: args.users.then(HashMap::new),
            due: Vec::new(),
            tick: args.tick,
            tick_at: None,
            events_total: 0,
        })
    }

    fn run(mut self) -> io::Result<()> {
        let mut ready = Events::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let timeout = self.tick_at.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut ready, timeout) {
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &ready {
                if event.token() == LISTENER {
                    self.accept(&mut buffer)?;
                    continue;
                }
                let key = event.token().0;
                if event.is_writable() {
                    self.send_unsent(key);
                }
                if event.is_readable() {
                    self.read(key, &mut buffer);
                }
            }
            if self.tick_at.is_some_and(|at| at <= Instant::now()) {
                self.flush();
            }
        }
    }

    fn accept(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(err) if err.kind() == ErrorKind::ConnectionAborted => continue,
                Err(err) => return Err(err),
            };
            let conn = Conn { stream, role: Role::Requests(Vec::new()) };
            let key = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            self.conns[key] = Some(conn);
            // On loopback the request is usually here already: one wake-up less.
            self.read(key, buffer);
            if let Some(conn) = &mut self.conns[key] {
                let registry = self.poll.registry();
                registry.register(&mut conn.stream, Token(key), Interest::READABLE)?;
            }
        }
    }

    /// Reads until the socket is empty: epoll is edge-triggered.
    fn read(&mut self, key: usize, buffer: &mut [u8]) {
        loop {
            let Some(conn) = self.conns.get_mut(key).and_then(Option::as_mut) else {
                return;
            };
            match conn.stream.read(buffer) {
                Ok(0) => return self.close(key),
                Ok(len) => self.take_in(key, &buffer[..len]),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(key),
            }
            let is_listener =
                matches!(self.conns.get(key), Some(Some(Conn { role: Role::Listener { .. }, .. })));
            if is_listener {
                // A subscriber says nothing after its request; only its end is of interest, and that is another edge.
                return;
            }
        }
    }

    fn take_in(&mut self, key: usize, bytes: &[u8]) {
        let Some(Conn { role: Role::Requests(carry), .. }) = &mut self.conns[key] else {
            return;
        };
        if carry.is_empty() {
            let used = self.requests(key, bytes);
            if let (Some(used), Some(Conn { role: Role::Requests(carry), .. })) = (used, &mut self.conns[key])
            {
                carry.extend_from_slice(&bytes[used..]);
            }
            return;
        }
        let mut whole = std::mem::take(carry);
        whole.extend_from_slice(bytes);
        let used = self.requests(key, &whole);
        if let (Some(used), Some(Conn { role: Role::Requests(carry), .. })) = (used, &mut self.conns[key]) {
            whole.drain(..used);
            *carry = whole;
        }
    }

    /// Answers every whole request in `bytes` and returns their length; `None` if the connection is gone.
    fn requests(&mut self, key: usize, bytes: &[u8]) -> Option<usize> {
        let mut used = 0;
        let mut answers = Vec::new();
        loop {
            let rest = &bytes[used..];
            let Some(head) = memchr::memmem::find(rest, b"\r\n\r\n") else {
                break;
            };
            let head_bytes = head + 4;
            if rest.starts_with(b"GET ") {
                self.subscribe(key, &rest[4..head]);
                return Some(bytes.len());
            }
            let Some(body_bytes) = content_length(&rest[..head]) else {
                self.close(key);
                return None;
            };
            let Some(body) = rest.get(head_bytes..head_bytes + body_bytes) else {
                break;
            };
            if let Ok(batch) = serde_json::from_slice::<Batch>(body) {
                for event in batch.into_events() {
                    self.publish(&event);
                }
                answers.extend_from_slice(ACCEPTED);
            } else {
                answers.extend_from_slice(REFUSED);
            }
            used += head_bytes + body_bytes;
        }
        if !answers.is_empty() {
            // Answers are a few dozen bytes and the load test reads them, so the buffer has room.
            let conn = self.conns[key].as_mut()?;
            if conn.stream.write_all(&answers).is_err() {
                self.close(key);
                return None;
            }
        }
        Some(used)
    }

    fn subscribe(&mut self, key: usize, head: &[u8]) {
        let path = head.split(|byte| *byte == b' ').next().unwrap_or(b"");
        let Ok(path) = std::str::from_utf8(path) else {
            return self.close(key);
        };
        let mut parts = path.rsplitn(3, '/');
        let (Some(user), Some(room)) = (parts.next(), parts.next()) else {
            return self.close(key);
        };
        let room = if let Some(room) = self.room_names.get(room) {
            *room
        } else {
            self.rooms.push(Room::default());
            self.room_names.insert(room.into(), self.rooms.len() - 1);
            self.rooms.len() - 1
        };
        if let Some(users) = &mut self.users {
            users.insert(user.into(), key);
        }
        let Some(conn) = &mut self.conns[key] else {
            return;
        };
        if conn.stream.write_all(CONNECTED).is_err() {
            return self.close(key);
        }
        let place = self.rooms[room].members.len();
        conn.role = Role::Listener { room, place, unsent: Vec::new() };
        self.rooms[room].members.push(key);
    }

    fn publish(&mut self, event: &Publish) {
        self.events_total += 1;
        let text = format!("id: f-{}\ndata: {}\n\n", self.events_total, event.data);
        let frame = format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
        if let Some(user) = &event.user {
            let users = self.users.as_ref();
            if let Some(key) = users.and_then(|users| users.get(user.as_str())) {
                self.send(*key, &frame);
            }
        } else if event.all {
            for room in 0..self.rooms.len() {
                self.publish_in(room, &frame);
            }
        } else if let Some(room) = event.room.as_deref().and_then(|room| self.room_names.get(room)) {
            self.publish_in(*room, &frame);
        }
    }

    fn publish_in(&mut self, room: usize, frame: &[u8]) {
        let Some(tick) = self.tick else {
            return self.send_to_room(room, frame);
        };
        if self.rooms[room].waiting.is_empty() {
            self.due.push(room);
            self.tick_at.get_or_insert_with(|| Instant::now() + tick);
        }
        self.rooms[room].waiting.extend_from_slice(frame);
    }

    fn flush(&mut self) {
        self.tick_at = None;
        for room in std::mem::take(&mut self.due) {
            let frames = std::mem::take(&mut self.rooms[room].waiting);
            self.send_to_room(room, &frames);
        }
    }

    fn send_to_room(&mut self, room: usize, frames: &[u8]) {
        // Backwards: a connection that is closed on the way is swapped with the last, which has been served.
        for place in (0..self.rooms[room].members.len()).rev() {
            let key = self.rooms[room].members[place];
            self.send(key, frames);
        }
    }

    fn send(&mut self, key: usize, frames: &[u8]) {
        let Some(Conn { stream, role: Role::Listener { unsent, .. } }) =
            self.conns.get_mut(key).and_then(Option::as_mut)
        else {
            return;
        };
        let sent = if unsent.is_empty() {
            match stream.write(frames) {
                Ok(sent) if sent == frames.len() => return,
                Ok(sent) => sent,
                Err(err) if err.kind() == ErrorKind::WouldBlock => 0,
                Err(_) => return self.close(key),
            }
        } else {
            0
        };
        if unsent.len() + frames.len() - sent > UNSENT_BYTES_MAX {
            return self.close(key);
        }
        let is_first = unsent.is_empty();
        unsent.extend_from_slice(&frames[sent..]);
        if is_first {
            let both = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().reregister(stream, Token(key), both).is_err() {
                self.close(key);
            }
        }
    }

    fn send_unsent(&mut self, key: usize) {
        let Some(Conn { stream, role: Role::Listener { unsent, .. } }) =
            self.conns.get_mut(key).and_then(Option::as_mut)
        else {
            return;
        };
        while !unsent.is_empty() {
            match stream.write(unsent) {
                Ok(sent) => {
                    unsent.drain(..sent);
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(key),
            }
        }
        *unsent = Vec::new();
        // Back to one kind of wake-up.
        let _ = self.poll.registry().reregister(stream, Token(key), Interest::READABLE);
    }

    fn close(&mut self, key: usize) {
        let Some(conn) = self.conns[key].take() else {
            return;
        };
        self.free.push(key);
        let Role::Listener { room, place, .. } = conn.role else {
            return;
        };
        let members = &mut self.rooms[room].members;
        members.swap_remove(place);
        if let Some(moved) = members.get(place)
            && let Some(Conn { role: Role::Listener { place: old, .. }, .. }) = &mut self.conns[*moved]
        {
            *old = place;
        }
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let lines = &head[memchr::memchr(b'\n', head)? + 1..];
    // `parse_headers` wants the blank line, which `head` has lost.
    let lines = [lines, b"\r\n\r\n"].concat();
    let httparse::Status::Complete((_, headers)) = httparse::parse_headers(&lines, &mut headers).ok()? else {
        return None;
    };
    let length = headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(length.value).ok()?.parse().ok()?;
    (length <= BODY_BYTES_MAX).then_some(length)
}

const LISTENER: Token = Token(usize::MAX);
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// What one slow subscriber may have waiting here before it is cut off.
const UNSENT_BYTES_MAX: usize = 256 * 1024;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
    cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n\
    1b\r\nevent: connected\ndata: {}\n\n\r\n";
const ACCEPTED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
    content-length: 2\r\n\r\n{}";
const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
