//! Addresses to listen on: `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/tidegate.sock`. Host names are refused: the
//! start must not depend on a look-up. A `proxy:` in front requires the PROXY protocol; options after a path limit
//! which users may connect (see [`unix_socket`](crate::config::kinds::unix_socket)).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::kinds::Kind;
use crate::config::kinds::unix_socket::{OPTIONS, UnixSocket};

/// Addresses one process listens on. Each costs every shard two descriptors (`SHARD_RESERVE`).
pub const LISTEN_ADDRS_MAX: usize = 4;

/// The address of a listener.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenAddr {
    /// An IP address and port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A path, and which users may connect there.
    Unix(UnixSocket),
}

impl From<PathBuf> for ListenAddr {
    /// A Unix socket whose file has the permissions that the umask leaves.
    fn from(path: PathBuf) -> Self {
        Self::Unix(path.into())
    }
}

impl ListenAddr {
    /// Whether both are the same place, so that only one of them can be opened. Modes and groups do not count.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            // For port 0, the kernel chooses different ones.
            (Self::Tcp(one), Self::Tcp(two)) => one == two && one.port() != 0,
            (Self::Unix(one), Self::Unix(two)) => one.path == two.path,
            _ => false,
        }
    }

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
            Self::Unix(socket) => write!(f, "unix:{socket}"),
        }
    }
}

/// An address where subscribers and publishers connect.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Listen {
    /// The address.
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
pub(crate) fn listen() -> ProxiedKind {
    ProxiedKind
}

pub(crate) struct ProxiedKind;

impl Kind for ProxiedKind {
    type Value = Listen;

    fn placeholder(&self) -> &'static str {
        "ADDR"
    }

    fn wanted(&self, example: &str) -> String {
        format!("{}, or either behind proxy:", listen_addr().wanted(example))
    }

    fn wanted_for(&self, text: &str, example: &str) -> String {
        let address = text.strip_prefix(PROXY_PREFIX).unwrap_or(text);
        listen_addr().wanted_options(address).unwrap_or_else(|| self.wanted(example))
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
pub(crate) fn listen_addr() -> ListenKind {
    ListenKind
}

pub(crate) struct ListenKind;

impl Kind for ListenKind {
    type Value = ListenAddr;

    fn placeholder(&self) -> &'static str {
        "ADDR"
    }

    fn wanted(&self, example: &str) -> String {
        format!("an IP address and port such as {example}, or a path such as unix:/run/tidegate.sock")
    }

    fn wanted_for(&self, text: &str, example: &str) -> String {
        self.wanted_options(text).unwrap_or_else(|| self.wanted(example))
    }

    fn parse(&self, text: &str) -> Option<ListenAddr> {
        match text.strip_prefix(UNIX_PREFIX) {
            Some(socket) => UnixSocket::parse(socket).map(ListenAddr::Unix),
            None => text.parse().ok().map(ListenAddr::Tcp),
        }
    }

    fn print(&self, value: &ListenAddr) -> String {
        value.to_string()
    }
}

impl ListenKind {
    /// The options that are wanted after the path of `text`, if the path itself is right.
    fn wanted_options(&self, text: &str) -> Option<String> {
        let (path, _) = text.split_once(';')?;
        self.parse(path).filter(|address| matches!(address, ListenAddr::Unix(_)))?;
        Some(format!("behind {path} {OPTIONS}"))
    }
}

const UNIX_PREFIX: &str = "unix:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kinds::unix_socket::UNIX_PATH_BYTES_MAX;

    #[test]
    fn addresses_read_back() {
        for text in [
            "127.0.0.1:8080",
            "[::1]:0",
            "0.0.0.0:80",
            "unix:/run/tidegate.sock",
            "unix:/a;mode=0660;group=www-data",
        ] {
            assert_eq!(listen_addr().parse(text).map(|addr| addr.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_proxy_protocol_is_asked_for_in_front() {
        for text in ["proxy:127.0.0.1:8081", "proxy:[::1]:0", "proxy:unix:/run/tidegate.sock;mode=0600"] {
            let read = listen().parse(text).expect("a place to listen");
            assert!(read.proxied && read.address.is_local(), "{text}");
            assert_eq!(read.to_string(), text);
            // Listeners that are not public never require the PROXY protocol.
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
    fn wrong_options_are_told_by_what_would_be_right() {
        for (text, path) in [
            ("unix:/a;mode=999", "unix:/a"),
            ("unix:/a;user=me", "unix:/a"),
            ("proxy:unix:/a;group=", "unix:/a"),
        ] {
            let wanted = listen().wanted_for(text, "1.2.3.4:5");
            assert!(wanted.starts_with(&format!("behind {path} options such as ;mode=0660 ")), "{wanted}");
        }
        for text in ["unix:a;mode=0660", "127.0.0.1:80;mode=0660", "unix:"] {
            assert!(listen().wanted_for(text, "1.2.3.4:5").starts_with("an IP address and port"), "{text}");
        }
    }

    #[test]
    fn mode_and_group_do_not_make_another_place() {
        let is_at = |one, two| {
            let [one, two] = [one, two].map(|text| listen_addr().parse(text).expect("an address"));
            one.is_at(&two)
        };
        assert!(is_at("unix:/a", "unix:/a;mode=0600") && is_at("[::1]:1", "[::1]:1"));
        assert!(!is_at("unix:/a", "unix:/b") && !is_at("[::1]:0", "[::1]:0") && !is_at("[::1]:1", "[::1]:2"));
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
