//! Which server is measured.

use std::io;
use std::path::PathBuf;

use super::credentials::Credentials;
use super::peer::Peer;
use super::scenario::Scenario;

/// What to start, or where to find it.
#[derive(Clone, Debug)]
pub enum Source {
    /// A `tidegate` binary and further arguments for it.
    Server {
        /// The binary.
        path: PathBuf,
        /// Passed through.
        args: Vec<String>,
    },
    /// A sibling of this executable.
    Peer(Peer),
    /// Runs already.
    Running {
        /// `http://host:port/base`
        url: String,
        /// Its process, if it is one of this machine: CPU and memory are read there.
        pid: Option<u32>,
        /// Where its metrics are, `host:port`: CPU and memory are read there if there is no process.
        admin: Option<String>,
        /// The credentials of subscribers and publisher, if it requires any.
        credentials: Option<Credentials>,
    },
}

impl Source {
    /// A short name for tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Server { .. } => "tidegate",
            Self::Peer(peer) => peer.name(),
            Self::Running { .. } => "running",
        }
    }

    /// Whether `scenario` means anything for it.
    #[must_use]
    pub fn supports(&self, scenario: Scenario) -> bool {
        match self {
            Self::Peer(peer) => peer.supports(scenario),
            Self::Server { .. } => true,
            // A server that was not started here is not ended here, and has its own rules about who is there.
            Self::Running { .. } => {
                !matches!(scenario, Scenario::Drain | Scenario::Presence | Scenario::Kill)
            }
        }
    }

    /// Whether a subscriber that comes back gets what it missed.
    #[must_use]
    pub fn can_resume(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }

    /// Whether it can be started with a token key.
    #[must_use]
    pub fn can_ask_for_tokens(&self) -> bool {
        matches!(self, Self::Server { .. })
    }

    /// Whether it can compress.
    #[must_use]
    pub fn can_gzip(&self) -> bool {
        !matches!(self, Self::Peer(_))
    }
}

/// `name` beside this executable.
///
/// # Errors
///
/// The path of this executable is unknown.
pub fn sibling(name: &str) -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(name))
}
