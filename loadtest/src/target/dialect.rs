//! How an event is handed to each server.

use std::io::{self, Read, Write};

/// The form of a publish request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dialect {
    /// `POST {base}/publish` with JSON: `room` or `user`, and `data`. Knows arrays.
    #[default]
    Tidegate,
    /// `POST {base}/publish/{room}` with the data for a body. One event a request.
    Nchan,
    /// A `ZeroMQ` PUSH socket (ZMTP 3.0, rfc.zeromq.org/spec/23) with a JSON item a message. Nothing is answered; a
    /// server that can't keep up stops reading.
    Pushpin,
}

impl Dialect {
    /// Whether several events fit into one request.
    #[must_use]
    pub fn has_batches(self) -> bool {
        self == Self::Tidegate
    }

    /// Whether requests are answered.
    #[must_use]
    pub fn is_answered(self) -> bool {
        self != Self::Pushpin
    }

    /// What stands for the room or user `name` in a request; `field` says which of the two it is.
    #[must_use]
    pub fn address(self, field: &str, name: &str) -> String {
        match self {
            Self::Tidegate => format!("\"{field}\":\"{name}\""),
            Self::Nchan => format!("/{name}"),
            Self::Pushpin => format!("\"channel\":\"{name}\""),
        }
    }

    /// What comes before the first request on a connection.
    ///
    /// # Errors
    ///
    /// The server is not what it should be, or gone.
    pub fn greet(self, socket: &mut (impl Read + Write)) -> io::Result<()> {
        if self != Self::Pushpin {
            return Ok(());
        }
        socket.write_all(&zmtp_greeting())?;
        let mut greeting = [0; 64];
        socket.read_exact(&mut greeting)?;
        if greeting[0] != 0xff || greeting[10] < 3 {
            return Err(io::Error::other("not a ZeroMQ socket of version 3"));
        }
        socket.write_all(&zmtp_ready())
    }

    /// Appends one event; `data` needs no escaping. For [`Dialect::Tidegate`] this is an item of the body, otherwise a
    /// whole request with `path` and `host`.
    pub fn event(self, path: &str, host: &str, address: &str, data: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Tidegate => {
                out.push(b'{');
                out.extend_from_slice(address.as_bytes());
                out.extend_from_slice(b",\"data\":\"");
                out.extend_from_slice(data);
                out.extend_from_slice(b"\"}");
            }
            Self::Nchan => {
                let length = data.len();
                let head = format!(
                    "POST {path}{address} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n\
                     Content-Length: {length}\r\n\r\n"
                );
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(data);
            }
            Self::Pushpin => {
                let head = format!("J{{{address},\"formats\":{{\"http-stream\":{{\"content\":\"data: ");
                let tail = r#"\n\n"}}}"#;
                // A long frame: flags, then the length in eight bytes.
                out.push(2);
                out.extend_from_slice(&((head.len() + data.len() + tail.len()) as u64).to_be_bytes());
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(data);
                out.extend_from_slice(tail.as_bytes());
            }
        }
    }
}

/// Signature, version 3.0, no security.
fn zmtp_greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// The command READY: this is a PUSH socket.
fn zmtp_ready() -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type\0\0\0\x04PUSH".to_vec();
    // A short command frame: flags, then the length in one byte.
    let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
    body.splice(0..0, [4, length]);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(dialect: Dialect) -> String {
        let mut out = Vec::new();
        let address = dialect.address("room", "r7");
        dialect.event("/base/publish", "host", &address, b"0 1 xx", &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_server_is_told_in_its_own_way() {
        assert_eq!(event(Dialect::Tidegate), r#"{"room":"r7","data":"0 1 xx"}"#);
        let nchan = event(Dialect::Nchan);
        assert!(nchan.starts_with("POST /base/publish/r7 HTTP/1.1\r\n"), "{nchan}");
        assert!(nchan.ends_with("Content-Length: 6\r\n\r\n0 1 xx"), "{nchan}");
        let pushpin = event(Dialect::Pushpin);
        let (frame, message) = pushpin.split_at(9);
        assert_eq!(frame.as_bytes(), [2, 0, 0, 0, 0, 0, 0, 0, u8::try_from(message.len()).expect("short")]);
        let json = message.strip_prefix('J').expect("the format comes first");
        let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
        assert_eq!(json["formats"]["http-stream"]["content"], "data: 0 1 xx\n\n");
        assert_eq!(json["channel"], "r7");
    }
}
