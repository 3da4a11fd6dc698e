//! A server of few lines that misbehaves on purpose. It keeps every event and takes a thread for each connection.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What the server does wrong. What concerns an event, it does with the fifth, to one subscriber.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mischief {
    /// Nothing.
    None,
    /// Does not send it.
    Lose,
    /// Sends it twice.
    Repeat,
    /// Sends it after the sixth.
    Reorder,
    /// Sends it cut short.
    Damage,
    /// Never replays anything, and tells of no gap.
    Forget,
    /// Replays everything on each reconnect.
    ReplayAll,
    /// Closes every connection.
    Refuse,
    /// Refuses every second reconnect by `overload`. That is no fault.
    Busy,
}

/// A running server. Its threads end with the test.
#[derive(Debug)]
pub(crate) struct Toy {
    addr: SocketAddr,
}

#[derive(Debug, Default)]
struct Room {
    events: Vec<String>,
    subscribers: Vec<Subscriber>,
    /// Whether the mischief was done.
    is_done: bool,
    returns: usize,
}

#[derive(Debug)]
struct Subscriber {
    socket: TcpStream,
    /// Its answer ends after the first event.
    is_poll: bool,
}

impl Subscriber {
    /// Writes what it gets, and returns whether it goes on.
    fn write(&mut self, text: &str) -> bool {
        // An empty chunk would be the last one.
        if !self.is_poll || text.is_empty() {
            return self.socket.write_all(text.as_bytes()).is_ok();
        }
        let _ = self.socket.write_all(format!("{}0\r\n\r\n", chunk(text)).as_bytes());
        false
    }
}

type Rooms = Arc<Mutex<HashMap<String, Room>>>;

impl Toy {
    /// Starts a server on a port of the kernel's choice.
    pub(crate) fn start(mischief: Mischief) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let rooms = Rooms::default();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let rooms = Arc::clone(&rooms);
                // An error is a connection that is gone.
                std::thread::spawn(move || serve(socket, &rooms, mischief).ok());
            }
        });
        Self { addr }
    }

    /// What the load test calls it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v1/sse", self.addr)
    }
}

fn serve(mut socket: TcpStream, rooms: &Rooms, mischief: Mischief) -> std::io::Result<()> {
    if mischief == Mischief::Refuse {
        return Ok(());
    }
    socket.set_nodelay(true)?;
    let mut input = BufReader::new(socket.try_clone()?);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        if head[0].starts_with("GET ") {
            return listen(socket, &head, rooms, mischief);
        }
        let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        match serde_json::from_slice(&body)? {
            Value::Array(events) => events.iter().for_each(|event| publish(event, rooms, mischief)),
            event => publish(&event, rooms, mischief),
        }
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")?;
    }
}

fn header<'a>(head: &'a [String], name: &str) -> Option<&'a str> {
    let lines = head.iter().filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// Answers, replays, and leaves the socket to the publishers.
fn listen(mut socket: TcpStream, head: &[String], rooms: &Rooms, mischief: Mischief) -> std::io::Result<()> {
    let target = head[0].split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.rsplit('/').nth(1).unwrap_or_default();
    let given = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    let is_poll = given("poll").is_some();
    let id = header(head, "last-event-id").or_else(|| given("last_event_id"));
    let seen: Option<usize> = id.and_then(|id| id.strip_prefix("t-")?.parse().ok());
    let mut rooms = rooms.lock().expect("no thread panics");
    let room = rooms.entry(name.to_owned()).or_default();
    room.returns += usize::from(seen.is_some());
    if mischief == Mischief::Busy && seen.is_some() && room.returns % 2 == 1 {
        let refusal = "HTTP/1.1 200 OK\r\n\r\nretry: 50\nevent: overload\ndata: {}\n\n";
        return socket.write_all(refusal.as_bytes());
    }
    let from = match (seen, mischief) {
        (None, _) | (Some(_), Mischief::Forget) => room.events.len(),
        (Some(_), Mischief::ReplayAll) => 0,
        (Some(seen), _) => seen,
    };
    let mut text = format!("retry: 100\nevent: connected\nid: t-{from}\ndata: {{}}\n\n");
    text.extend(room.events[from..].iter().enumerate().map(|(at, data)| frame(from + at + 1, data)));
    let (framing, text) = if is_poll { ("Transfer-Encoding: chunked\r\n", chunk(&text)) } else { ("", text) };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n");
    socket.write_all((head + &text).as_bytes())?;
    if is_poll && from < room.events.len() {
        return socket.write_all(b"0\r\n\r\n");
    }
    room.subscribers.push(Subscriber { socket, is_poll });
    Ok(())
}

fn publish(event: &Value, rooms: &Rooms, mischief: Mischief) {
    let (Some(name), Some(data)) = (event["room"].as_str(), event["data"].as_str()) else {
        return;
    };
    let mut rooms = rooms.lock().expect("no thread panics");
    let room = rooms.entry(name.to_owned()).or_default();
    room.events.push(data.to_owned());
    let number = room.events.len();
    let whole = frame(number, data);
    let is_due = !room.is_done && number >= FIFTH;
    let mut is_first = true;
    room.subscribers.retain_mut(|subscriber| {
        let is_victim = std::mem::take(&mut is_first) && is_due;
        let text = match mischief {
            Mischief::Lose | Mischief::Reorder if is_victim && number == FIFTH => String::new(),
            Mischief::Repeat if is_victim && number == FIFTH => whole.repeat(2),
            Mischief::Damage if is_victim && number == FIFTH => frame(number, &data[..data.len() - 1]),
            Mischief::Reorder if is_victim => whole.clone() + &frame(FIFTH, &room.events[FIFTH - 1]),
            _ => whole.clone(),
        };
        // A subscriber that can't be written to has left.
        subscriber.write(&text)
    });
    room.is_done |= number > FIFTH;
}

/// One chunk of an answer.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn frame(number: usize, data: &str) -> String {
    format!("id: t-{number}\ndata: {data}\n\n")
}

const FIFTH: usize = 5;
