//! Servers to measure: the one under test, the reference servers, or one that runs already.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::scenario::Scenario;

/// What to start, or where to find it.
#[derive(Clone, Debug)]
pub enum Source {
    /// A `tidegate` binary and further arguments for it.
    Server {
        /// The binary.
        path: PathBuf,
        /// Passed through.
        args: Vec<String>,
    },
    /// A sibling of this executable.
    Peer(Peer),
    /// Runs already.
    Running {
        /// `http://host:port/base`
        url: String,
        /// Its process, if it is one of this machine: CPU and memory are read there.
        pid: Option<u32>,
        /// Where its metrics are, `host:port`: CPU and memory are read there if there is no process.
        admin: Option<String>,
    },
}

/// A reference server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Peer {
    /// One `send` per connection and event, one thread.
    Floor,
    /// The same, coalescing for 20 ms.
    FloorTick,
    /// axum and a broadcast channel a room.
    Axum,
}

impl Source {
    /// A short name for tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Server { .. } => "server",
            Self::Peer(Peer::Floor) => "floor",
            Self::Peer(Peer::FloorTick) => "floor-tick",
            Self::Peer(Peer::Axum) => "axum",
            Self::Running { .. } => "running",
        }
    }

    /// Whether `scenario` means anything for it. A peer runs `gzip` uncompressed.
    #[must_use]
    pub fn supports(&self, scenario: Scenario) -> bool {
        match self {
            Self::Peer(_) if scenario.needs_resume() => false,
            Self::Peer(Peer::Axum) => scenario != Scenario::Targeted,
            Self::Server { .. } | Self::Peer(_) => true,
            // Ending a server that was not started here is not this tool's to do.
            Self::Running { .. } => scenario != Scenario::Drain,
        }
    }

    /// Whether a listener that comes back gets what it missed.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }

    /// Whether it can compress.
    #[must_use]
    pub fn can_gzip(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }
}

/// A server that answers.
#[derive(Debug)]
pub struct Target {
    /// Where it listens.
    pub addr: SocketAddr,
    /// `Host` header.
    pub host: String,
    /// Path before `/stream` and `/publish`.
    pub base: String,
    /// Its process; zero for one that runs already and is not known.
    pub pid: u32,
    child: Option<Child>,
    log: Option<PathBuf>,
}

/// Why there is nothing to measure.
#[derive(Debug)]
#[non_exhaustive]
pub enum TargetError {
    /// The binary can't be started.
    Start(PathBuf, io::Error),
    /// It ended, or did not listen in time; with the end of what it wrote.
    Silent(PathBuf, String),
    /// `--url` isn't `http://host:port/base`.
    Url(String),
    /// No port, no log file.
    Io(io::Error),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(path, err) => write!(f, "can't start {}: {err}", path.display()),
            Self::Silent(path, log) => write!(f, "{} does not listen: {log}", path.display()),
            Self::Url(url) => write!(f, "{url:?}: wanted http://host:port/base"),
            Self::Io(err) => write!(f, "can't prepare a server: {err}"),
        }
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(_, err) | Self::Io(err) => Some(err),
            Self::Silent(..) | Self::Url(_) => None,
        }
    }
}

impl From<io::Error> for TargetError {
    fn from(err: io::Error) -> Self {
        Self::Io(err)
    }
}

impl Target {
    /// Starts `source` for `scenario` and waits until it accepts.
    ///
    /// # Errors
    ///
    /// It can't be started or does not listen within 10 s.
    pub fn start(source: &Source, scenario: Scenario, gzip: bool) -> Result<Self, TargetError> {
        match source {
            Source::Server { path, args } => {
                let admin = free_address()?.to_string();
                let mut all = vec!["--admin-listen".to_owned(), admin];
                if gzip {
                    all.extend(["--gzip".to_owned(), "on".to_owned()]);
                }
                all.extend(args.iter().cloned());
                Self::spawn(path, &all)
            }
            Source::Peer(Peer::Axum) => Self::spawn(&sibling("axum-hub")?, &[]),
            Source::Peer(peer) => {
                let mut args = Vec::new();
                if *peer == Peer::FloorTick {
                    args.extend(["--tick".to_owned(), "20ms".to_owned()]);
                }
                if scenario == Scenario::Targeted {
                    args.push("--users".to_owned());
                }
                Self::spawn(&sibling("floor")?, &args)
            }
            Source::Running { url, pid, .. } => Self::running(url, pid.unwrap_or(0)),
        }
    }

    /// Sends SIGTERM to a server started here.
    ///
    /// # Errors
    ///
    /// It was not started here, or is gone.
    pub fn terminate(&self) -> io::Result<()> {
        let pid = self.child.as_ref().map(Pid::from_child).ok_or(io::ErrorKind::Unsupported)?;
        Ok(kill_process(pid, Signal::TERM)?)
    }

    /// Waits for a server started here to end, for at most `timeout`.
    ///
    /// # Errors
    ///
    /// It can't be waited for.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        loop {
            let status = child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// If a server started here has ended, how, with the last lines it wrote.
    pub fn obituary(&mut self) -> Option<String> {
        let status = self.wait(Duration::ZERO).ok()??;
        Some(format!("the server ended ({status}): {}", self.log_end()))
    }

    fn spawn(path: &Path, args: &[String]) -> Result<Self, TargetError> {
        let addr = free_address()?;
        let log = std::env::temp_dir().join(format!(
            "tidegate-loadtest-{}-{}.log",
            std::process::id(),
            addr.port()
        ));
        let output = File::create(&log)?;
        let child = Command::new(path)
            .args(["--listen", &addr.to_string()])
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|err| TargetError::Start(path.to_owned(), err))?;
        let mut target = Self {
            addr,
            host: addr.to_string(),
            base: BASE.to_owned(),
            pid: child.id(),
            child: Some(child),
            log: Some(log),
        };
        if target.listens() {
            return Ok(target);
        }
        Err(TargetError::Silent(path.to_owned(), target.log_end()))
    }

    fn running(url: &str, pid: u32) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, base) = rest.split_once('/').ok_or_else(wrong)?;
        let addr = host.to_socket_addrs().map_err(|_| wrong())?.find(SocketAddr::is_ipv4);
        Ok(Self {
            addr: addr.ok_or_else(wrong)?,
            host: host.to_owned(),
            base: format!("/{}", base.trim_end_matches('/')),
            pid,
            child: None,
            log: None,
        })
    }

    fn listens(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if TcpStream::connect(self.addr).is_ok() {
                return true;
            }
            if matches!(self.wait(Duration::ZERO), Ok(Some(_)) | Err(_)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn log_end(&self) -> String {
        let text = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Measured already; a graceful end would only cost time.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(log) = &self.log {
            let _ = fs::remove_file(log);
        }
    }
}

/// `name` beside this executable.
///
/// # Errors
///
/// The path of this executable is unknown.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}

/// A port nobody has. Somebody could take it before the server does; then the start fails and says so.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const BASE: &str = "/api/v1/sse";
const START_MAX: Duration = Duration::from_secs(10);
