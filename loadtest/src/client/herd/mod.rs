//! Thousands of subscribers of several nodes, on one thread: each comes back with its last id, on any node, whenever its stream
//! ends, and every event is compared as it comes.

mod listener;
mod reading;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use self::listener::{Listener, Shared};
use super::order::heard::Heard;

/// What the others see while it runs.
#[derive(Debug, Default)]
pub struct Seen {
    /// Events that came.
    pub deliveries: AtomicU64,
    /// Streams that began.
    pub opened: AtomicU64,
}

/// What all subscribers got in the end.
#[derive(Debug, Default)]
pub struct Kept {
    /// What was compared.
    pub heard: Heard,
    /// Streams that began.
    pub opened: u64,
    /// Answers that were no stream: the status, and how often.
    pub refused: u64,
    /// Streams that could not be read.
    pub damaged: u64,
    /// Subscribers that did not come to the end in time.
    pub behind: u64,
}

enum Command {
    /// So many streams are cut.
    Cut(usize),
    /// Ends once all have this id, or at the moment.
    End(String, Instant),
}

/// The subscribers and their thread.
#[derive(Debug)]
pub struct Herd {
    /// What they got so far.
    pub seen: Arc<Seen>,
    commands: Sender<Command>,
    waker: Arc<Waker>,
    thread: JoinHandle<io::Result<Kept>>,
}

impl Herd {
    /// `listeners` subscribers of `room` on all of `nodes`.
    ///
    /// # Errors
    ///
    /// There is no thread, or nothing to wait with.
    pub fn start(nodes: &[SocketAddr], room: &str, listeners: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (commands, received) = mpsc::channel();
        let seen = Arc::<Seen>::default();
        let shared =
            Shared::new(nodes.to_vec(), room.to_owned(), poll.registry().try_clone()?, Arc::clone(&seen));
        let all = (0..listeners).map(Listener::new).collect();
        let running = Running { poll, shared, listeners: all, commands: received, end: None };
        let thread = std::thread::Builder::new().name("herd".to_owned()).spawn(move || running.run())?;
        Ok(Self { seen, commands, waker, thread })
    }

    /// Cuts `streams` of them, chosen by chance. They come back on any node.
    pub fn cut(&self, streams: usize) {
        self.send(Command::Cut(streams));
    }

    /// Waits until all have everything up to the id `last`, `patience` at most, and ends.
    ///
    /// # Errors
    ///
    /// Its thread failed.
    pub fn end(self, last: &str, patience: Duration) -> io::Result<Kept> {
        self.send(Command::End(last.to_owned(), Instant::now() + patience));
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the subscribers' thread panicked")))
    }

    fn send(&self, command: Command) {
        // If the thread is gone, `end` says so.
        let _ = self.commands.send(command);
        let _ = self.waker.wake();
    }
}

struct Running {
    poll: Poll,
    shared: Shared,
    listeners: Vec<Listener>,
    commands: Receiver<Command>,
    end: Option<(String, Instant)>,
}

impl Running {
    fn run(mut self) -> io::Result<Kept> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.open_due();
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(err) if err.kind() != io::ErrorKind::Interrupted => return Err(err),
                _ => {}
            }
            for event in events.iter().filter(|event| event.token() != WAKE) {
                self.listeners[event.token().0].ready(&mut self.shared);
            }
            self.obey();
            let Some((last, deadline)) = &self.end else { continue };
            let behind = self.listeners.iter().filter(|one| one.last_id() != last.as_bytes()).count();
            if behind == 0 || Instant::now() > *deadline {
                return Ok(self.shared.kept(behind as u64));
            }
        }
    }

    /// Opens the streams whose time has come, but not too many at once: others wait to be read.
    fn open_due(&mut self) {
        let now = Instant::now();
        let due = self.listeners.iter_mut().filter(|one| one.is_due(now));
        due.take(OPENED_AT_ONCE).for_each(|one| one.open(&mut self.shared));
    }

    fn obey(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Cut(streams)) => {
                    for _ in 0..streams {
                        let at = self.shared.random.below(self.listeners.len() as u64);
                        self.listeners[usize::try_from(at).unwrap_or(0)].cut(&mut self.shared);
                    }
                }
                Ok(Command::End(last, deadline)) => self.end = Some((last, deadline)),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // Whoever started it is gone.
                    self.end.get_or_insert_with(|| (String::new(), Instant::now()));
                    return;
                }
            }
        }
    }
}

impl Seen {
    fn store(&self, heard: &Heard) {
        self.deliveries.store(heard.tally.deliveries, Ordering::Relaxed);
    }
}

const WAKE: Token = Token(usize::MAX);
const TICK: Duration = Duration::from_millis(5);
const OPENED_AT_ONCE: usize = 256;
