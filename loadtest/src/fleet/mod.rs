//! Ten thousand listeners in a few threads, and more in several processes.
//!
//! The fleet shares two cores with the server it measures, so it is built to cost little: one epoll per thread, one large
//! read buffer per thread, no copy of any event, and one clock reading per read. A crew is the listeners of one process;
//! they are told what to do by commands and count what they see.

mod coming;
mod command;
mod conn;
mod counters;
mod process;
mod tally;
mod threads;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::scenario::{Names, Settings};
use crate::target::Target;
use crate::tokens::Credentials;

pub use command::{Command, Pace};
pub use conn::{Account, Standing};
pub use counters::Counts;
pub use process::{SUBCOMMAND, serve};
pub use tally::Tally;

/// What the listeners connect to and how.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Plan {
    /// The server.
    pub addr: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path before `/stream`.
    pub base: String,
    /// Whether a response's head is all there is to see of `connected`.
    pub is_head_connected: bool,
    /// Names of rooms and users.
    pub names: Names,
    /// The scenario in numbers.
    pub settings: Settings,
    /// What each listener shows, if the server asks who it is.
    pub credentials: Option<Credentials>,
}

impl Plan {
    /// A plan for `target`.
    #[must_use]
    pub fn new(target: &Target, names: Names, settings: Settings) -> Self {
        Self {
            addr: target.addr,
            host: target.host.clone(),
            base: target.base.clone(),
            is_head_connected: target.is_head_connected,
            names,
            settings,
            credentials: target.credentials.clone(),
        }
    }

    /// The request that subscribes connection `index`, from `last_id` on if there is one. Both ways to present it are
    /// used: the header that browsers send, and the query for those who can't set headers.
    #[must_use]
    pub fn request(&self, index: usize, last_id: &[u8]) -> String {
        let Self { base, host, names, settings, .. } = self;
        let room = names.room(index % settings.rooms);
        let user = names.user(index);
        let encoding = if settings.gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let id = String::from_utf8_lossy(last_id);
        let (query, header) = match (id.is_empty(), index % 2) {
            (true, _) => (String::new(), String::new()),
            (false, 0) => (String::new(), format!("Last-Event-ID: {id}\r\n")),
            (false, _) => (format!("?last_event_id={id}"), String::new()),
        };
        let token = self.credentials.as_ref().map(|all| all.listener(&user)).unwrap_or_default();
        format!(
            "GET {base}/stream/{room}/{user}{query} HTTP/1.1\r\nHost: {host}\r\n\
             Accept: text/event-stream\r\nCache-Control: no-cache\r\nPragma: no-cache\r\n{token}{encoding}{header}\r\n"
        )
    }

    /// Whether every event of connection `index` is looked at: it reads, and is not among the compressed streams that
    /// are only counted.
    #[must_use]
    pub fn is_checked(&self, index: usize) -> bool {
        let settings = &self.settings;
        let part = (0..settings.processes).map(|nth| settings.part(nth)).find(|part| part.contains(&index));
        let within = index - part.map_or(0, |part| part.start);
        index >= settings.stuck && (!settings.gzip || within / settings.threads < worker::INFLATED)
    }
}

/// The running listeners.
#[derive(Debug)]
pub struct Fleet {
    crews: Vec<Crew>,
    total: usize,
    /// Everything that was handed over so far.
    tally: Tally,
}

/// What the listeners ended with.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Done {
    /// Sums and histograms.
    pub tally: Tally,
    /// Every listener, for checks against what was published.
    pub listeners: Vec<Account>,
}

/// The listeners of one process.
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
    pub fn start(plan: &Plan, clock: Clock) -> io::Result<Self> {
        let processes = plan.settings.processes;
        let crews = if processes > 1 {
            let start = |nth| process::Process::start(plan, nth, clock).map(Crew::Process);
            (0..processes).map(start).collect::<io::Result<_>>()?
        } else {
            vec![Crew::Threads(threads::Threads::start(plan, 0, clock)?)]
        };
        Ok(Self { crews, total: plan.settings.connections, tally: Tally::default() })
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

    /// Tells every listener.
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

    /// Whether nobody is about to connect.
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
        let mut all = Done { tally: self.tally, listeners: Vec::with_capacity(self.total) };
        for crew in self.crews {
            let done = crew.stop()?;
            all.tally.merge(&done.tally);
            all.listeners.extend(done.listeners);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::scenario::Scenario;

    fn plan(settings: Settings) -> Plan {
        Plan {
            addr: (Ipv4Addr::LOCALHOST, 1).into(),
            host: "h".to_owned(),
            base: "/b".to_owned(),
            names: Names::default(),
            settings,
            is_head_connected: false,
            credentials: None,
        }
    }

    #[test]
    fn a_last_id_is_presented_in_the_header_or_the_query() {
        let plan = plan(Scenario::Churn.defaults());
        assert!(plan.request(4, b"e-7").contains("GET /b/stream/r0/u4 HTTP/1.1\r\n"));
        assert!(plan.request(4, b"e-7").ends_with("Last-Event-ID: e-7\r\n\r\n"));
        assert!(plan.request(5, b"e-7").contains("GET /b/stream/r0/u5?last_event_id=e-7 HTTP/1.1\r\n"));
        assert!(!plan.request(5, b"").contains("ast"), "no id, no resume: {}", plan.request(5, b""));
    }

    #[test]
    fn the_first_streams_of_every_part_are_inflated() {
        let settings = Settings { connections: 1_000, processes: 2, gzip: true, ..Scenario::Gzip.defaults() };
        let plan = plan(settings);
        let checked: Vec<usize> = (0..1_000).filter(|index| plan.is_checked(*index)).collect();
        assert_eq!(checked.len(), 2 * worker::INFLATED);
        assert_eq!((checked[0], checked[worker::INFLATED]), (0, 500));
    }
}
