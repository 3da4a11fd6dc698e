//! Why a server does not start.

use std::fmt;
use std::io;

use crate::config::ListenAddr;
use crate::net::holder::Holder;
use crate::policy::PolicyError;
use crate::store::disk;
use crate::upstream::client::ClientError;
use crate::upstream::redis::AddressError;

/// Why the server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The server cannot listen on an address.
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address as it was given.
        address: ListenAddr,
        /// The process that holds the address, if it is in use and a server answers there.
        holder: Option<Holder>,
        /// The system's reason.
        reason: io::Error,
    },
    /// A socket from the service manager is not usable.
    Inherited(io::Error),
    /// A socket from the service manager can be reached by other machines, and no authentication is set up.
    Exposed(ListenAddr),
    /// The client for other servers cannot be made.
    Upstream(ClientError),
    /// A file or value that the settings name is wrong.
    Policy(PolicyError),
    /// The order on disk cannot be used.
    Disk(disk::OpenError),
    /// The URL of Redis cannot be used.
    Redis(AddressError),
    /// The order in Redis cannot be read, or was lost while it was read.
    Lost,
    /// The operating system refused something else.
    Os(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { setting, address, holder, .. } => {
                let or_off = if *setting == ADMIN_LISTEN { "off or " } else { "" };
                let address = address.to_string();
                write!(f, "{setting}={address:?}: wanted {or_off}an address that can be listened on")?;
                holder.map_or(Ok(()), |holder| write!(f, "; {holder}"))
            }
            Self::Inherited(_) => f.write_str("cannot listen on a socket of the service manager"),
            Self::Exposed(address) => write!(
                f,
                "ListenStream={address}: wanted a loopback address or a Unix socket while no authentication is set up, \
                 or insecure=true"
            ),
            Self::Upstream(err) => err.fmt(f),
            Self::Policy(err) => err.fmt(f),
            Self::Disk(err) => err.fmt(f),
            Self::Redis(err) => write!(f, "order: {err}"),
            Self::Lost => f.write_str("the order in Redis could not be read to its end"),
            Self::Os(_) => f.write_str("the operating system refused"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream(err) => err.source(),
            Self::Policy(err) => err.source(),
            Self::Disk(err) => err.source(),
            Self::Exposed(_) | Self::Redis(_) | Self::Lost => None,
            Self::Listen { reason: err, .. } | Self::Inherited(err) | Self::Os(err) => Some(err),
        }
    }
}

impl StartError {
    /// Whether the settings, or a file that they name, are wrong: then a restart does not help.
    #[must_use]
    pub fn is_of_settings(&self) -> bool {
        matches!(self, Self::Exposed(_) | Self::Upstream(_) | Self::Policy(_) | Self::Redis(_))
    }
}

impl From<ClientError> for StartError {
    fn from(err: ClientError) -> Self {
        Self::Upstream(err)
    }
}

impl From<io::Error> for StartError {
    fn from(err: io::Error) -> Self {
        Self::Os(err)
    }
}

/// The setting that names the admin listener.
pub(super) const ADMIN_LISTEN: &str = "admin_listen";
