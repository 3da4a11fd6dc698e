//! Publishes at absolute deadlines, over one keep-alive connection, with requests pipelined.
//!
//! One thread writes and one reads the answers, so a server that answers slowly slows the publisher only through its
//! socket. When the writer falls behind its deadlines it does not skip: it sends as fast as it can and says how late it
//! was. Unanswered requests are bounded, so an overloaded server shows as a lower achieved rate. That keeps the sequence
//! complete and the offered rate honest.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Clock;
use super::fleet::version_of;
use super::published::{Published, whole};
use crate::plan::credentials::{Credentials, PERMISSION};
use crate::plan::scenario::{Form, Names, Settings};
use crate::plan::special::key_of;
use crate::target::dialect::Dialect;
use crate::target::server::Target;

/// A publisher at work.
#[derive(Debug)]
pub struct Publisher {
    writer: JoinHandle<Published>,
    reader: JoinHandle<Answers>,
    is_stopped: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    is_answered: bool,
}

#[derive(Debug, Default)]
struct Answers {
    accepted: u64,
    refused: u64,
    last_ns: u64,
    error: Option<String>,
}

impl Publisher {
    /// Starts to publish for `seconds`, the first event at `first_ns`. `counts` is what was published in each stream
    /// before; sequences go on from there.
    ///
    /// # Errors
    ///
    /// The server does not accept the connection.
    pub fn start(
        target: &Target,
        names: &Names,
        settings: &Settings,
        clock: Clock,
        (first_ns, seconds): (u64, f64),
        counts: Vec<u64>,
    ) -> io::Result<Self> {
        let refused =
            |err: io::Error| io::Error::new(err.kind(), format!("publish to {}: {err}", target.publish_addr));
        let mut socket = TcpStream::connect(target.publish_addr).map_err(refused)?;
        socket.set_nodelay(true)?;
        // Bounded, so that a server which takes requests but answers none is noticed.
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        let dialect = target.dialect;
        dialect.greet(&mut socket)?;
        let mut settings = settings.clone();
        if !dialect.has_batches() {
            settings.form = Form::Single;
        }
        let (pending, expected) = sync_channel(unanswered_max(&settings));
        let answers = socket.try_clone()?;
        let reader = std::thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || read_answers(answers, &expected, clock))?;
        let is_stopped = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            socket,
            pending,
            clock,
            first_ns,
            seconds,
            counts,
            dialect,
            path: format!("{}/publish", target.base),
            host: target.host.clone(),
            token: target.credentials.as_ref().map(Credentials::publisher).unwrap_or_default(),
            addresses: addresses(dialect, names, &settings),
            padding: vec![b'x'; settings.bytes],
            settings,
            is_stopped: Arc::clone(&is_stopped),
            sent: Arc::clone(&sent),
        };
        let writer = std::thread::Builder::new().name("publisher".to_owned()).spawn(move || writer.run())?;
        Ok(Self { writer, reader, is_stopped, sent, is_answered: dialect.is_answered() })
    }

    /// Events sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.writer.is_finished()
    }

    /// Ends publishing after the current step.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Waits for the last event and its answer.
    ///
    /// # Errors
    ///
    /// A thread panicked.
    pub fn join(self) -> io::Result<Published> {
        let mut published = self.writer.join().map_err(|_| io::Error::other("the publisher panicked"))?;
        let answers = self.reader.join().map_err(|_| io::Error::other("the reader panicked"))?;
        // Without answers: the server took it, or the writer would have had to wait.
        let (accepted, last_ns) = if self.is_answered {
            (answers.accepted, answers.last_ns)
        } else {
            (published.sent, published.last_ns)
        };
        published.accepted = accepted;
        published.requests_refused = answers.refused;
        published.answered_ns = last_ns;
        published.error = published.error.or(answers.error);
        Ok(published)
    }
}

/// The address of each stream in a request.
fn addresses(dialect: Dialect, names: &Names, settings: &Settings) -> Vec<String> {
    let address = |index| {
        let (field, name) = names.address(settings, index);
        let address = dialect.address(field, &name);
        if settings.require { format!(r#"{address},"require":"{PERMISSION}""#) } else { address }
    };
    (0..settings.streams()).map(address).collect()
}

struct Writer {
    socket: TcpStream,
    /// Events of each request sent, for the reader.
    pending: SyncSender<u64>,
    clock: Clock,
    first_ns: u64,
    seconds: f64,
    counts: Vec<u64>,
    dialect: Dialect,
    path: String,
    host: String,
    /// The header with the publisher's credentials; empty for none.
    token: String,
    addresses: Vec<String>,
    padding: Vec<u8>,
    settings: Settings,
    is_stopped: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self) -> Published {
        let step = self.settings.step();
        let per_step = f64::from(self.settings.rate_per_s) * step.as_secs_f64();
        let steps = (self.seconds / step.as_secs_f64()).ceil().max(1.0);
        let mut counts = std::mem::take(&mut self.counts);
        counts.resize(self.addresses.len(), 0);
        let mut published = Published { counts, ..Published::default() };
        published.offered = whole(steps * per_step);
        let give_up_ns = self.first_ns + whole((self.seconds * 1.5 + 2.0) * 1e9);
        let mut at = 0_f64;
        let mut out = Vec::new();
        self.begin(&mut out);
        while at < steps && !self.is_stopped.load(Ordering::Acquire) {
            let deadline_ns = self.first_ns + whole(at * step.as_secs_f64() * 1e9);
            self.clock.sleep_until(deadline_ns);
            let now_ns = self.clock.now_ns();
            if now_ns > give_up_ns {
                break;
            }
            published.late_max_ns = published.late_max_ns.max(now_ns - deadline_ns);
            at += 1.0;
            let due = whole(at * per_step).saturating_sub(published.sent);
            if let Err(err) = self.send(due, &mut published, &mut out) {
                published.error = Some(format!("publish: {err}"));
                break;
            }
        }
        if self.is_stopped.load(Ordering::Acquire) {
            // What was due up to now is what was offered.
            published.offered = whole(at * per_step);
        }
        if let Err(err) = self.finish() {
            published.error.get_or_insert_with(|| format!("publish: {err}"));
        }
        published
    }

    /// Sends `due` events, in requests within [`BODY_BYTES_MAX`] and [`BATCH_EVENTS_MAX`].
    fn send(&mut self, due: u64, published: &mut Published, out: &mut Vec<u8>) -> io::Result<()> {
        let line_bytes = (self.padding.len() + 64) as u64;
        let most = match self.settings.form {
            Form::Single => 1,
            Form::Array => (BODY_BYTES_MAX / line_bytes).clamp(1, BATCH_EVENTS_MAX),
            Form::Ndjson => (BODY_BYTES_MAX / line_bytes).max(1),
        };
        let mut left = due;
        while left > 0 {
            let events = left.min(most);
            left -= events;
            let now_ns = self.clock.now_ns();
            self.request(events, now_ns, published, out);
            if self.settings.form != Form::Ndjson && self.dialect.is_answered() {
                self.expect_answer(events, out)?;
            }
            if left == 0 || out.len() > WRITE_BYTES {
                self.socket.write_all(out)?;
                out.clear();
            }
            if published.sent == 0 {
                published.first_ns = now_ns;
            }
            published.last_ns = now_ns;
            published.sent += events;
            self.sent.store(published.sent, Ordering::Release);
        }
        Ok(())
    }

    /// Appends one request, or one chunk of the only one.
    fn request(&self, events: u64, now_ns: u64, published: &mut Published, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        for nth in 0..events {
            let stream = scattered(published.sent + nth, self.addresses.len());
            let seq = &mut published.counts[stream];
            match self.settings.form {
                Form::Array => body.push(if nth == 0 { b'[' } else { b',' }),
                Form::Single | Form::Ndjson => {}
            }
            self.event(stream, *seq, now_ns, &mut body);
            if self.settings.form == Form::Ndjson {
                body.push(b'\n');
            }
            *seq += 1;
        }
        match self.settings.form {
            // Each event is a request already.
            _ if !self.dialect.has_batches() => {}
            Form::Ndjson => {
                out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
                body.extend_from_slice(b"\r\n");
            }
            Form::Array | Form::Single => {
                if self.settings.form == Form::Array {
                    body.push(b']');
                }
                out.extend_from_slice(self.head().as_bytes());
                let fields =
                    format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
                out.extend_from_slice(fields.as_bytes());
            }
        }
        out.extend_from_slice(&body);
    }

    fn event(&self, stream: usize, seq: u64, now_ns: u64, body: &mut Vec<u8>) {
        let mut data = format!("{seq} {now_ns} ").into_bytes();
        let padding = self.padding.len().saturating_sub(data.len());
        data.extend_from_slice(&self.padding[..padding]);
        let address = &self.addresses[stream];
        let keys = self.settings.keyed.keys;
        if keys == 0 {
            return self.dialect.event(&self.path, &self.host, address, &data, body);
        }
        let (key, version) = (key_of(seq, keys), version_of(seq));
        let address = format!(r#"{address},"key":"k{key}","version":{version}"#);
        self.dialect.event(&self.path, &self.host, &address, &data, body);
    }

    fn head(&self) -> String {
        format!("POST {} HTTP/1.1\r\nHost: {}\r\n{}", self.path, self.host, self.token)
    }

    fn begin(&self, out: &mut Vec<u8>) {
        if self.settings.form == Form::Ndjson {
            out.extend_from_slice(self.head().as_bytes());
            out.extend_from_slice(
                b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n",
            );
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        if self.settings.form == Form::Ndjson {
            let sent = self.sent.load(Ordering::Acquire);
            self.socket.write_all(b"0\r\n\r\n")?;
            self.expect_answer(sent, &mut Vec::new())?;
        }
        Ok(())
    }

    /// Tells the reader of one more answer to come; waits when too many are outstanding.
    fn expect_answer(&mut self, events: u64, out: &mut Vec<u8>) -> io::Result<()> {
        let hung_up = || io::Error::other("the server hung up");
        match self.pending.try_send(events) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(_)) => return Err(hung_up()),
            Err(TrySendError::Full(_)) => {}
        }
        // The last request in `out` is the one not counted yet: at worst its answer waits for the reader, which waits
        // for answers to requests that have all been written now.
        self.socket.write_all(out)?;
        out.clear();
        self.pending.send(events).map_err(|_| hung_up())
    }
}

/// Visits every stream equally often, but not in the order they connected.
fn scattered(nth: u64, streams: usize) -> usize {
    let streams = streams as u64;
    // A prime above any number of streams shares no factor with it, so each cycle is a permutation.
    let at = nth % streams * (PRIME % streams).max(1) % streams;
    usize::try_from(at).unwrap_or(0)
}

fn read_answers(mut socket: TcpStream, expected: &Receiver<u64>, clock: Clock) -> Answers {
    let mut answers = Answers::default();
    let mut bytes = Vec::new();
    // Ends when the writer is done and every answer has come.
    while let Ok(events) = expected.recv() {
        match read_answer(&mut socket, &mut bytes) {
            Ok(status) => {
                answers.last_ns = clock.now_ns();
                // nchan's are 201 and 202: with and without subscribers.
                if (200..300).contains(&status) {
                    answers.accepted += events;
                } else {
                    answers.refused += 1;
                    answers.error.get_or_insert_with(|| format!("publish: status {status}"));
                }
            }
            Err(err) => {
                answers.error.get_or_insert_with(|| format!("publish: no answer: {err}"));
                break;
            }
        }
    }
    answers
}

/// Reads one response with a `Content-Length` and returns its status.
fn read_answer(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<u16> {
    loop {
        if let Some((status, len)) = answer(bytes)? {
            bytes.drain(..len);
            return Ok(status);
        }
        let mut part = [0; 16 * 1024];
        match socket.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => bytes.extend_from_slice(&part[..len]),
        }
    }
}

/// Status and length of the response at the head of `bytes`, once it is whole.
fn answer(bytes: &[u8]) -> io::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let length = response
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"))
        .and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok())
        .ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
    let status = response.code.unwrap_or(0);
    Ok((bytes.len() >= head + length).then_some((status, head + length)))
}

/// Requests that may be unanswered: what a second brings. More would only hide in socket buffers that the server can't
/// keep up.
fn unanswered_max(settings: &Settings) -> usize {
    let requests_per_s = match settings.form {
        Form::Single => f64::from(settings.rate_per_s),
        Form::Array | Form::Ndjson => 1.0 / settings.step().as_secs_f64(),
    };
    usize::try_from(whole(requests_per_s)).unwrap_or(0).clamp(2, 1_024)
}

const ANSWER_MAX: Duration = Duration::from_secs(15);
/// The server takes request bodies of 1 MiB.
const BODY_BYTES_MAX: u64 = 900 * 1024;

/// Events in one array: more are refused.
const BATCH_EVENTS_MAX: u64 = 4096;
/// Requests gathered for one write.
const WRITE_BYTES: usize = 256 * 1024;
const PRIME: u64 = 1_000_003;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scenario::Scenario;

    #[test]
    fn events_require_what_every_subscriber_has() {
        let settings = |require| Settings { require, ..Scenario::Fanout.defaults() };
        let address = |require| addresses(Dialect::Tidegate, &Names::default(), &settings(require)).remove(0);
        let plain = address(false);
        assert!(!plain.contains("require"), "{plain}");
        assert_eq!(address(true), format!(r#"{plain},"require":"vip""#));
    }

    #[test]
    fn every_cycle_visits_every_stream_once() {
        for streams in [1, 2, 10, 1_000, 19_000] {
            let mut visits = vec![0; streams];
            for nth in 0..2 * streams as u64 {
                visits[scattered(nth, streams)] += 1;
            }
            assert!(visits.iter().all(|count| *count == 2), "{streams} streams");
        }
    }

    #[test]
    fn an_answer_is_taken_only_when_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1";
        let whole = bytes.len() - b"HTTP/1.1".len();
        assert_eq!(answer(&bytes[..whole - 1]).expect("valid"), None);
        assert_eq!(answer(bytes).expect("valid"), Some((200, whole)));
    }
}
