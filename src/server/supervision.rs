//! The service manager's side of the process: sockets that it opened, and notifications to it.
//!
//! Socket activation is `sd_listen_fds(3)`: `LISTEN_FDS` sockets from descriptor 3 on, if `LISTEN_PID` is this process,
//! with names in `LISTEN_FDNAMES`. The manager holds them open from one process to the next, so that no connection is
//! refused in between: new ones wait in their queue. Notifications are `sd_notify(3)`. Without a manager nothing
//! happens.

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
    /// Used instead of `listen`, if there are any. At most [`LISTEN_ADDRS_MAX`].
    pub sockets: Vec<Socket>,
    /// Used instead of `admin_listen`: the socket called `admin` (`FileDescriptorName=`).
    pub admin_socket: Option<Socket>,
    /// How long the manager waits for a notification before it restarts the process.
    pub watchdog: Option<Duration>,
}

/// Sockets that were handed over and cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum SupervisionError {
    /// This descriptor is no listening TCP or Unix stream socket.
    NotListening(usize),
    /// Two are called `admin`, or there are more than [`LISTEN_ADDRS_MAX`] others.
    TooMany,
    /// `LISTEN_FDNAMES` has another number of names than there are sockets.
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
    /// Takes over the sockets and times in the environment, once.
    ///
    /// Removes the variables about sockets from the environment, so call it while there is only one thread.
    ///
    /// # Errors
    ///
    /// If a socket is not usable. The manager expects that every socket is served.
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

/// The name of the socket for the admin listener. All others are for subscribers and publishers.
const ADMIN: &str = "admin";

fn take(handed: &mut ListenFd, index: usize) -> Option<Socket> {
    let tcp = handed.take_tcp_listener(index).ok().flatten().map(Socket::from);
    let socket = tcp.or_else(|| handed.take_unix_listener(index).ok().flatten().map(Socket::from))?;
    socket.is_listener().ok()?.then_some(socket)
}

/// Reports that everything is open: units that wait for this one may start.
pub fn say_ready(streams_max: usize) {
    say(&[NotifyState::Ready, NotifyState::Status(&format!("Serving up to {streams_max} streams"))]);
}

/// Reports that the drain has begun.
pub fn say_stopping() {
    say(&[NotifyState::Stopping, NotifyState::Status("Draining")]);
}

/// Reports to the watchdog that the process works.
pub fn say_alive() {
    say(&[NotifyState::Watchdog]);
}

fn say(state: &[NotifyState<'_>]) {
    let said: io::Result<()> = sd_notify::notify(state);
    if let Err(err) = said {
        tracing::warn!(%err, "the service manager could not be notified");
    }
}
