//! One subscriber of a server that is killed again and again: it comes back with its last id at once, as a browser would
//! after a moment, and keeps what it got.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wire::WireError;
use super::wire::body::Body;
use crate::target::server::Target;

/// What one subscriber got.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Heard {
    /// Numbers of events with their ids, in the order in which they came.
    pub events: Vec<(u64, String)>,
    /// Gaps that it was told.
    pub gaps: Vec<String>,
    /// Times it came back.
    pub returned: u64,
    /// Answers that were no stream.
    pub refused: u64,
}

/// What became of all events, over all subscribers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Events that were answered and that a subscriber did not get, without a gap.
    pub undeclared: u64,
    /// Events that came to a subscriber twice.
    pub duplicated: u64,
    /// Events that came to a subscriber after a newer one.
    pub reordered: u64,
    /// Events that came under another id than that of their answer, so that there are two of them.
    pub other_ids: u64,
    /// Events that were answered, and that nobody got.
    pub lost: u64,
    /// Gaps told.
    pub gaps: u64,
    /// Deliveries.
    pub deliveries: u64,
}

/// A subscriber and its thread.
#[derive(Debug)]
pub struct Survivor {
    heard: Arc<Mutex<Heard>>,
    count: Arc<AtomicU64>,
    is_stopped: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

impl Survivor {
    /// Listens to `room` as `user`.
    ///
    /// # Errors
    ///
    /// There is no thread.
    pub fn start(target: &Target, room: &str, user: &str) -> io::Result<Self> {
        let path = format!("{}/stream/{room}/{user}", target.base);
        let mut listening = Listening { addr: target.addr, host: target.host.clone(), path, last: None };
        let (heard, count, is_stopped) =
            (Arc::<Mutex<Heard>>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (into, counted, stop) = (Arc::clone(&heard), Arc::clone(&count), Arc::clone(&is_stopped));
        let handle = std::thread::Builder::new().name("survivor".to_owned()).spawn(move || {
            while !stop.load(Ordering::Acquire) {
                // It broke, or there was no server: that is what this is about.
                let _ = listening.once(&into, &counted, &stop);
                std::thread::sleep(AWAY);
            }
        })?;
        Ok(Self { heard, count, is_stopped, handle })
    }

    /// Whether its first stream has begun.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).returned > 0
    }

    /// Events that it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Ends the stream, and returns what came.
    #[must_use]
    pub fn stop(self) -> Heard {
        self.is_stopped.store(true, Ordering::Release);
        // A panic is told by what it did not hear.
        let _ = self.handle.join();
        std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Listening {
    addr: std::net::SocketAddr,
    host: String,
    path: String,
    /// The last id that came.
    last: Option<String>,
}

impl Listening {
    /// Opens the stream once, and reads it to its end.
    fn once(&mut self, heard: &Mutex<Heard>, count: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
        let mut socket = TcpStream::connect_timeout(&self.addr, LOOK_UP * 20)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let last = self.last.as_ref().map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let Self { host, path, .. } = self;
        socket.write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{last}\r\n")
                .as_bytes(),
        )?;
        let (mut body, mut text, mut part) = (Body::default(), Vec::new(), vec![0; 64 * 1024]);
        while !stop.load(Ordering::Acquire) {
            let len = match socket.read(&mut part) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    continue;
                }
                Err(err) => return Err(err),
            };
            let taken: Result<(), WireError> = body.feed(&part[..len], &mut |_, slice| {
                text.extend_from_slice(slice);
                Ok(())
            });
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(err) = taken {
                heard.refused += u64::from(matches!(err, WireError::Status(_)));
                return Err(io::Error::other(err));
            }
            while let Some(end) = memchr::memmem::find(&text, b"\n\n") {
                let block: Vec<u8> = text.drain(..end + 2).collect();
                self.take(&String::from_utf8_lossy(&block), &mut heard);
            }
            count.store(heard.events.len() as u64, Ordering::Release);
        }
        Ok(())
    }

    /// Takes one event.
    fn take(&mut self, block: &str, heard: &mut Heard) {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let Some(id) = field("id: ") else { return };
        self.last = Some(id.to_owned());
        match field("event: ") {
            Some("connected") => heard.returned += 1,
            Some("gap") => heard.gaps.push(field("data: ").unwrap_or_default().to_owned()),
            Some(_) => {}
            None => {
                let number = field("data: ").and_then(|data| data.parse().ok());
                heard.events.extend(number.map(|number| (number, id.to_owned())));
            }
        }
    }
}

/// The offset in an id.
fn offset(id: &str) -> u64 {
    id.rsplit_once('-').and_then(|(_, offset)| offset.parse().ok()).unwrap_or(0)
}

/// Compares what subscribers heard with the ids that publishers were answered, by the numbers of events.
#[must_use]
pub fn losses(answered: &BTreeMap<u64, String>, heard: &[Heard]) -> Losses {
    let mut losses = Losses::default();
    let mut nobody: BTreeSet<u64> = answered.keys().copied().collect();
    for one in heard {
        let mut seen = HashMap::with_capacity(one.events.len());
        let mut newest = 0;
        for (number, id) in &one.events {
            losses.duplicated += u64::from(seen.insert(*number, id).is_some());
            losses.reordered += u64::from(offset(id) <= newest);
            newest = newest.max(offset(id));
            losses.other_ids += u64::from(answered.get(number).is_some_and(|answered| answered != id));
            nobody.remove(number);
        }
        losses.deliveries += one.events.len() as u64;
        losses.gaps += one.gaps.len() as u64;
        // A gap that was told excuses, but is a fault of its own: nothing is ever lost here.
        if one.gaps.is_empty() {
            losses.undeclared += answered.keys().filter(|number| !seen.contains_key(number)).count() as u64;
        }
    }
    losses.lost = nobody.len() as u64;
    losses
}

/// How soon it comes back.
const AWAY: Duration = Duration::from_millis(3);
/// How soon it notices that it is to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(events: &[(u64, &str)], gaps: &[&str]) -> Heard {
        Heard {
            events: events.iter().map(|(number, id)| (*number, (*id).to_owned())).collect(),
            gaps: gaps.iter().map(|gap| (*gap).to_owned()).collect(),
            ..Heard::default()
        }
    }

    fn judged(one: &Heard) -> Losses {
        let answered = [(1, "a-1"), (2, "a-2"), (3, "b-9")];
        let answered = answered.map(|(number, id)| (number, id.to_owned())).into();
        losses(&answered, std::slice::from_ref(one))
    }

    #[test]
    fn each_fault_is_found() {
        let right = Losses { deliveries: 3, ..Losses::default() };
        assert_eq!(judged(&heard(&[(1, "a-1"), (2, "a-2"), (3, "b-9")], &[])), right);
        let missing = judged(&heard(&[(1, "a-1"), (3, "b-9")], &[]));
        assert_eq!(missing, Losses { undeclared: 1, lost: 1, deliveries: 2, ..right });
        let told = judged(&heard(&[(1, "a-1"), (3, "b-9")], &["{}"]));
        assert_eq!(told, Losses { gaps: 1, lost: 1, deliveries: 2, ..right });
        let twice = judged(&heard(&[(1, "a-1"), (2, "a-2"), (2, "a-3"), (3, "b-9")], &[]));
        assert_eq!(twice, Losses { duplicated: 1, other_ids: 1, deliveries: 4, ..right });
        let turned = judged(&heard(&[(2, "a-2"), (1, "a-1"), (3, "b-9")], &[]));
        assert_eq!(turned, Losses { reordered: 1, ..right });
    }

    #[test]
    fn an_event_is_taken_with_its_id() {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let mut listening = Listening { addr, host: String::new(), path: String::new(), last: None };
        let mut heard = Heard::default();
        listening.take("retry: 1000\nevent: connected\nid: a-0\ndata: {}\n\n", &mut heard);
        listening.take("id: a-1\nroom: r\ndata: 7\n\n", &mut heard);
        listening.take(":\n\n", &mut heard);
        listening.take("event: gap\nid: b-2\ndata: {\"reason\":\"restart\"}\n\n", &mut heard);
        assert_eq!((heard.events, heard.returned), (vec![(7, "a-1".to_owned())], 1));
        assert_eq!((heard.gaps.len(), listening.last.as_deref()), (1, Some("b-2")));
    }
}
