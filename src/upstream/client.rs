//! The HTTP client for all requests to other servers.
//!
//! Guarantees: no redirect is followed (it could send credentials to another server), no proxy is taken from the
//! environment, answers are bounded in bytes and in time, and no error repeats a URL, a header or a body.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Request, StatusCode};

use crate::config::read_file;
use crate::upstream::stats::Outcome;

/// How long an unused connection is kept. Shorter than the five seconds after which Node's server closes its own;
/// otherwise questions would use connections that were just closed.
const KEPT_IDLE: Duration = Duration::from_secs(4);

/// Headers an answer may have.
const ANSWER_HEADERS_MAX: usize = 64;

/// Why the client cannot be built.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The file with certificates cannot be read.
    File(PathBuf, io::Error),
    /// It has no certificate in PEM, or an invalid one.
    Certificates(PathBuf),
    /// TLS cannot be set up.
    Tls(reqwest::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => write!(f, "upstream_ca_file: {} cannot be read", path.display()),
            Self::Certificates(path) => {
                write!(f, "upstream_ca_file: wanted certificates in PEM in {}", path.display())
            }
            Self::Tls(_) => f.write_str("TLS to other servers cannot be set up"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File(_, err) => Some(err),
            Self::Tls(err) => Some(err),
            Self::Certificates(_) => None,
        }
    }
}

/// An answer.
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is no valid answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    /// The cause for the operator, in at most [`CAUSE_CHARS_MAX`] characters.
    pub(super) cause: String,
}

impl Failed {
    pub(super) fn new(outcome: Outcome, cause: impl Into<String>) -> Self {
        Self { outcome, cause: cause.into() }
    }

    /// The other server answered with a status that counts as a failure.
    pub(super) fn by_status(status: StatusCode) -> Self {
        Self::new(Outcome::Status, format!("status {}", status.as_u16()))
    }
}

/// Characters of a cause that are kept. An error about a certificate may list many names.
const CAUSE_CHARS_MAX: usize = 200;

/// A client and its connections.
#[derive(Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    /// Builds a client that trusts the system's certificates, and those in `ca_file`. Keeps up to `idle_max` unused
    /// connections to each server. Reads files; opens no connection.
    pub(super) fn new(ca_file: Option<&Path>, idle_max: usize) -> Result<Self, ClientError> {
        let own = ca_file.map_or(Ok(Vec::new()), certificates)?;
        let build = |certificates: Certificates| {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .referer(false)
                .no_proxy()
                .http1_only()
                .http1_max_headers(ANSWER_HEADERS_MAX)
                .pool_idle_timeout(KEPT_IDLE)
                .pool_max_idle_per_host(idle_max);
            let builder = match certificates {
                Certificates::Systems => builder.tls_certs_merge(own.clone()),
                Certificates::OwnOnly => builder.tls_certs_only(own.clone()),
            };
            builder.build().map(Self).map_err(ClientError::Tls)
        };
        build(Certificates::Systems).or_else(|_| {
            // A bare container has none, and needs none for http.
            tracing::info!("the system has no CA certificates: only those of upstream_ca_file are trusted");
            build(Certificates::OwnOnly)
        })
    }

    /// For building requests.
    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0
    }

    /// Sends `request` and reads the answer, of at most `bytes_max` bytes, within `time`.
    ///
    /// # Errors
    ///
    /// If there is no valid answer in time.
    pub(super) async fn ask(
        &self,
        request: Request,
        bytes_max: usize,
        time: Duration,
    ) -> Result<Fetched, Failed> {
        self.ask_within(request, bytes_max, time, |_| true).await
    }

    /// The same with an answer that is large. Before its bytes are kept, `hold` is told how many they will be in all; if
    /// it says no, the answer counts for nothing ([`Outcome::Busy`]).
    ///
    /// If the connection breaks before the answer, for example because the server closes it at that moment, the request
    /// is sent once more: all requests here are safe to repeat.
    pub(super) async fn ask_within(
        &self,
        request: Request,
        bytes_max: usize,
        time: Duration,
        mut hold: impl FnMut(usize) -> bool,
    ) -> Result<Fetched, Failed> {
        let again = request.try_clone();
        let asked = async {
            match (self.0.execute(request).await, again) {
                (Err(err), Some(again)) if err.is_request() && !err.is_connect() => {
                    read(self.0.execute(again).await, bytes_max, &mut hold).await
                }
                (result, _) => read(result, bytes_max, &mut hold).await,
            }
        };
        let in_time = tokio::time::timeout(time, asked).await;
        in_time.unwrap_or_else(|_| Err(Failed::new(Outcome::Timeout, format!("nothing within {time:?}"))))
    }
}

/// Which certificates are trusted.
#[derive(Clone, Copy)]
enum Certificates {
    Systems,
    OwnOnly,
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ClientError> {
    let pem = read_file(path).map_err(|err| ClientError::File(path.to_owned(), err))?;
    let found = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if found.is_empty() { Err(ClientError::Certificates(path.to_owned())) } else { Ok(found) }
}

async fn read(
    result: reqwest::Result<reqwest::Response>,
    bytes_max: usize,
    hold: &mut impl FnMut(usize) -> bool,
) -> Result<Fetched, Failed> {
    let mut response = result.map_err(failed)?;
    let status = response.status();
    let mut body: Vec<u8> = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        let wanted = body.len() + chunk.len();
        if wanted > bytes_max {
            return Err(Failed::new(Outcome::Malformed, format!("it has more than {bytes_max} bytes")));
        }
        if wanted > body.capacity() {
            let capacity = wanted.max(2 * body.capacity()).min(bytes_max);
            if !hold(capacity) {
                return Err(Failed::new(Outcome::Busy, "there is no room for the answer"));
            }
            body.reserve_exact(capacity - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Fetched { status, body: body.into() })
}

/// Sorts errors: invalid HTTP is a malformed answer; all others mean that the server is unreachable. The innermost
/// error has the cause: outer ones say only what was tried, and the outermost has the whole URL.
fn failed(err: reqwest::Error) -> Failed {
    let err = err.without_url();
    let mut innermost: &(dyn std::error::Error + 'static) = &err;
    let mut outcome = Outcome::Unreachable;
    loop {
        if innermost.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            outcome = Outcome::Malformed;
        }
        let Some(source) = innermost.source() else { break };
        innermost = source;
    }
    Failed::new(outcome, innermost.to_string().chars().take(CAUSE_CHARS_MAX).collect::<String>())
}
