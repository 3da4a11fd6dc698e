//! Reads the PROXY protocol header with which a proxy introduces a connection.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::task::{Poll, ready};

use bytes::Bytes;

use crate::http::conn::exchange::Exchange;
use crate::http::conn::proxy_header::{self, NotAHeader, Parsed};
use crate::net::stream::Stream;
use crate::types::clock::Clock;

/// The content of a PROXY protocol header.
pub struct Introduced {
    /// The client the connection is for, if not the proxy itself.
    pub client: Option<IpAddr>,
    /// What was read after the header.
    pub ahead: Bytes,
}

/// Why there is no header.
pub enum NotIntroduced {
    /// The bytes are not a header, or it took too long.
    Refused,
    /// The peer closed without a byte. Load balancers do that as a health check, so it is not counted as refused.
    Left,
}

/// Reads the header at the beginning of the connection, and maybe more. If it is dropped, bytes are lost; the
/// connection is dropped with it.
///
/// # Errors
///
/// If there is no header.
pub async fn introduce(
    clock: Clock,
    exchange: &Exchange,
    stream: &Stream,
) -> Result<Introduced, NotIntroduced> {
    let mut read = Vec::new();
    poll_fn(|cx| {
        loop {
            match proxy_header::parse(&read) {
                Ok(Parsed::Complete { length, client }) => {
                    exchange.spare();
                    let ahead = Bytes::from(std::mem::take(&mut read)).split_off(length);
                    return Poll::Ready(Ok(Introduced { client, ahead }));
                }
                Ok(Parsed::Partial) => {}
                Err(NotAHeader) => return Poll::Ready(Err(NotIntroduced::Refused)),
            }
            let mut buf = [0; INTRODUCTION_BYTES];
            match stream.try_read(&mut buf) {
                Ok(count @ 1..) => read.extend_from_slice(&buf[..count]),
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {
                    if exchange.poll_expired(cx) {
                        let overdue = exchange.is_overdue(clock.now());
                        return Poll::Ready(Err(unfinished(overdue || !read.is_empty())));
                    }
                    ready!(stream.poll_readable(cx));
                }
                // The peer closed, or the socket failed.
                _ => return Poll::Ready(Err(unfinished(!read.is_empty()))),
            }
        }
    })
    .await
}

fn unfinished(refused: bool) -> NotIntroduced {
    if refused { NotIntroduced::Refused } else { NotIntroduced::Left }
}

/// Bytes read at once. Most headers have about a hundred.
const INTRODUCTION_BYTES: usize = 512;
