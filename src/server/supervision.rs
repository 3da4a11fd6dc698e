//! The service manager's side of the process: sockets that it opened for us, and what it is told.
//!
//! Socket activation is `sd_listen_fds(3)`: `LISTEN_FDS` sockets from descriptor 3 on, if `LISTEN_PID` is us, with names
//! in `LISTEN_FDNAMES`. The manager holds them open from one process to the next, so that nobody is refused in between:
//! whoever connects meanwhile waits in their queue. Notifications are `sd_notify(3)`. Without a manager all of it does
//! nothing.

use std::env;
use std::fmt;
use std::io;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use socket2::Socket;

use crate::config::LISTEN_ADDRS_MAX;

/// What the service manager handed over.
#[derive(Debug, Default)]
pub struct Supervision {
    /// In place of `listen`, if there are any. At most [`LISTEN_ADDRS_MAX`].
    pub sockets: Vec<Socket>,
    /// In place of `admin_listen`: the socket called `admin` (`FileDescriptorName=`).
    pub admin_socket: Option<Socket>,
    /// How long the manager waits for a sign of life before it restarts the process.
    pub watchdog: Option<Duration>,
}

/// Sockets that were handed over and cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisionError {
    /// Descriptor that is no listening TCP or Unix stream socket.
    NotListening(usize),
    /// There are two called `admin`, or more than [`LISTEN_ADDRS_MAX`] others.
    TooMany,
    /// `LISTEN_FDNAMES` names more or fewer than there are.
    Names,
}

impl fmt::Display for SupervisionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotListening(index) => write!(
                f,
                "LISTEN_FDS: socket {index} is no listening TCP or Unix stream socket (ListenStream=, Accept=no)"
            ),
            Self::TooMany => {
                write!(f, "LISTEN_FDS: more than {LISTEN_ADDRS_MAX} sockets, or two that are called {ADMIN}")
            }
            Self::Names => f.write_str("LISTEN_FDNAMES: wanted as many names as LISTEN_FDS says"),
        }
    }
}

impl std::error::Error for SupervisionError {}

impl Supervision {
    /// Takes over what the environment says, once.
    ///
    /// Removes the variables about sockets from the environment, so it has to be called while there is one thread.
    ///
    /// # Errors
    ///
    /// If a socket is not what it should be. Whoever handed it over expects that it is served.
    pub fn from_env() -> Result<Self, SupervisionError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut handed = ListenFd::from_env();
        let mut found = Self { watchdog: sd_notify::watchdog_enabled(), ..Self::default() };
        let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
        if handed.len() > 0 && !names.is_empty() && names.len() != handed.len() {
            return Err(SupervisionError::Names);
        }
        if handed.len() > LISTEN_ADDRS_MAX + 1 {
            return Err(SupervisionError::TooMany);
        }
        for index in 0..handed.len() {
            let socket = take(&mut handed, index).ok_or(SupervisionError::NotListening(index))?;
            let is_admin = names.get(index) == Some(&ADMIN);
            if !is_admin {
                found.sockets.push(socket);
            } else if found.admin_socket.replace(socket).is_some() {
                return Err(SupervisionError::TooMany);
            }
        }
        if found.sockets.len() > LISTEN_ADDRS_MAX {
            return Err(SupervisionError::TooMany);
        }
        Ok(found)
    }
}

/// The name of the socket that is for the admin listener. Any other is for listeners and publishers.
const ADMIN: &str = "admin";

fn take(handed: &mut ListenFd, index: usize) -> Option<Socket> {
    let tcp = handed.take_tcp_listener(index).ok().flatten().map(Socket::from);
    let socket = tcp.or_else(|| handed.take_unix_listener(index).ok().flatten().map(Socket::from))?;
    socket.is_listener().ok()?.then_some(socket)
}

/// Everything is open: whoever waited for us may go on.
pub fn say_ready(streams_max: usize) {
    say(&[NotifyState::Ready, NotifyState::Status(&format!("Serving up to {streams_max} streams"))]);
}

/// The drain has begun.
pub fn say_stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("Draining")]);
}

/// A sign of life.
pub fn say_alive() {
    say(&[NotifyState::Watchdog]);
}

fn say(state: &[NotifyState<'_>]) {
    let said: io::Result<()> = sd_notify::notify(state);
    if let Err(err) = said {
        tracing::warn!(%err, "the service manager could not be told");
    }
}
