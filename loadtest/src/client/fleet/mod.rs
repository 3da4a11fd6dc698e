//! Ten thousand subscribers in a few threads, and more in several processes.
//!
//! The fleet shares two cores with the server it measures, so it is built to cost little: one epoll per thread, one large
//! read buffer per thread, no copy of any event, and one clock reading per read. A crew holds the subscribers of one process. It
//! handles commands and counts what it sees.

mod assignment;
mod command;
mod counters;
mod done;
mod newest;
mod process;
mod schedule;
mod subscriber;
mod tally;
mod threads;
mod worker;

use std::io;
use std::time::{Duration, Instant};

use crate::client::clock::Clock;

pub use assignment::Assignment;
pub use command::{Command, Known, Pace};
pub use counters::Counts;
pub use done::Done;
pub(crate) use newest::version_of;
pub use process::serve;
pub use subscriber::{Account, Standing};
pub use tally::Tally;

/// The running subscribers.
#[derive(Debug)]
pub struct Fleet {
    crews: Vec<Crew>,
    total: usize,
    /// Everything that was handed over so far.
    tally: Tally,
}

/// The subscribers of one process.
#[derive(Debug)]
enum Crew {
    Threads(threads::Threads),
    Process(process::Process),
}

impl Fleet {
    /// Starts opening connections: in this process, or in as many others as the settings say.
    ///
    /// # Errors
    ///
    /// No epoll instance, thread or process.
    pub fn start(assignment: &Assignment, clock: Clock) -> io::Result<Self> {
        let processes = assignment.settings.processes;
        let crews = if processes > 1 {
            let start = |nth| process::Process::start(assignment, nth, clock).map(Crew::Process);
            (0..processes).map(start).collect::<io::Result<_>>()?
        } else {
            vec![Crew::Threads(threads::Threads::start(assignment, 0, clock)?)]
        };
        Ok(Self { crews, total: assignment.settings.connections, tally: Tally::default() })
    }

    /// The counters now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.crews.iter().map(Crew::counts).fold(Counts::default(), Counts::plus)
    }

    /// The other processes, if there are any.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.crews.iter().filter_map(|crew| match crew {
            Crew::Threads(_) => None,
            Crew::Process(process) => Some(process.pid()),
        })
    }

    /// Tells every subscriber.
    ///
    /// # Errors
    ///
    /// A thread or process is gone.
    pub fn command(&self, command: Command) -> io::Result<()> {
        self.crews.iter().try_for_each(|crew| crew.command(command))
    }

    /// What was counted since the last time.
    ///
    /// # Errors
    ///
    /// A thread or process is gone.
    pub fn take(&mut self) -> io::Result<Tally> {
        self.command(Command::Take)?;
        let mut news = Tally::default();
        for crew in &self.crews {
            news.merge(&crew.taken()?);
        }
        self.tally.merge(&news);
        Ok(news)
    }

    /// Whether no subscriber is about to connect.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.counts().settled() >= self.total
    }

    /// Waits until every connection is up or has failed. False when `timeout` passed first.
    pub fn wait_open(&self, timeout: Duration, mut tell: impl FnMut(usize)) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_settled() {
            if Instant::now() >= deadline || self.crews.iter().any(Crew::is_gone) {
                return false;
            }
            tell(self.counts().up);
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Closes every connection and returns what was seen.
    ///
    /// # Errors
    ///
    /// A thread's epoll failed, or a process is gone.
    pub fn stop(self) -> io::Result<Done> {
        self.command(Command::Stop)?;
        let mut all = Done { tally: self.tally, subscribers: Vec::with_capacity(self.total) };
        for crew in self.crews {
            let done = crew.stop()?;
            all.tally.merge(&done.tally);
            all.subscribers.extend(done.subscribers);
        }
        Ok(all)
    }
}

impl Crew {
    fn counts(&self) -> Counts {
        match self {
            Self::Threads(threads) => threads.counts(),
            Self::Process(process) => process.counts(),
        }
    }

    fn command(&self, command: Command) -> io::Result<()> {
        match self {
            Self::Threads(threads) => threads.command(command),
            Self::Process(process) => process.command(command),
        }
    }

    fn taken(&self) -> io::Result<Tally> {
        match self {
            Self::Threads(threads) => threads.taken(),
            Self::Process(process) => process.taken(),
        }
    }

    fn is_gone(&self) -> bool {
        match self {
            Self::Threads(threads) => threads.is_gone(),
            Self::Process(process) => process.is_gone(),
        }
    }

    fn stop(self) -> io::Result<Done> {
        match self {
            Self::Threads(threads) => threads.stop(),
            Self::Process(process) => process.stop(),
        }
    }
}
