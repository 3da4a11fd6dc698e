//! One stream that sees who is in a room and is not there itself: it follows the messages as a page would.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;

use super::clock::Clock;
use super::wire::WireError;
use super::wire::body::Body;
use crate::target::server::Target;

/// What one watcher knows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Roster {
    /// Members; none before the first message.
    pub total: Option<u64>,
    /// Their names, unless only their number is known.
    pub names: Option<BTreeSet<String>>,
    /// When each message came, nanoseconds since the start. At most `MESSAGES_MAX`.
    pub messages_ns: Vec<u64>,
    /// The first message that makes no sense after those before it.
    pub fault: Option<String>,
}

/// A message about who is there.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    rev: u64,
    total: u64,
    #[serde(default)]
    members: Vec<Member>,
    #[serde(default)]
    join: Vec<Member>,
    #[serde(default)]
    update: Vec<Member>,
    #[serde(default)]
    leave: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Member {
    user: String,
}

impl Roster {
    /// Takes note of one message's data.
    fn see(&mut self, data: &str, now_ns: u64) {
        if self.messages_ns.len() < MESSAGES_MAX {
            self.messages_ns.push(now_ns);
        }
        match serde_json::from_str::<Message>(data) {
            Ok(message) => self.apply(message),
            Err(err) => self.wrong(|| format!("{data}: {err}")),
        }
    }

    /// As pages are told to do it.
    fn apply(&mut self, message: Message) {
        let Message { kind, rev, total, members, join, update, leave } = message;
        match kind.as_str() {
            "state" => self.names = Some(BTreeSet::new()),
            "count" => self.names = None,
            "diff" if self.names.is_some() => {}
            _ => return self.wrong(|| format!("{kind} {rev} has nothing that it could change")),
        }
        self.total = Some(total);
        let Some(names) = &mut self.names else { return };
        names.extend([members, join, update].into_iter().flatten().map(|member| member.user));
        names.retain(|name| !leave.contains(name));
        let known = names.len() as u64;
        if known != total {
            self.wrong(|| format!("after {kind} {rev} there are {known} names, and total is {total}"));
        }
    }

    fn wrong(&mut self, text: impl FnOnce() -> String) {
        self.fault.get_or_insert_with(text);
    }
}

/// A stream and the thread that reads it.
#[derive(Debug)]
pub struct Watcher {
    roster: Arc<Mutex<Roster>>,
    is_stopped: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl Watcher {
    /// Watches `room` as `user`.
    ///
    /// # Errors
    ///
    /// The server does not accept the connection.
    pub fn start(target: &Target, room: &str, user: &str, clock: Clock) -> io::Result<Self> {
        let mut socket = TcpStream::connect(target.addr)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let request = format!(
            "GET {}/stream/{room}/{user}?presence=on&silent=on HTTP/1.1\r\nHost: {}\r\n\
             Accept: text/event-stream\r\n\r\n",
            target.base, target.host
        );
        socket.write_all(request.as_bytes())?;
        let roster = Arc::new(Mutex::new(Roster::default()));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let (seen, stop) = (Arc::clone(&roster), Arc::clone(&is_stopped));
        let handle = std::thread::Builder::new().name("watcher".to_owned()).spawn(move || {
            if let Err(err) = watch(socket, &seen, &stop, clock) {
                with(&seen, |roster| roster.wrong(|| format!("its stream: {err}")));
            }
        })?;
        Ok(Self { roster, is_stopped, handle })
    }

    /// What it knows now.
    #[must_use]
    pub fn roster(&self) -> Roster {
        with(&self.roster, |roster| roster.clone())
    }

    /// Ends the stream, and returns what it knew at last.
    #[must_use]
    pub fn stop(self) -> Roster {
        self.is_stopped.store(true, Ordering::Release);
        // It has told what went wrong, unless it panicked.
        let is_whole = self.handle.join().is_ok();
        with(&self.roster, |roster| {
            if !is_whole {
                roster.wrong(|| "it panicked".to_owned());
            }
            roster.clone()
        })
    }
}

fn with<T>(roster: &Mutex<Roster>, look: impl FnOnce(&mut Roster) -> T) -> T {
    look(&mut roster.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Reads until it is told to stop. An end that nobody asked for is an error.
fn watch(mut socket: TcpStream, roster: &Mutex<Roster>, stop: &AtomicBool, clock: Clock) -> io::Result<()> {
    let mut body = Body::default();
    let mut text = Vec::new();
    let mut part = vec![0; 64 * 1024];
    while !stop.load(Ordering::Acquire) {
        let len = match socket.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => len,
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(err) => return Err(err),
        };
        let taken: Result<(), WireError> = body.feed(&part[..len], &mut |_, slice| {
            text.extend_from_slice(slice);
            Ok(())
        });
        taken.map_err(io::Error::other)?;
        let now_ns = clock.now_ns();
        while let Some(end) = memchr::memmem::find(&text, b"\n\n") {
            let block: Vec<u8> = text.drain(..end + 2).collect();
            if let Some(data) = presence(&String::from_utf8_lossy(&block)) {
                with(roster, |roster| roster.see(data, now_ns));
            }
        }
    }
    Ok(())
}

/// The data of a block that is about who is there.
fn presence(block: &str) -> Option<&str> {
    let mut lines = block.lines();
    lines.clone().find(|line| *line == "event: presence")?;
    lines.find_map(|line| line.strip_prefix("data: "))
}

/// Messages whose times are kept.
const MESSAGES_MAX: usize = 100_000;
/// How soon it notices that it is to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(messages: &[&str]) -> Roster {
        let mut roster = Roster::default();
        for data in messages {
            roster.see(data, 1);
        }
        roster
    }

    const STATE: &str =
        r#"{"type":"state","rev":1,"total":2,"members":[{"user":"a","since_s":0},{"user":"b"}]}"#;

    #[test]
    fn a_roster_is_what_a_page_would_show() {
        let diff = r#"{"type":"diff","rev":2,"total":2,"join":[{"user":"c"}],"leave":["a","x"]}"#;
        let after = roster(&[STATE, diff]);
        assert_eq!(after.fault, None);
        assert_eq!(after.names.expect("a state").into_iter().collect::<Vec<_>>(), ["b", "c"]);
        let count = roster(&[STATE, r#"{"type":"count","rev":3,"total":300}"#]);
        assert_eq!((count.names, count.total, count.messages_ns.len()), (None, Some(300), 2));
        let again = roster(&[r#"{"type":"count","rev":3,"total":300}"#, STATE]);
        assert_eq!((again.total, again.fault), (Some(2), None));
    }

    #[test]
    fn what_can_not_be_is_a_fault() {
        let wrong = [
            &[r#"{"type":"diff","rev":2,"total":1,"join":[{"user":"c"}]}"#][..],
            &[STATE, r#"{"type":"diff","rev":2,"total":3}"#],
            &[STATE, r#"{"type":"count","rev":2,"total":9}"#, r#"{"type":"diff","rev":3,"total":8}"#],
            &[r#"{"type":"state","rev":1}"#],
        ];
        for messages in wrong {
            assert!(roster(messages).fault.is_some(), "{messages:?}");
        }
    }

    #[test]
    fn only_presence_is_looked_at() {
        assert_eq!(presence("event: presence\nroom: r\ndata: {}\n\n"), Some("{}"));
        assert_eq!(presence("id: 7\ndata: event: presence\n\n"), None);
    }
}
