//! One keep-alive connection that publishes and waits for each answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Deserialize;

use crate::plan::credentials::Credentials;
use crate::target::server::Target;

/// A connection that publishes.
#[derive(Debug)]
pub struct Caller {
    socket: TcpStream,
    /// The request up to the fields of each one.
    head: String,
    /// What was read of the next answer.
    read: Vec<u8>,
}

/// What a publish was answered with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether it is marked as the answer of an earlier request.
    pub is_replayed: bool,
    /// Its body.
    pub body: AnswerBody,
}

/// The members of an answer that are looked at.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct AnswerBody {
    /// Id of the newest event.
    pub id: Option<String>,
    /// Of a batch: events that were published now.
    pub published: Option<u64>,
    /// Of a batch: events that were published before.
    pub replayed: Option<u64>,
    /// Of a refusal: why.
    pub code: Option<String>,
}

impl Answer {
    /// Whether the first request with the key is not decided yet.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.status == 409 && self.body.code.as_deref() == Some("idempotency_busy")
    }
}

impl Caller {
    /// Connects to `target`.
    ///
    /// # Errors
    ///
    /// It does not accept.
    pub fn new(target: &Target) -> io::Result<Self> {
        let socket = TcpStream::connect(target.publish_addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        socket.set_write_timeout(Some(ANSWER_MAX))?;
        let token = target.credentials.as_ref().map(Credentials::publisher).unwrap_or_default();
        let head = format!(
            "POST {}/publish HTTP/1.1\r\nHost: {}\r\n{token}Content-Type: application/json\r\n",
            target.base, target.host
        );
        Ok(Self { socket, head, read: Vec::new() })
    }

    /// Publishes `body`, with an `Idempotency-Key` if there is one, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The connection broke, or what came is no answer.
    pub fn publish(&mut self, key: Option<&str>, body: &str) -> io::Result<Answer> {
        let key = key.map_or(String::new(), |key| format!("Idempotency-Key: {key}\r\n"));
        let request = format!("{}{key}Content-Length: {}\r\n\r\n{body}", self.head, body.len());
        self.socket.write_all(request.as_bytes())?;
        loop {
            if let Some((answer, len)) = answer(&self.read)? {
                self.read.drain(..len);
                return Ok(answer);
            }
            let mut part = [0; 4 * 1024];
            match self.socket.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => self.read.extend_from_slice(&part[..len]),
            }
        }
    }

    /// The same, again while the first request with this key is not decided. Returns the answer and how often it was not.
    ///
    /// # Errors
    ///
    /// As [`Caller::publish`], or it is never decided.
    pub fn publish_once(&mut self, key: &str, body: &str) -> io::Result<(Answer, u64)> {
        for busy in 0..BUSY_MAX {
            let answer = self.publish(Some(key), body)?;
            if !answer.is_busy() {
                return Ok((answer, busy));
            }
            std::thread::sleep(BUSY_WAIT);
        }
        Err(io::Error::other(format!("the key {key} stays busy")))
    }
}

/// The answer at the head of `bytes` and its length, once it is whole.
fn answer(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("an answer without Content-Length"))?;
    let Some(body) = bytes.get(head..head.saturating_add(length)) else {
        return Ok(None);
    };
    let is_replayed = header("idempotency-replayed") == Some("true");
    let status = response.code.unwrap_or(0);
    let body = serde_json::from_slice(body).unwrap_or_default();
    Ok(Some((Answer { status, is_replayed, body }, head + length)))
}

const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How often a request is made again while another one with its key is under way: 5 s.
const BUSY_MAX: u64 = 1_000;
const BUSY_WAIT: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        let text =
            b"HTTP/1.1 200 OK\r\nIdempotency-Replayed: true\r\nContent-Length: 12\r\n\r\n{\"id\":\"e-7\"}";
        assert_eq!(answer(&text[..text.len() - 1]).expect("so far so good"), None);
        let (first, len) = answer(&[&text[..], b"HTTP"].concat()).expect("valid").expect("whole");
        assert_eq!((first.status, first.is_replayed, len), (200, true, text.len()));
        assert_eq!(first.body.id.as_deref(), Some("e-7"));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "nobody knows where it ends");
    }

    #[test]
    fn only_a_busy_key_is_busy() {
        let refusal = |status: u16, code: &str| {
            let body = AnswerBody { code: Some(code.to_owned()), ..AnswerBody::default() };
            Answer { status, body, ..Answer::default() }
        };
        assert!(refusal(409, "idempotency_busy").is_busy());
        assert!(!refusal(409, "repeated").is_busy() && !refusal(503, "idempotency_busy").is_busy());
    }
}
