//! `--check-health`: asks a running server's `/readyz`, for containers, which have no curl.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::config::ListenAddr;
use crate::net::holder::connect_unix;

/// How long connecting may take, and the answer again. Readiness itself gives up after a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes read of an answer. Ours have a few hundred.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Why a server does not count as healthy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unhealthy {
    /// `admin_listen` is off, or leaves the port to the kernel: there is nobody to ask.
    NoAddress,
    /// Nobody answers.
    Unreachable(io::Error),
    /// The answer is not 200. What it says.
    NotReady(String),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("admin_listen names no address that could be asked"),
            Self::Unreachable(_) => f.write_str("nobody answers on admin_listen"),
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
/// Why it is not.
pub fn check(admin: Option<&ListenAddr>) -> Result<(), Unhealthy> {
    let answer = match admin {
        Some(ListenAddr::Tcp(addr)) if addr.port() != 0 => {
            let stream = TcpStream::connect_timeout(addr, PATIENCE);
            stream.and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                ask(stream)
            })
        }
        // Otherwise a full queue would keep the question waiting for as long as it is full.
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
