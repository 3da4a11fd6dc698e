//! `--check-health`: asks a running server's `/readyz`. Made for containers, which have no curl.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::ListenAddr;
use crate::net::holder::connect_unix;

/// Time for connecting, and again for the answer. The readiness probe itself ends after a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes read of an answer. A server's answer has a few hundred.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Why a server is not healthy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unhealthy {
    /// `admin_listen` is off, or leaves the port to the kernel: there is no address to ask.
    NoAddress,
    /// No server answers.
    Unreachable(io::Error),
    /// The answer, which is not 200.
    NotReady(String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("admin_listen names no address to ask"),
            Self::Unreachable(_) => f.write_str("no answer at admin_listen"),
            Self::NotReady(answer) => f.write_str(answer),
        }
    }
}

impl std::error::Error for Unhealthy {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(err) => Some(err),
            Self::NoAddress | Self::NotReady(_) => None,
        }
    }
}

/// Asks the server whose admin listener is at `admin` whether it is ready. Blocks for a few seconds at most.
///
/// # Errors
///
/// Why the server is not ready.
pub fn check(admin: Option<&ListenAddr>) -> Result<(), Unhealthy> {
    let answer = match admin {
        Some(ListenAddr::Tcp(addr)) if addr.port() != 0 => {
            let stream = TcpStream::connect_timeout(addr, PATIENCE);
            stream.and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                ask(stream)
            })
        }
        // With a time-out: a full queue would block the connect for as long as it is full.
        Some(ListenAddr::Unix(unix)) => connect_unix(&unix.path, PATIENCE).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ask(stream)
        }),
        _ => return Err(Unhealthy::NoAddress),
    };
    let answer = answer.map_err(Unhealthy::Unreachable)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        Ok(())
    } else {
        Err(Unhealthy::NotReady(body.trim().to_owned()))
    }
}

fn ask(mut stream: impl Read + Write) -> io::Result<String> {
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
