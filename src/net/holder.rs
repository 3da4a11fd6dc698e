//! Finds out which program uses an address, once at the start, so that the operator is told what to do.
//!
//! Each step has a bound: `CONNECT_TIME`, `ANSWER_TIME` and `ANSWER_BYTES_MAX`.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::answer::problem::Code;
use crate::config::ListenAddr;

/// How long connecting may take. A Unix socket with a full queue would block without end.
const CONNECT_TIME: Duration = Duration::from_secs(1);

/// How long the answer may take in all.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// Bytes read of an answer. Tidegate's own have a few hundred.
const ANSWER_BYTES_MAX: usize = 4096;

/// The program or file at an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A server like this one.
    Tidegate,
    /// Another program that accepts connections.
    Other,
    /// Nothing listens: the path is a file that is not a socket.
    File,
}

impl fmt::Display for Holder {
    /// The second half of a sentence about an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tidegate => "another Tidegate runs there: stop it, or set another address",
            Self::Other => "another program listens there: stop it, or set another address",
            Self::File => "a file that is not a socket is there: remove it, or set another path",
        })
    }
}

/// Connects to `address` and asks. `None` if nothing accepts a connection there.
#[must_use]
pub fn ask(address: &ListenAddr) -> Option<Holder> {
    if let ListenAddr::Unix(unix) = address
        && unix.path.symlink_metadata().is_ok_and(|meta| !meta.file_type().is_socket())
    {
        return Some(Holder::File);
    }
    let socket = match connect(address) {
        Ok(socket) => socket,
        // A full queue belongs to a running server.
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Some(Holder::Other),
        Err(_) => return None,
    };
    let answer = round(socket).unwrap_or_default();
    Some(if is_ours(&answer) { Holder::Tidegate } else { Holder::Other })
}

fn connect(address: &ListenAddr) -> io::Result<Socket> {
    match address {
        ListenAddr::Tcp(addr) => {
            let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, None)?;
            socket.connect_timeout(&reachable(*addr).into(), CONNECT_TIME)?;
            Ok(socket)
        }
        ListenAddr::Unix(unix) => connect_unix(&unix.path, CONNECT_TIME),
    }
}

/// Connects to the Unix socket at `path`, and waits for a place in its queue for at most `time`.
///
/// # Errors
///
/// `WouldBlock` if the queue is full, `ConnectionRefused` if nothing listens there any more.
pub fn connect_unix(path: &Path, time: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The bound of a send also bounds the wait for a place (`unix_stream_connect` in the kernel).
    socket.set_write_timeout(Some(time))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The address at which a program on this machine reaches a listener on `addr`.
fn reachable(mut addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() {
        addr.set_ip(if addr.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    addr
}

/// Requests `/`, and returns what arrives in time.
fn round(mut socket: Socket) -> io::Result<String> {
    let until = Instant::now() + ANSWER_TIME;
    socket.set_nonblocking(false)?;
    socket.set_write_timeout(Some(ANSWER_TIME))?;
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let (mut answer, mut buf) = (Vec::new(), [0; 1024]);
    while answer.len() < ANSWER_BYTES_MAX {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buf) {
            Ok(count @ 1..) => answer.extend_from_slice(&buf[..count]),
            // The end, or out of time. The bytes read so far may be enough.
            _ => break,
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether `answer` to `GET /` is from a Tidegate server: its greeting, or a refusal with one of its codes. The admin
/// listener has nothing at `/` and refuses; a public one may refuse this client.
fn is_ours(answer: &str) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        code: String,
    }
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    if head.starts_with("HTTP/1.1 200 ") {
        return body.starts_with("Tidegate");
    }
    let refusal = serde_json::from_str::<Refusal>(body);
    refusal.is_ok_and(|refusal| Code::ALL.iter().any(|code| code.as_str() == refusal.code))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn our_answers_are_known() {
        let ours =
            ["200 OK\r\n\r\nTidegate 0.1.0\n", "403 F\r\n\r\n{\"status\":403,\"code\":\"host_forbidden\"}"];
        for answer in ours {
            assert!(is_ours(&format!("HTTP/1.1 {answer}")), "{answer}");
        }
        let others = [
            "200 OK\r\n\r\n<html>",
            "404 N\r\n\r\n{\"code\":\"NoSuchKey\"}",
            "404 N\r\n\r\nTidegate",
            "200 OK",
            "",
        ];
        for answer in others {
            assert!(!is_ours(&format!("HTTP/1.1 {answer}")), "{answer}");
        }
    }

    #[test]
    fn a_silent_listener_is_another_program_and_a_closed_port_is_none() {
        let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
        let addr = ListenAddr::Tcp(listener.local_addr().expect("its port"));
        // The connection is in the queue, and is not answered.
        assert_eq!(ask(&addr), Some(Holder::Other));
        drop(listener);
        assert_eq!(ask(&addr), None);
    }

    /// It used to wait for a place in the queue, without end.
    #[test]
    fn a_full_queue_is_another_program() {
        let path = std::env::temp_dir().join(format!("tidegate-holder-{}.sock", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::unix(&path).expect("a short path")).expect("a free path");
        listener.listen(1).expect("a bound socket");
        let queued: Vec<Socket> =
            std::iter::from_fn(|| connect_unix(&path, Duration::from_millis(1)).ok()).collect();
        assert!(!queued.is_empty());
        assert_eq!(ask(&path.clone().into()), Some(Holder::Other));
        drop(listener);
        assert_eq!(ask(&path.clone().into()), None);
        std::fs::remove_file(path).expect("its file is still there");
    }
}
