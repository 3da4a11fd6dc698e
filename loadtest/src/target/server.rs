//! A server to measure that answers: started here, or running already.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::dialect::Dialect;
use super::error::TargetError;
use super::launch::{Launch, free_address};
use super::origin::Origin;
use super::{peers, usage};
use crate::plan::credentials::{Credentials, Issuer};
use crate::plan::scenario::{Scenario, Settings};
use crate::plan::source::Source;
use crate::plan::special::tables;

/// A server that answers.
#[derive(Debug)]
pub struct Target {
    /// Where subscribers connect.
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
    /// The credentials of subscribers and publisher, if it requires any.
    pub credentials: Option<Credentials>,
    /// Where its metrics are, if it is a `tidegate` started here.
    pub admin: Option<SocketAddr>,
    child: Option<Child>,
    folder: Option<TempDir>,
    /// The application behind it; ends with it.
    origin: Option<Origin>,
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
                if let Some(tables) = tables(&settings.members, &settings.keyed) {
                    launch.write(TABLES, &tables, &[])?;
                    launch.command.arg("--config").arg(launch.folder.path().join(TABLES));
                }
                if settings.repeats.remembered > 0 {
                    launch.command.args(["--idempotency-keys", &settings.repeats.remembered.to_string()]);
                }
                launch.command.args(args);
                let mut target = Self::spawn(launch)?;
                target.credentials = settings.tokens.then(Credentials::own);
                target.admin = Some(admin);
                Ok(target)
            }
            Source::Peer(peer) => Self::spawn(peers::launch(*peer, scenario)?),
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
        // A host without a port is refused here.
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

    /// Waits until a stream is answered with 200.
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
            // A process that started others ends them. Those that are left are killed below; the kernel does not reuse
            // their numbers that soon.
            let _ = self.terminate();
            let _ = self.wait(END_MAX);
        }
        for pid in family {
            // The measurement is over; a graceful end would only cost time.
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

const BASE: &str = "/api/v1/sse";
const LOG: &str = "log";
/// The settings file with the tables of rooms.
const TABLES: &str = "rooms.toml";
/// What a server of several processes gets to end them.
const END_MAX: Duration = Duration::from_secs(3);
const START_MAX: Duration = Duration::from_secs(10);
