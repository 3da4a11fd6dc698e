//! Where a listener listens: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/tidegate.sock`. Names are not looked up: which
//! address a name stands for is no reason to start differently. `proxy:` before it asks for the PROXY protocol there.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::kind::Kind;

/// Addresses one process listens on. Each costs every shard two descriptors (`SHARD_RESERVE`).
pub const LISTEN_ADDRS_MAX: usize = 4;

/// Where a listener listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenAddr {
    /// An IP address and port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// An absolute path of at most 107 bytes (`unix(7)`).
    Unix(PathBuf),
}

impl ListenAddr {
    /// Whether only this machine can connect: a loopback address, an IPv4 one mapped into IPv6 included, or a Unix
    /// socket.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for ListenAddr {
    /// As in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A place where listeners and publishers connect.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Listen {
    /// Where.
    pub address: ListenAddr,
    /// Whether every connection begins with a PROXY protocol header.
    pub proxied: bool,
}

impl From<ListenAddr> for Listen {
    /// Without the PROXY protocol.
    fn from(address: ListenAddr) -> Self {
        Self { address, proxied: false }
    }
}

impl fmt::Display for Listen {
    /// As in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.proxied { PROXY_PREFIX } else { "" };
        write!(f, "{prefix}{}", self.address)
    }
}

const PROXY_PREFIX: &str = "proxy:";

/// `ADDR:PORT` or `unix:/path`, with `proxy:` before it or not.
pub(super) fn listen() -> ProxiedKind {
    ProxiedKind
}

pub(super) struct ProxiedKind;

impl Kind for ProxiedKind {
    type Value = Listen;

    fn placeholder(&self) -> &'static str {
        "ADDR"
    }

    fn wanted(&self, example: &str) -> String {
        format!("{}, or either behind proxy:", listen_addr().wanted(example))
    }

    fn parse(&self, text: &str) -> Option<Listen> {
        let address = text.strip_prefix(PROXY_PREFIX);
        let proxied = address.is_some();
        Some(Listen { address: listen_addr().parse(address.unwrap_or(text))?, proxied })
    }

    fn print(&self, value: &Listen) -> String {
        value.to_string()
    }
}

/// `ADDR:PORT` or `unix:/path`.
pub(super) fn listen_addr() -> ListenKind {
    ListenKind
}

pub(super) struct ListenKind;

impl Kind for ListenKind {
    type Value = ListenAddr;

    fn placeholder(&self) -> &'static str {
        "ADDR"
    }

    fn wanted(&self, example: &str) -> String {
        format!("an IP address and port such as {example}, or a path such as unix:/run/tidegate.sock")
    }

    fn parse(&self, text: &str) -> Option<ListenAddr> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().ok().map(ListenAddr::Tcp);
        };
        let fits = path.len() <= UNIX_PATH_BYTES_MAX && path.starts_with('/') && !path.ends_with('/');
        // A comma would come back as two entries, a NUL would end the path early, and the replacement character stands
        // for bytes that were lost on the way here.
        let odd = |c: char| matches!(c, ',' | char::REPLACEMENT_CHARACTER) || c.is_control();
        let plain = !path.contains(odd);
        (fits && plain).then(|| ListenAddr::Unix(path.into()))
    }

    fn print(&self, value: &ListenAddr) -> String {
        value.to_string()
    }
}

/// `sun_path` has 108 bytes, the closing NUL included (`unix(7)`).
const UNIX_PATH_BYTES_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back() {
        for text in ["127.0.0.1:8080", "[::1]:0", "0.0.0.0:80", "unix:/run/tidegate.sock"] {
            assert_eq!(listen_addr().parse(text).map(|addr| addr.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_proxy_protocol_is_asked_for_in_front() {
        for text in ["proxy:127.0.0.1:8081", "proxy:[::1]:0", "proxy:unix:/run/tidegate.sock"] {
            let read = listen().parse(text).expect("a place to listen");
            assert!(read.proxied && read.address.is_local(), "{text}");
            assert_eq!(read.to_string(), text);
            // What is not for the public is never behind a proxy of that kind.
            assert_eq!(listen_addr().parse(text), None, "{text}");
        }
        for text in ["127.0.0.1:8081", "unix:/proxy:"] {
            let read = listen().parse(text).expect("a place to listen");
            assert!(!read.proxied, "{text}");
            assert_eq!(read.to_string(), text);
        }
        for text in
            ["proxy:", "proxy:proxy:127.0.0.1:1", "proxy: 127.0.0.1:1", "PROXY:127.0.0.1:1", "unix:proxy:/a"]
        {
            assert_eq!(listen().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn names_bare_ports_and_odd_paths_are_refused() {
        let long = format!("unix:/{}", "p".repeat(UNIX_PATH_BYTES_MAX));
        for text in ["", "8080", ":8080", "localhost:8080", "127.0.0.1", "127.0.0.1:65536", "unix:", "unix:/"]
        {
            assert_eq!(listen_addr().parse(text), None, "{text:?}");
        }
        for text in ["unix:relative.sock", "unix:/a\0b", "unix:/a,b", "/run/tidegate.sock", &long] {
            assert_eq!(listen_addr().parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_this_machine_reaches_loopback_and_unix_sockets() {
        let local = |text| listen_addr().parse(text).expect("an address").is_local();
        for text in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "unix:/a"] {
            assert!(local(text), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!local(text), "{text}");
        }
    }
}
