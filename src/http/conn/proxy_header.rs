//! Parses the PROXY protocol header, with which a proxy names a connection's client (versions 1 and 2, as `HAProxy`
//! specifies them). Pure: takes the bytes that have come so far.
//!
//! Guarantees: a header is complete exactly with its last byte, however it is cut; bytes after it are not read; another
//! protocol is detected by its first bytes, and anything else within [`HEADER_BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes a header may have. Version 2 may carry more than addresses, such as TLS data about the client.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// The longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;

/// The beginning of version 1.
const LINE_START: &[u8] = b"PROXY ";

/// The beginning of version 2. No other protocol begins like this.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, version and command, family and transport, and the length of the rest.
const FIXED_BYTES: usize = 16;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// The beginning of a header.
    Partial,
    /// A header, and maybe more bytes after it.
    Complete {
        /// Its bytes.
        length: usize,
        /// The client; an IPv4 address mapped into IPv6 is given as IPv4. `None` if the proxy connects for itself, or
        /// for a client without an IP address.
        client: Option<IpAddr>,
    },
}

/// These bytes are not the beginning of a header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAHeader;

/// Parses all bytes that have come so far.
///
/// # Errors
///
/// [`NotAHeader`], for these bytes and all that begin with them.
pub fn parse(bytes: &[u8]) -> Result<Parsed, NotAHeader> {
    if begins(bytes, SIGNATURE) {
        binary(bytes)
    } else if begins(bytes, LINE_START) {
        line(bytes)
    } else {
        Err(NotAHeader)
    }
}

/// Whether `bytes` begin with `start`, or may do so when more come.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, wanted)| byte == wanted)
}

/// Version 1: `PROXY TCP4 <source> <destination> <source port> <destination port>\r\n`.
fn line(bytes: &[u8]) -> Result<Parsed, NotAHeader> {
    let near = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let text = match near.iter().position(|byte| !matches!(byte, b' '..=b'~')) {
        None if near.len() == LINE_BYTES_MAX => return Err(NotAHeader),
        None => return Ok(Parsed::Partial),
        Some(end) => match &near[end..] {
            [b'\r'] if near.len() < LINE_BYTES_MAX => return Ok(Parsed::Partial),
            [b'\r', b'\n', ..] => std::str::from_utf8(&near[..end]).map_err(|_| NotAHeader)?,
            _ => return Err(NotAHeader),
        },
    };
    let length = text.len() + b"\r\n".len();
    let mut words = text.split(' ').skip(1);
    let client = match words.next() {
        Some("TCP4") => Some(source::<Ipv4Addr>(words)?.into()),
        Some("TCP6") => Some(source::<Ipv6Addr>(words)?.into()),
        // The rest of the line is ignored.
        Some("UNKNOWN") => None,
        _ => return Err(NotAHeader),
    };
    Ok(Parsed::Complete { length, client: client.map(|client: IpAddr| client.to_canonical()) })
}

/// The first of two addresses, if they and their ports are all that remains.
fn source<'a, A: std::str::FromStr>(words: impl Iterator<Item = &'a str>) -> Result<A, NotAHeader> {
    let words: Vec<&str> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(NotAHeader);
    };
    let is_right = destination.parse::<A>().is_ok() && is_port(source_port) && is_port(destination_port);
    source.parse().ok().filter(|_| is_right).ok_or(NotAHeader)
}

/// Whether `text` is digits as programs write them. `str::parse` also takes a plus and leading zeros.
fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port.to_string() == text)
}

/// Version 2: the [`FIXED_BYTES`], then source and destination address, their ports, and more that is skipped.
fn binary(bytes: &[u8]) -> Result<Parsed, NotAHeader> {
    let command = bytes.get(SIGNATURE.len()).copied();
    if command.is_some_and(|command| command != LOCAL && command != PROXY) {
        return Err(NotAHeader);
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return Ok(Parsed::Partial);
    };
    let [.., kind, high, low] = *fixed;
    let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED_BYTES + rest_bytes;
    let is_local = command == Some(LOCAL);
    // For a connection of its own, a proxy may write anything here.
    if length > HEADER_BYTES_MAX || (!is_local && address_bytes(kind).is_none_or(|least| rest_bytes < least))
    {
        return Err(NotAHeader);
    }
    if bytes.len() < length {
        return Ok(Parsed::Partial);
    }
    let client = match kind {
        _ if is_local => None,
        TCP4 | UDP4 => rest.first_chunk::<4>().map(|octets| IpAddr::from(*octets)),
        TCP6 | UDP6 => rest.first_chunk::<16>().map(|octets| IpAddr::from(*octets)),
        _ => None,
    };
    Ok(Parsed::Complete { length, client: client.map(|client| client.to_canonical()) })
}

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UDP4: u8 = 0x12;
const UDP6: u8 = 0x22;

/// Bytes of the addresses and ports of a kind; `None` for an unknown kind.
fn address_bytes(kind: u8) -> Option<usize> {
    match kind {
        // Unspecified.
        0x00 => Some(0),
        // No connection has datagrams, but other receivers accept them.
        TCP4 | UDP4 => Some(12),
        TCP6 | UDP6 => Some(36),
        // Unix sockets.
        0x31 | 0x32 => Some(216),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client in `bytes`, after checking that no shorter part of them is a header or an error, and that following
    /// bytes make no difference.
    fn complete(bytes: &[u8]) -> Option<String> {
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), Ok(Parsed::Partial), "{end} of {}", bytes.escape_ascii());
        }
        let found = parse(bytes).expect("a header");
        assert_eq!(parse(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), Ok(found));
        let Parsed::Complete { length, client } = found else { panic!("{}", bytes.escape_ascii()) };
        assert_eq!(length, bytes.len());
        client.map(|client| client.to_string())
    }

    fn version_2(command: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, kind], &length, rest].concat()
    }

    #[test]
    fn lines_say_who_it_is() {
        for (line, client) in [
            ("PROXY TCP4 198.51.100.7 10.0.0.1 56324 443\r\n", Some("198.51.100.7")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
            ("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", Some("0.0.0.0")),
            ("PROXY TCP6 2001:db8::7 ::1 1 2\r\n", Some("2001:db8::7")),
            ("PROXY TCP6 ::ffff:198.51.100.7 ::1 1 2\r\n", Some("198.51.100.7")),
            (
                "PROXY TCP6 ffff:f00f:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                Some("ffff:f00f:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN 198.51.100.7 whatever it is\r\n", None),
        ] {
            assert_eq!(complete(line.as_bytes()).as_deref(), client, "{line:?}");
        }
        let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
        assert_eq!(complete(longest.as_bytes()), None);
    }

    #[test]
    fn lines_that_are_wrong_are_refused() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 198.51.100.7 10.0.0.1 1 2\r\n",
            " PROXY UNKNOWN\r\n",
            "PROXY  TCP4 198.51.100.7 10.0.0.1 1 2\r\n",
            "PROXY\tTCP4 198.51.100.7 10.0.0.1 1 2\r\n",
            "PROXY TCP5 198.51.100.7 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 1\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 198.51.100.7  10.0.0.1 1 2\r\n",
            "PROXY TCP4 198.51.100.007 10.0.0.1 1 2\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 01 2\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 198.51.100.7 10.0.0.1 1 2\r\n",
            "PROXY TCP6 [::1] ::1 1 2\r\n",
            "PROXY TCP4 localhost 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\rx",
            "PROXY UNKNOWN \0\r\n",
            "PROXY UNKNOWN \u{e9}\r\n",
            "PROXY UNKNOWN\r\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(NotAHeader), "{line:?}");
        }
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 15));
        assert_eq!(parse(long.as_bytes()), Err(NotAHeader));
        // A line that never ends is refused at the bound.
        assert_eq!(parse(&long.as_bytes()[..LINE_BYTES_MAX]), Err(NotAHeader));
        assert_eq!(parse(&long.as_bytes()[..LINE_BYTES_MAX - 1]), Ok(Parsed::Partial));
    }

    #[test]
    fn binary_headers_say_who_it_is() {
        let ipv4 = [198, 51, 100, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        let mut ipv6 = [0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        ipv6[15] = 7;
        let mut mapped = ipv6;
        mapped[..16]
            .copy_from_slice(&"::ffff:198.51.100.7".parse::<Ipv6Addr>().expect("an address").octets());
        let more = [&ipv4[..], &[4, 0, 3, 1, 2, 3]].concat();
        for (command, kind, rest, client) in [
            (PROXY, TCP4, &ipv4[..], Some("198.51.100.7")),
            (PROXY, TCP4, &more, Some("198.51.100.7")),
            (PROXY, TCP6, &ipv6, Some("2001:db8::7")),
            (PROXY, TCP6, &mapped, Some("198.51.100.7")),
            (PROXY, 0x00, &[], None),
            (PROXY, 0x00, &ipv4, None),
            (PROXY, UDP4, &ipv4, Some("198.51.100.7")),
            (PROXY, 0x31, &[b'/'; 216], None),
            (LOCAL, 0x00, &[], None),
            (LOCAL, TCP4, &ipv4, None),
            (LOCAL, TCP4, &[], None),
            (LOCAL, 0xff, b"?", None),
            (PROXY, 0x00, &[0; HEADER_BYTES_MAX - FIXED_BYTES], None),
        ] {
            assert_eq!(complete(&version_2(command, kind, rest)).as_deref(), client, "{command:x} {kind:x}");
        }
    }

    #[test]
    fn binary_headers_that_are_wrong_are_refused() {
        for (command, kind, rest) in [
            (0x11, TCP4, &[0; 12][..]),
            (0x31, TCP4, &[0; 12]),
            (0x22, TCP4, &[0; 12]),
            (PROXY, 0x13, &[0; 12]),
            (PROXY, 0x41, &[0; 12]),
            (PROXY, 0x01, &[0; 12]),
            (PROXY, TCP4, &[0; 11]),
            (PROXY, TCP6, &[0; 35]),
            (PROXY, 0x31, &[0; 215]),
            (PROXY, 0x00, &[0; HEADER_BYTES_MAX - FIXED_BYTES + 1]),
            (LOCAL, 0x00, &[0; HEADER_BYTES_MAX - FIXED_BYTES + 1]),
        ] {
            let bytes = version_2(command, kind, rest);
            assert_eq!(parse(&bytes), Err(NotAHeader), "{command:x} {kind:x} {}", rest.len());
            // Before the rest of it is read.
            assert_eq!(parse(&bytes[..FIXED_BYTES]), Err(NotAHeader), "{command:x} {kind:x}");
        }
        assert_eq!(parse(b"\r\n\r\nGET"), Err(NotAHeader));
        assert_eq!(parse(b""), Ok(Parsed::Partial));
    }
}
