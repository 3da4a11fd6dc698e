//! Where a Redis is: `redis://`, `rediss://` (TLS), `unix:`, `redis+sentinel://`, and where its password is.
//!
//! ```text
//! redis://[user:password@]host[:6379][/db]
//! rediss://…                          the same with TLS; certificates are verified
//! unix:/run/redis/redis.sock
//! redis+sentinel://[user:password@]host[:26379][,host…]/name[/db]
//! rediss+sentinel://…                 the same with TLS, to the sentinels and to Redis
//! ```
//!
//! Sentinels are asked with the same user and password, and those that want none without. Sentinels have to log in to their
//! Redis themselves, so they are told nothing new.
//!
//! Passwords are percent-encoded in an URL, or in a file of their own, which is read for each connection so that it can be
//! exchanged. Nothing here is printed with a password.

use std::fmt;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};

/// Where a Redis is.
#[derive(Clone)]
pub struct Address {
    place: Place,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    db: i64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
    Sentinels { sentinels: Vec<(String, u16)>, name: String, tls: bool },
}

/// What is wrong with an address. It does not repeat the address, which may have a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AddressError {
    /// It begins otherwise.
    Scheme,
    /// It has no host.
    Host,
    /// A port is no number in 1..=65535.
    Port,
    /// The path is no number of a database, or there is no name of a master.
    Path,
    /// It has a query or a fragment.
    Rest,
    /// It is not percent-encoded UTF-8.
    Encoding,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "wanted redis://, rediss://, unix:, redis+sentinel:// or rediss+sentinel://",
            Self::Host => "wanted a host",
            Self::Port => "wanted a port in 1..=65535",
            Self::Path => "wanted /DATABASE, or /NAME[/DATABASE] with sentinels",
            Self::Rest => "wanted nothing behind the path",
            Self::Encoding => "wanted a name and a password in percent-encoded UTF-8",
        })
    }
}

impl std::error::Error for AddressError {}

/// Without the password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.place).field(&self.db).finish()
    }
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    ///
    /// Says what was wanted.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = Place::Unix(path.into());
            return if path.starts_with('/') { Ok(Self::at(place)) } else { Err(AddressError::Path) };
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(AddressError::Rest);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (place, db) = match scheme {
            "redis" | "rediss" => {
                let (host, port) = host_and_port(hosts, 6379)?;
                (Place::Tcp { host, port, tls: scheme == "rediss" }, path)
            }
            "redis+sentinel" | "rediss+sentinel" => {
                let sentinels: Result<Vec<_>, _> =
                    hosts.split(',').map(|host| host_and_port(host, 26_379)).collect();
                let (name, db) = path.split_once('/').unwrap_or((path, ""));
                let name = Some(decoded(name)?).filter(|name| !name.is_empty());
                let (sentinels, name) = (sentinels?, name.ok_or(AddressError::Path)?);
                (Place::Sentinels { sentinels, name, tls: scheme == "rediss+sentinel" }, db)
            }
            _ => return Err(AddressError::Scheme),
        };
        let db = if db.is_empty() { Ok(0) } else { db.parse::<u16>().map_err(|_| AddressError::Path) };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let given = |text: &str| Ok(Some(decoded(text)?).filter(|text| !text.is_empty()));
        let (user, password) = (given(user)?, given(password)?);
        Ok(Self { user, password, db: db?.into(), ..Self::at(place) })
    }

    fn at(place: Place) -> Self {
        let (user, password, password_file, ca_file) = (None, None, None, None);
        Self { place, user, password, password_file, ca_file, db: 0 }
    }

    /// The same, with the password in a file. White space at its end is not part of it.
    #[must_use]
    pub fn with_password_file(self, file: Option<PathBuf>) -> Self {
        Self { password_file: file, ..self }
    }

    /// The same, trusting the certificates in this file (PEM) instead of the system's.
    #[must_use]
    pub fn with_ca_file(self, file: Option<PathBuf>) -> Self {
        Self { ca_file: file, ..self }
    }

    /// The sentinels to ask, each with the login and without, and the name of the master to ask for.
    ///
    /// Reads the files.
    pub(super) fn sentinels(&self) -> Result<Option<(Vec<Sentinel>, &str)>, String> {
        let Place::Sentinels { sentinels, name, tls } = &self.place else { return Ok(None) };
        // A sentinel has no databases.
        let login = self.login()?.set_db(0);
        let is_known = login.password().is_some();
        let client =
            |(host, port): &(String, u16), login| self.client_of(tcp(host, *port, *tls), *tls, login);
        let sentinel = |place: &(String, u16)| {
            let without = client(place, RedisConnectionInfo::default().set_skip_set_lib_name())?;
            let with = if is_known { Some(client(place, login.clone())?) } else { None };
            Ok(Sentinel { with, without })
        };
        Ok(Some((sentinels.iter().map(sentinel).collect::<Result<_, String>>()?, name)))
    }

    /// A client of the Redis there; with sentinels, of the one that they named.
    ///
    /// Reads the files.
    pub(super) fn client(&self, named: Option<(String, u16)>) -> Result<Client, String> {
        let (addr, tls) = match (&self.place, named) {
            (Place::Unix(path), _) => (ConnectionAddr::Unix(path.clone()), false),
            (Place::Sentinels { .. }, None) => return Err("no sentinel named a master".into()),
            (Place::Sentinels { tls, .. }, Some((host, port))) => (tcp(&host, port, *tls), *tls),
            (Place::Tcp { host, port, tls }, _) => (tcp(host, *port, *tls), *tls),
        };
        self.client_of(addr, tls, self.login()?)
    }

    fn client_of(
        &self,
        addr: ConnectionAddr,
        tls: bool,
        login: RedisConnectionInfo,
    ) -> Result<Client, String> {
        let info = addr.into_connection_info().map_err(|err| err.to_string())?;
        let info = info.set_redis_settings(login);
        if !tls {
            return Client::open(info).map_err(|err| err.to_string());
        }
        let root_cert = self.ca_file.as_deref().map(read_certificates).transpose()?;
        let client = Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert });
        client.map_err(|err| match &self.ca_file {
            Some(file) => format!("{}: {err}", file.display()),
            None => err.to_string(),
        })
    }

    fn login(&self) -> Result<RedisConnectionInfo, String> {
        let mut login = RedisConnectionInfo::default().set_db(self.db).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            login = login.set_username(user);
        }
        let from_file = self.password_file.as_deref().map(read_password).transpose()?;
        if let Some(password) = from_file.as_ref().or(self.password.as_ref()) {
            login = login.set_password(password);
        }
        Ok(login)
    }
}

/// Clients of one sentinel.
pub(super) struct Sentinel {
    /// With the login, if there is one.
    pub(super) with: Option<Client>,
    /// Without.
    pub(super) without: Client,
}

fn tcp(host: &str, port: u16, tls: bool) -> ConnectionAddr {
    let host = host.to_owned();
    if !tls {
        return ConnectionAddr::Tcp(host, port);
    }
    ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|err| format!("{}: {err}", file.display()))
}

/// Without this check, a file without certificates would look like a server that is not to be trusted.
fn read_certificates(file: &Path) -> Result<Vec<u8>, String> {
    let text = read(file)?;
    let has_some = text.windows(BEGIN.len()).any(|part| part == BEGIN);
    if has_some { Ok(text) } else { Err(format!("{}: it has no certificate (PEM)", file.display())) }
}

/// How a certificate begins (RFC 7468 §5).
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn read_password(file: &Path) -> Result<String, String> {
    let text = String::from_utf8(read(file)?);
    let text = text.map_err(|_| format!("{}: a password is UTF-8 here", file.display()))?;
    Ok(text.trim_end().to_owned())
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| AddressError::Encoding)?;
    Ok(text.into_owned())
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn host_and_port(text: &str, default: u16) -> Result<(String, u16), AddressError> {
    let is_port = |port: &str| !port.contains(']');
    let (host, port) = match text.rsplit_once(':').filter(|(_, port)| is_port(port)) {
        Some((host, port)) => (host, port.parse().map_err(|_| AddressError::Port)?),
        None => (text, default),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || (bare.contains(':') && bare == host) {
        return Err(AddressError::Host);
    }
    if port == 0 { Err(AddressError::Port) } else { Ok((bare.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, AddressError> {
        Address::parse(text).map(|address| address.place)
    }

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port, tls| Ok(Place::Tcp { host: host.into(), port, tls });
        assert_eq!(place("redis://localhost"), tcp("localhost", 6379, false));
        assert_eq!(place("redis://u:p%40@localhost:7/3"), tcp("localhost", 7, false));
        assert_eq!(place("rediss://[::1]:7"), tcp("::1", 7, true));
        assert_eq!(place("redis://[::1]"), tcp("::1", 6379, false));
        assert_eq!(place("unix:/run/redis.sock"), Ok(Place::Unix("/run/redis.sock".into())));
        assert_eq!(place("unix:///run/redis.sock"), Ok(Place::Unix("/run/redis.sock".into())));
        let sentinels = |tls| {
            let sentinels = vec![("a".into(), 26_379), ("b".into(), 7)];
            Ok(Place::Sentinels { sentinels, name: "main".into(), tls })
        };
        assert_eq!(place("redis+sentinel://a,b:7/main/2"), sentinels(false));
        assert_eq!(place("rediss+sentinel://u:p@a,b:7/main"), sentinels(true));
    }

    #[test]
    fn what_is_no_address_says_what_was_wanted() {
        assert_eq!(place("localhost:6379"), Err(AddressError::Scheme));
        assert_eq!(place("http://localhost"), Err(AddressError::Scheme));
        assert_eq!(place("redis://"), Err(AddressError::Host));
        assert_eq!(place("redis://::1"), Err(AddressError::Host));
        assert_eq!(place("redis://a:0"), Err(AddressError::Port));
        assert_eq!(place("redis://a:x"), Err(AddressError::Port));
        assert_eq!(place("redis://a/x"), Err(AddressError::Path));
        assert_eq!(place("redis+sentinel://a,b"), Err(AddressError::Path));
        assert_eq!(place("rediss://a/#insecure"), Err(AddressError::Rest));
        assert_eq!(place("redis://%ff@a"), Err(AddressError::Encoding));
        assert_eq!(place("unix:run/redis.sock"), Err(AddressError::Path));
    }

    #[test]
    fn a_password_is_not_printed() {
        let address = Address::parse("redis://user:secret@localhost").expect("an address");
        assert!(!format!("{address:?}").contains("secret"));
        assert_eq!(address.password.as_deref(), Some("secret"));
    }
}
