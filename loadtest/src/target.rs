//! Servers to measure: the one under test, the reference servers, or one that runs already.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::peers::{Dialect, Launch, Origin, Peer, first_line};
use crate::scenario::{Scenario, Settings};
use crate::tokens::{Credentials, Issuer};
use crate::usage;

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
        /// What it is shown, if it asks who somebody is.
        credentials: Option<Credentials>,
    },
}

impl Source {
    /// A short name for tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Server { .. } => "tidegate",
            Self::Peer(peer) => peer.name(),
            Self::Running { .. } => "running",
        }
    }

    /// Whether `scenario` means anything for it.
    #[must_use]
    pub fn supports(&self, scenario: Scenario) -> bool {
        match self {
            Self::Peer(peer) => peer.supports(scenario),
            Self::Server { .. } => true,
            // Ending a server that was not started here is not this tool's to do.
            Self::Running { .. } => scenario != Scenario::Drain,
        }
    }

    /// Whether a listener that comes back gets what it missed.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }

    /// What exactly would be measured.
    ///
    /// # Errors
    ///
    /// What is missing, and the package that has it.
    pub fn version(&self) -> Result<String, TargetError> {
        match self {
            Self::Server { path, .. } => {
                let missing = || TargetError::Start(path.clone(), io::ErrorKind::NotFound.into());
                first_line(path, &["--version"]).ok_or_else(missing)
            }
            Self::Peer(peer) => peer.version(),
            Self::Running { url, .. } => Ok(url.clone()),
        }
    }

    /// Whether it can be started with a key for tokens.
    #[must_use]
    pub fn can_ask_for_tokens(&self) -> bool {
        matches!(self, Self::Server { .. })
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
    /// Where listeners connect.
    pub addr: SocketAddr,
    /// Where publishers do.
    pub publish_addr: SocketAddr,
    /// How to publish.
    pub dialect: Dialect,
    /// Whether a response's head is all there is to see of `connected`.
    pub is_head_connected: bool,
    /// `Host` header.
    pub host: String,
    /// Path before `/stream` and `/publish`.
    pub base: String,
    /// Its process, and what it started counts as well; zero for one that runs already and is not known.
    pub pid: u32,
    /// What it is shown by listeners and the publisher, if it asks who they are.
    pub credentials: Option<Credentials>,
    /// Where its metrics are, if it is a `tidegate` started here.
    pub admin: Option<SocketAddr>,
    child: Option<Child>,
    folder: Option<TempDir>,
    /// The application behind it; ends with it.
    origin: Option<Origin>,
}

/// Why there is nothing to measure.
#[derive(Debug)]
#[non_exhaustive]
pub enum TargetError {
    /// A program or file is not installed, and the Debian package that has it.
    Missing {
        /// The program or file.
        what: String,
        /// The package.
        package: &'static str,
    },
    /// The compiler, and what it said.
    Build(PathBuf, String),
    /// The binary can't be started.
    Start(PathBuf, io::Error),
    /// It ended, or did not listen in time; with the end of what it wrote.
    Silent(PathBuf, String),
    /// `--url` isn't `http://host:port/base`.
    Url(String),
    /// The host of `--url` has no address.
    Unknown(String, io::Error),
    /// No port, no log file.
    Io(io::Error),
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, package } => {
                write!(f, "{what} is not installed (Debian package {package})")
            }
            Self::Build(compiler, log) => write!(f, "{} failed: {log}", compiler.display()),
            Self::Start(path, err) => write!(f, "can't start {}: {err}", path.display()),
            Self::Silent(path, log) => write!(f, "{} does not listen: {log}", path.display()),
            Self::Url(url) => write!(f, "{url:?}: wanted http://host:port/base"),
            Self::Unknown(url, err) => write!(f, "{url}: {err}"),
            Self::Io(err) => write!(f, "can't prepare a server: {err}"),
        }
    }
}

impl std::error::Error for TargetError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Start(_, err) | Self::Unknown(_, err) | Self::Io(err) => Some(err),
            Self::Missing { .. } | Self::Build(..) | Self::Silent(..) | Self::Url(_) => None,
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
    pub fn start(source: &Source, scenario: Scenario, settings: &Settings) -> Result<Self, TargetError> {
        match source {
            Source::Server { path, args } => {
                let mut launch = Launch::listening(path)?;
                let admin = free_address()?;
                launch.command.args(["--admin-listen", &admin.to_string()]);
                if settings.tokens {
                    // All that is published comes from one publisher, which is no user of an application.
                    launch.command.env("TIDEGATE_TOKEN_KEYS", Issuer::setting());
                    launch.command.args(["--publish-rate-per-user", "off"]);
                }
                if settings.gzip {
                    launch.command.args(["--gzip", "on"]);
                }
                launch.command.args(args);
                let mut target = Self::spawn(launch)?;
                target.credentials = settings.tokens.then(Credentials::own);
                target.admin = Some(admin);
                Ok(target)
            }
            Source::Peer(peer) => Self::spawn(peer.launch(scenario)?),
            Source::Running { url, pid, credentials, .. } => {
                let mut target = Self::running(url, pid.unwrap_or(0))?;
                target.credentials.clone_from(credentials);
                Ok(target)
            }
        }
    }

    /// Where it is, for people.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.host, self.base)
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

    fn spawn(launch: Launch) -> Result<Self, TargetError> {
        let Launch { mut command, addr, publish_addr, dialect, is_head_connected, folder, origin } = launch;
        let path = PathBuf::from(command.get_program());
        let output = File::create(folder.path().join(LOG))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|err| TargetError::Start(path.clone(), err))?;
        let mut target = Self {
            addr,
            publish_addr,
            dialect,
            is_head_connected,
            host: addr.to_string(),
            base: BASE.to_owned(),
            pid: child.id(),
            credentials: None,
            admin: None,
            child: Some(child),
            folder: Some(folder),
            origin,
        };
        // A server of several processes may listen before it can answer.
        let is_ready = target.listens(addr)
            && target.listens(publish_addr)
            && (target.origin.is_none() || target.answers());
        if is_ready {
            return Ok(target);
        }
        Err(TargetError::Silent(path, target.log_end()))
    }

    fn running(url: &str, pid: u32) -> Result<Self, TargetError> {
        let wrong = || TargetError::Url(url.to_owned());
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, base) = rest.split_once('/').ok_or_else(wrong)?;
        // Without a port it is no address of a server, whatever else is wrong with it.
        let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        port.ok_or_else(wrong)?;
        let unknown = |err| TargetError::Unknown(url.to_owned(), err);
        let addr = host.to_socket_addrs().map_err(unknown)?.find(SocketAddr::is_ipv4);
        let addr = addr.ok_or_else(|| unknown(io::Error::other("it has no IPv4 address")))?;
        Ok(Self {
            addr,
            publish_addr: addr,
            dialect: Dialect::Tidegate,
            is_head_connected: false,
            host: host.to_owned(),
            base: format!("/{}", base.trim_end_matches('/')),
            pid,
            credentials: None,
            admin: None,
            child: None,
            folder: None,
            origin: None,
        })
    }

    fn listens(&mut self, addr: SocketAddr) -> bool {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if TcpStream::connect(addr).is_ok() {
                return true;
            }
            if matches!(self.wait(Duration::ZERO), Ok(Some(_)) | Err(_)) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// Waits until somebody who wants to listen is let in.
    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + START_MAX;
        let request = format!("GET {BASE}/stream/probe/probe HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        while Instant::now() < deadline && matches!(self.wait(Duration::ZERO), Ok(None)) {
            if matches!(status_line(self.addr, &request), Ok(line) if line.starts_with(b"HTTP/1.1 200 ")) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    fn log_end(&self) -> String {
        let text = self.folder.as_ref().and_then(|folder| fs::read_to_string(folder.path().join(LOG)).ok());
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        let family = usage::family(self.pid);
        if family.len() > 1 {
            // One that started others ends them. Whom it left behind is killed below; the numbers are not given to
            // others that soon.
            let _ = self.terminate();
            let _ = self.wait(END_MAX);
        }
        for pid in family {
            // Measured already; a graceful end would only cost time.
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        let _ = self.child.as_mut().map(Child::wait);
    }
}

/// The beginning of what `addr` answers to `request` within a second.
fn status_line(addr: SocketAddr, request: &str) -> io::Result<[u8; 13]> {
    let mut socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.write_all(request.as_bytes())?;
    let mut line = [0; 13];
    socket.read_exact(&mut line)?;
    Ok(line)
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
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

const BASE: &str = "/api/v1/sse";
const LOG: &str = "log";
/// What a server of several processes gets to end them.
const END_MAX: Duration = Duration::from_secs(3);
const START_MAX: Duration = Duration::from_secs(10);
